"""Third-party files, strengths, styles, controls and detectors: how a scene's words reach the engine."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from d2plan.adapter.file import load_adapter
from d2plan.documents import Scene, load_run, load_scene
from d2plan.errors import InputError
from d2plan.workflows.composing.compose import compose, run_requests
from d2plan.workflows.composing.reproduce import find_sources, reproduce
from d2plan.workflows.composing.requests import AdapterShelf, check_identifiers, open_request
from tests.isp.tiny_detectors import write_dino, write_sam
from tests.tiny import tiny_control
from tests.workflows.concept_files import SCENE, concepts, opened, write_request

__all__ = ["concepts", "opened"]
JOHN, REX = SCENE["instances"]
FREE = {"concept": "free.safetensors", "class_word": "man", "position": "left"}


def _read(concepts: Path, base: Path, **changes: object) -> Scene:
    return load_scene(write_request(concepts, base, SCENE, **changes))


def _picture(scene: Scene, opened) -> np.ndarray:
    run = run_requests(opened["backbone"], [open_request(scene, AdapterShelf())])
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value[0].latents.numpy()


def test_a_trigger_stands_for_the_identifier_that_a_file_does_not_state(concepts, tiny_folder, opened) -> None:
    free = {**FREE, "sub_prompt": "a photo of a tall man wearing sunglasses", "trigger": "tall man"}
    request = open_request(_read(concepts, tiny_folder, instances=[free, REX]), AdapterShelf())
    check_identifiers(request, opened["backbone"])
    assert [adapter.identifier for adapter in request.adapters] == ["tall man", "<v2>"]
    assert request.named == (False, True)
    assert request.adapters[0].deltas.keys() == load_adapter(concepts / "free.safetensors").deltas.keys()


def test_a_run_with_a_third_party_file_records_its_trigger_and_is_made_again(
    concepts: Path, tiny_folder: Path, tmp_path: Path, opened
) -> None:
    free = {**FREE, "sub_prompt": "a photo of a tall man", "trigger": "tall man"}
    run = compose(write_request(concepts, tiny_folder, SCENE, instances=[free, REX]), tmp_path / "run", **opened)
    record = load_run(run / "run.json")
    assert (record.adapters[0].identifier, record.adapters[0].class_word) == ("tall man", "man")
    assert not any("states no identifier" in note for note in record.masks.notes)
    assert reproduce(run, tmp_path / "again", **opened).same_bytes


def test_two_third_party_files_may_share_a_trigger(concepts: Path, tiny_folder: Path, opened) -> None:
    instances = [
        {**FREE, "sub_prompt": "a photo of a tall man", "trigger": "tall"},
        {
            **FREE,
            "concept": "paint.safetensors",
            "sub_prompt": "a tall man running",
            "trigger": "tall",
            "position": "right",
        },
    ]
    scene = _read(concepts, tiny_folder, instances=instances, global_prompt="a photo of a man and a man")
    check_identifiers(open_request(scene, AdapterShelf()), opened["backbone"])


WRONG = {
    "a trigger beside an identifier": (
        [{**JOHN, "trigger": "a"}, REX],
        r'instances\[0\]\.trigger is "a", but .*john\.safetensors states its identifier <v1>; take the trigger away',
    ),
    "a trigger that is not there": (
        [{**FREE, "sub_prompt": "a man", "trigger": "tall"}, REX],
        'does not hold the trigger "tall"',
    ),
    "no class word": (
        [{"concept": "free.safetensors", "sub_prompt": "a man"}, REX],
        r"instances\[0\]\.class_word is missing",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_trigger_is_told(case: str, concepts: Path, tiny_folder: Path, tmp_path: Path, opened) -> None:
    instances, sentence = WRONG[case]
    with pytest.raises(InputError, match=sentence):
        compose(write_request(concepts, tiny_folder, SCENE, instances=instances), tmp_path / "run", **opened)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("field", ["global_prompt", "negative_prompt"])
@pytest.mark.parametrize("identifier", ["<v2>", "<v9>"])
def test_an_identifier_outside_of_the_sub_prompts_is_told(field, identifier, concepts, tiny_folder, opened) -> None:
    scene = _read(concepts, tiny_folder, **{field: f"a photo of a man and a {identifier} dog on the beach"})
    with pytest.raises(InputError, match=f"{field} holds the identifier {identifier}, which only an adapter knows"):
        check_identifiers(open_request(scene, AdapterShelf()), opened["backbone"])


def test_strength_style_and_negative_prompt_change_the_picture(concepts: Path, tiny_folder: Path, opened) -> None:
    plain = _picture(_read(concepts, tiny_folder), opened)
    changes = (
        {"instances": [{**JOHN, "strength": 0.5}, REX]},
        {"style": [{"adapter": "paint.safetensors", "strength": 0.5}]},
        {"negative_prompt": "rain"},
    )
    others = [_picture(_read(concepts, tiny_folder, **change), opened) for change in changes]
    assert all(np.abs(other - plain).max() > 1e-3 for other in others)
    same = {"instances": [{**JOHN, "strength": 1.0}, REX], "style": [{"adapter": "paint.safetensors", "strength": 0.0}]}
    assert np.abs(_picture(_read(concepts, tiny_folder, **same), opened) - plain).max() < 1e-5


def test_a_strength_of_nothing_is_the_bare_base(concepts: Path, tiny_folder: Path, opened) -> None:
    silent = [{**JOHN, "strength": 0.0}, {**REX, "strength": 0.0}]
    other = [{**silent[0], "concept": "free.safetensors", "class_word": "man", "trigger": "<v1>"}, silent[1]]
    one, two = (_picture(_read(concepts, tiny_folder, instances=items), opened) for items in (silent, other))
    assert np.abs(one - two).max() < 1e-6


def test_a_control_is_opened_recorded_and_found_again(concepts, tiny_folder, tmp_path, opened) -> None:
    with torch.no_grad():
        tiny_control(opened["backbone"], 1).save_pretrained(concepts / "skeleton")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(concepts / "pose.png")
    control = {"model": "skeleton", "image": "pose.png", "strength": 0.8, "end": 0.7, "rows": "all"}
    run = compose(write_request(concepts, tiny_folder, SCENE, controls=[control]), tmp_path / "run", **opened)
    record = load_run(run / "run.json")
    assert {file.field: Path(file.path).name for file in record.files} == {
        "controls[0].model": "skeleton",
        "controls[0].image": "pose.png",
    }
    assert all(len(file.sha256) == 64 for file in record.files)
    assert reproduce(run, tmp_path / "again", **opened).same_bytes
    Image.new("RGB", (64, 64)).save(concepts / "pose.png")
    (missing,) = find_sources(run).missing
    assert missing.startswith("controls[0].image (pose.png) has another content")


def test_a_detector_is_opened_by_its_name(concepts, tiny_folder, tmp_path, monkeypatch, opened) -> None:
    (tmp_path / "eyes.py").write_text(
        "import numpy as np\n"
        "from d2plan.isp.segment import Detection\n"
        "class Halves:\n"
        "    d2plan_detector = True\n"
        "    def __init__(self, device): pass\n"
        "    def detect(self, image, class_words):\n"
        "        left = np.zeros(image.shape[:2], np.float32)\n"
        "        left[:, : image.shape[1] // 2] = 1\n"
        "        return [Detection('man', 0.9, left), Detection('dog', 0.8, 1 - left)]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    scene = write_request(concepts, tiny_folder, SCENE, masks="detect", detector="eyes:Halves")
    record = load_run(compose(scene, tmp_path / "run", **opened) / "run.json")
    assert record.masks.route == "detect" and record.masks.areas == pytest.approx((0.5, 0.5), abs=0.1)
    assert record.scene.detector == "eyes:Halves" and record.files == ()
    assert find_sources(tmp_path / "run").by_name == ("detector (eyes:Halves)",)
    assert reproduce(tmp_path / "run", tmp_path / "again", **opened).same_bytes


@pytest.mark.parametrize("names", ["eyes", "eyes/grounding-dino,eyes/sam", "./eyes/grounding-dino, ./eyes/sam"])
def test_a_picture_with_masks_of_a_detectors_folders_is_made_again_wherever_they_lie(
    names, concepts, tiny_folder, tmp_path, opened
) -> None:
    work = Path(shutil.copytree(concepts, tmp_path / "work"))
    write_dino(work / "eyes" / "grounding-dino")
    write_sam(work / "eyes" / "sam")
    scene = write_request(work, tiny_folder, SCENE, masks="detect", detector=names)
    run = compose(scene, tmp_path / "run", **opened)
    fields = [file.field for file in load_run(run / "run.json").files if file.sha256]
    assert fields == (["detector[0]", "detector[1]"] if "," in names else ["detector"])
    assert reproduce(run, tmp_path / "again", **opened).same_bytes
    sent = Path(shutil.copy(run / "image.png", tmp_path / "sent.png"))
    shutil.rmtree(run)
    moved = tmp_path / "elsewhere" / "shelf"
    shutil.move(work, moved)
    (moved / "eyes").rename(moved / "other-eyes")
    places = {"base": str(tiny_folder), "search": [moved]}
    assert not find_sources(sent, **places).by_name
    assert reproduce(sent, tmp_path / "yet-again", **places, **opened).same_bytes
    shutil.rmtree(moved / "other-eyes")
    assert len(find_sources(sent, **places).missing) == len(fields)


def test_a_detector_that_finds_nobody_is_told_in_the_record(concepts, tiny_folder, tmp_path, monkeypatch, opened):
    (tmp_path / "closed.py").write_text(
        "class Eyes:\n"
        "    d2plan_detector = True\n"
        "    def __init__(self, device): pass\n"
        "    def detect(self, image, class_words): return []\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    scene = write_request(concepts, tiny_folder, SCENE, masks="detect", detector="closed:Eyes")
    notes = load_run(compose(scene, tmp_path / "run", **opened) / "run.json").masks.notes
    # Whether attention finds a random base's man is chance; that the detector found nobody is not.
    said = [
        any(f"instances[{index}]" in note and re.search("not find|nothing", note) for note in notes) for index in (0, 1)
    ]
    assert all(said), notes


def test_a_mask_that_is_not_there_is_told(concepts: Path, tiny_folder: Path, tmp_path: Path, opened) -> None:
    scene = write_request(concepts, tiny_folder, SCENE, instances=[{**JOHN, "mask": "none.png"}, REX])
    with pytest.raises((InputError, OSError), match=r"none\.png"):
        compose(scene, tmp_path / "run", **opened)
    assert not (tmp_path / "run").exists()
