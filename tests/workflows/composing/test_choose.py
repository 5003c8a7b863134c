"""Several candidates in, the one that is most like its concepts kept."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2plan.documents import load_run
from d2plan.errors import D2PlanError, InputError
from d2plan.eval.likeness import JudgeEncoder
from d2plan.workflows.composing.choose import ChoiceRequest, compose_best, open_encoder
from d2plan.workflows.composing.compose import compose
from d2plan.workflows.composing.reproduce import reproduce
from d2plan.workflows.scoring.score import score_runs
from d2plan.workflows.scoring.sources import ScoreRequest, find_sources
from tests.workflows.colours import ColourEncoder
from tests.workflows.concept_files import SCENE, concepts, opened, write_request

__all__ = ["concepts", "opened"]
OURS = "tests.workflows.colours:open_colours"
BOXES = ([0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A man of red and a dog of blue."""
    folder = tmp_path_factory.mktemp("references")
    found = {}
    for name, colour in (("john", (250, 20, 20)), ("rex", (20, 20, 250))):
        (folder / name).mkdir()
        Image.new("RGB", (64, 64), colour).save(folder / name / "0.png")
        found[name] = folder / name
    return found


def _scene(concepts: Path, base: Path, **changes: object) -> Path:
    instances = [{**one, "box": box} for one, box in zip(SCENE["instances"], BOXES, strict=True)]
    return write_request(concepts, base, SCENE, **{"instances": instances, **changes})


@pytest.fixture(scope="module")
def chosen(concepts: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, references, opened):
    """The best of three, and its numbers."""
    scene = _scene(concepts, tiny_folder)
    return compose_best(scene, tmp_path_factory.mktemp("best") / "run", ChoiceRequest(3, references, OURS), **opened)


def test_the_kept_picture_is_the_one_whose_least_alike_instance_is_most_alike(chosen, references) -> None:
    folder, report = chosen
    red, blue = (np.array(colour, np.float32) - 127.5 for colour in ((250, 20, 20), (20, 20, 250)))
    for one in report.candidates:
        image = np.asarray(Image.open(folder / "candidates" / f"{one.seed}.png")).astype(np.float32)
        halves = image[:, :32].mean(axis=(0, 1)) - 127.5, image[:, 32:].mean(axis=(0, 1)) - 127.5
        wanted = [
            float(half @ colour / np.linalg.norm(half) / np.linalg.norm(colour))
            for half, colour in zip(halves, (red, blue), strict=True)
        ]
        assert one.likeness == pytest.approx(wanted, abs=1e-3)
        assert one.least == min(one.likeness)
    (kept,) = [one for one in report.candidates if one.chosen]
    assert kept.least == max(one.least for one in report.candidates)
    assert load_run(folder / "run.json").seed == kept.seed


def test_the_run_folder_shows_all_candidates(chosen) -> None:
    folder, report = chosen
    assert [one.seed for one in report.candidates] == [7, 8, 9]
    assert sorted(path.name for path in (folder / "candidates").iterdir()) == ["7.png", "8.png", "9.png"]
    told = json.loads((folder / "candidates.json").read_text())
    assert told["encoder"] == "colours" and len(told["candidates"]) == 3 and "does not score" in told["note"]
    with Image.open(folder / "candidates.png") as sheet:
        assert sheet.size[0] == 8 + 3 * 264
    kept = next(one for one in report.candidates if one.chosen)
    assert (folder / "image.png").read_bytes() == (folder / f"candidates/{kept.seed}.png").read_bytes()


def test_the_record_says_what_chose_and_that_it_must_not_score(chosen) -> None:
    folder, report = chosen
    choice = load_run(folder / "run.json").choice
    assert choice is not None
    assert (choice.candidates, choice.encoder, choice.seeds) == (3, "colours", (7, 8, 9))
    assert choice.likeness == tuple(one.least for one in report.candidates)
    assert "do not score" in choice.note


@pytest.mark.parametrize("copied", ["image.png", "candidates/{kept}.png"])
def test_a_picture_taken_out_of_its_run_still_says_what_chose_it(chosen, tmp_path: Path, copied: str) -> None:
    folder, report = chosen
    kept = next(one.seed for one in report.candidates if one.chosen)
    (tmp_path / "own").mkdir()
    copy = Path(shutil.copy(folder / copied.format(kept=kept), tmp_path / "own" / "nice.png"))
    Image.new("RGB", (64, 64)).save(tmp_path / "own" / "other.png")
    sources = find_sources(ScoreRequest((tmp_path / "own",), prompts="a photo of a man and a dog"))
    assert sources.chosen_by == {"colours": str(copy)}


def test_candidates_are_made_again_byte_for_byte(chosen, concepts, tiny_folder, tmp_path, opened) -> None:
    folder, report = chosen
    assert reproduce(folder, tmp_path / "kept", **opened).same_bytes
    other = next(one.seed for one in report.candidates if not one.chosen)
    path, base = folder / "candidates" / f"{other}.png", str(tiny_folder)
    assert reproduce(path, tmp_path / "other", base=base, search=[concepts], **opened).same_bytes


def test_a_plain_run_in_its_place_leaves_no_candidates(concepts, tiny_folder, tmp_path, references, opened) -> None:
    scene, out = _scene(concepts, tiny_folder), tmp_path / "run"
    compose_best(scene, out, ChoiceRequest(2, references, OURS), **opened)
    compose(scene, out, overwrite=True, **opened)
    assert sorted(path.name for path in out.iterdir()) == ["image.png", "masks", "masks.png", "run.json"]


def test_the_judge_refuses_to_score_what_it_chose(chosen, tmp_path: Path) -> None:
    folder, _ = chosen
    record = load_run(folder / "run.json")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "image.png").write_bytes((folder / "image.png").read_bytes())
    by_judge = record.model_copy(update={"choice": record.choice.model_copy(update={"encoder": "judge"})})
    (tmp_path / "run" / "run.json").write_text(by_judge.model_dump_json())
    with pytest.raises(InputError, match="the judge chose this picture among 3, so it may not score it"):
        score_runs([tmp_path])


def test_nothing_is_kept_when_no_candidate_can_be_made(concepts, tiny_folder, tmp_path, references, opened) -> None:
    one, two = SCENE["instances"]
    Image.new("L", (64, 64), 0).save(tmp_path / "empty.png")
    instances = [{**one, "box": BOXES[0]}, {**two, "mask": str(tmp_path / "empty.png")}]
    scene = _scene(concepts, tiny_folder, instances=instances, missing="error")
    with pytest.raises(InputError, match=r"instances\[1\]"):
        compose_best(scene, tmp_path / "run", ChoiceRequest(2, references, OURS), **opened)
    assert not (tmp_path / "run").exists()


WRONG = {
    "one alone": ({}, ChoiceRequest(1, {}, OURS), r"candidates is 1, but must be 2\.\.64"),
    "nobody there": ({"instances": []}, ChoiceRequest(2, {}, OURS), "instances is empty"),
    "no pictures": ({}, ChoiceRequest(2, {}, OURS), r"john\.safetensors has no pictures .* --references john=FOLDER"),
    "nobody's": (
        {},
        ChoiceRequest(2, {"john": Path("."), "rex": Path("."), "rexx": Path(".")}, OURS),
        '"rexx" is no concept here; name one of .*rex',
    ),
    "no room": ({"seed": 2**63 - 1}, ChoiceRequest(2, {}, OURS), "leaves no room"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_chosen_is_told_first(case, concepts, tiny_folder, tmp_path) -> None:
    changes, choice, sentence = WRONG[case]
    with pytest.raises(InputError, match=sentence):
        compose_best(_scene(concepts, tiny_folder, **changes), tmp_path / "run", choice)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "base", "sentence"),
    [
        (None, "stabilityai/sdxl", r"knows the small world of .mini. alone"),
        ("face", "mini", r'"face" is none; write judge, clip:FOLDER'),
        ("clip:", "mini", "is none"),
        ("clip:/nowhere", "mini", "cannot be opened as a CLIP image encoder"),
        ("no.such.package:open", "mini", "cannot be imported"),
        ("tests.workflows.colours:gone", "mini", "cannot be imported"),
        ("tests.workflows.colours:open_nothing", "mini", "gave a object without a name"),
    ],
)
def test_an_encoder_that_is_none_is_told(name, base, sentence) -> None:
    with pytest.raises(D2PlanError, match=sentence):
        open_encoder(name, base)


def test_the_judge_compares_on_the_embedded_base() -> None:
    assert isinstance(open_encoder(None, "mini"), JudgeEncoder)
    assert isinstance(open_encoder(OURS, "mini"), ColourEncoder)
