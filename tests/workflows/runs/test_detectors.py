"""Detectors by name: the judge's, Grounding DINO with SAM, and a user's own, none of them by accident."""

import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

from d2plan.errors import FileError, InputError
from d2plan.isp.grounded import GroundedSam
from d2plan.isp.masks import Region, find_masks
from d2plan.isp.segment import detect_regions
from d2plan.workflows.runs.detectors import JudgeDetector, open_detector
from d2plan.world.cast import sample_identity
from d2plan.world.scene import sample_scene
from d2plan.world.truth import Truth, render
from tests.isp.tiny_detectors import write_dino, write_sam

IMAGE = np.zeros((64, 96, 3), dtype=np.uint8)

PLUGIN = """
import numpy as np
from d2plan.isp.segment import Detection

class LeftHalf:
    def __init__(self, device):
        self.device = device

    def detect(self, image, class_words):
        mask = np.zeros(image.shape[:2], dtype=np.float32)
        mask[:, : image.shape[1] // 2] = 1
        return [Detection(class_words[0], 0.9, mask, "my own eyes")]

LeftHalf.d2plan_detector = True

def unmarked(device):
    raise SystemExit("this must never run")

def blind(device):
    return object()

blind.d2plan_detector = True
number = 7
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").touch()
    (tmp_path / "own_package" / "eyes.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_package.eyes"


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("networks")
    write_dino(root / "grounding-dino")
    write_sam(root / "sam")
    return root


@pytest.fixture(scope="module")
def scenes() -> list[tuple[list[str], Truth]]:
    """Pictures of the small world, each with its class words in the order of its masks."""
    rng = np.random.default_rng(5)
    found = []
    for pair in [["man", "dog"], ["robot", "robot"], ["cat", "teapot"]] * 2:
        scene = sample_scene(rng, [sample_identity(word, rng) for word in pair])
        found.append(([figure.identity.class_word for figure in scene.figures], render(scene, 128)))
    return found


def test_the_judges_segmenter_finds_who_stands_where(scenes: list[tuple[list[str], Truth]]) -> None:
    detector, hits = JudgeDetector(), []
    for words, truth in scenes:
        found = detect_regions(detector, truth.image, [Region(word) for word in words])
        for word, mask in zip(words, truth.masks, strict=True):
            overlaps = [
                ((item.mask > 0.5) & (mask > 0.5)).sum() / ((item.mask > 0.5) | (mask > 0.5)).sum()
                for item in found
                if item.class_word == word
            ]
            hits.append(max(overlaps, default=0) > 0.5)
    assert np.mean(hits) >= 0.5


def test_masks_by_the_judge_say_that_its_numbers_are_not_independent(scenes: list[tuple[list[str], Truth]]) -> None:
    words, truth = scenes[0]
    regions = [Region(word) for word in words]
    found = detect_regions(JudgeDetector(), truth.image, regions)
    result = find_masks(None, regions, (32, 32), detections=found, missing="mark")
    assert "detect" in result.routes
    assert any("the judge's numbers for this picture are not independent" in note for note in result.notes)


def test_the_judge_finds_only_what_was_asked_for_at_any_size(scenes: list[tuple[list[str], Truth]]) -> None:
    large = scenes[0][1].image.repeat(2, axis=0).repeat(2, axis=1)[:, 16:]
    found = JudgeDetector().detect(large, ["DOG", "unicorn"])
    assert found and {item.class_word for item in found} == {"DOG"}
    assert all(item.mask.shape == (256, 240) and 0 < item.mask.mean() < 0.7 for item in found)
    assert JudgeDetector().detect(large, ["unicorn"]) == []


def test_the_embedded_base_has_the_judge_and_it_has_a_name() -> None:
    assert isinstance(open_detector(None, "mini"), JudgeDetector)
    assert isinstance(open_detector("judge", "some/sdxl"), JudgeDetector)


def test_another_base_needs_networks_that_are_on_the_machine_and_says_how_to_get_them(monkeypatch) -> None:
    def reach_out(*arguments: object) -> None:
        raise AssertionError("reached for the network")

    # Asking the hub takes many seconds where there is no network.
    monkeypatch.setattr(socket, "getaddrinfo", reach_out)
    with pytest.raises(FileError, match="not on this machine") as caught:
        open_detector(None, "some/sdxl")
    told = str(caught.value)
    for name in ("IDEA-Research/grounding-dino-tiny", "facebook/sam-vit-base"):
        assert f"({name})" in told and f"`hf download {name}`" in told
    assert "detector: DINO_FOLDER,SAM_FOLDER" in told and "\n" not in told


def test_a_folder_or_two_names_give_grounding_dino_and_sam(networks: Path) -> None:
    assert isinstance(open_detector(str(networks)), GroundedSam)
    detector = open_detector(f"{networks / 'grounding-dino'}, {networks / 'sam'}")
    assert isinstance(detector, GroundedSam)
    detect_regions(detector, IMAGE, [Region("man"), Region("dog")])


def test_a_folder_that_lacks_one_is_named(networks: Path, tmp_path: Path) -> None:
    shutil.copytree(networks / "grounding-dino", tmp_path / "half" / "grounding-dino")
    with pytest.raises(FileError, match=r"SAM \(.*half/sam\) is not on this machine"):
        open_detector(str(tmp_path / "half"))


def test_a_users_own_detector_is_called_by_its_path(plugin: str) -> None:
    detector = open_detector(f"{plugin}:LeftHalf", "mini", "cpu")
    regions = [Region("dragon")]
    result = find_masks(None, regions, (8, 8), detections=detect_regions(detector, IMAGE, regions))
    assert result.routes == ("detect",) and result.partition.areas[0] == pytest.approx(0.5, abs=0.15)
    assert result.notes == ('The masks of the route "detect" come from my own eyes.',)


@pytest.mark.parametrize(
    ("attribute", "why"),
    [
        ("unmarked", "is not marked as a detector"),
        ("number", "holds nothing to call named number"),
        ("missing", "holds nothing to call named missing"),
        ("blind", "gave a object, which has no detect"),
    ],
)
def test_what_is_no_detector_is_refused_before_it_runs(plugin: str, attribute: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        open_detector(f"{plugin}:{attribute}")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("os:abort", "not marked as a detector"),
        ("no_such_package_at_all:factory", "cannot be imported"),
        ("nonsense", '"nonsense" is none'),
        ("a,b,c", "is none"),
    ],
)
def test_a_name_that_means_no_detector_is_refused(name: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        open_detector(name)


def test_a_folder_that_is_not_there_is_said_to_be_missing() -> None:
    with pytest.raises(FileError, match="no/such/folder is not there"):
        open_detector("./no/such/folder")
