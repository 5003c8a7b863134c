"""A series in, one run folder a variant out: what is shared, what stays, what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2plan.documents import load_run, load_series
from d2plan.errors import FileError, InputError
from d2plan.isp import prepare
from d2plan.workflows.composing.choose import _sow
from d2plan.workflows.composing.compose import compose, prepare_request
from d2plan.workflows.composing.reproduce import find_sources, reproduce
from d2plan.workflows.composing.requests import AdapterShelf, ExtrasShelf, open_request
from d2plan.workflows.composing.series import compose_series
from tests.workflows.concept_files import SERIES, concepts, opened, read_all, write_request

__all__ = ["concepts", "opened"]
RUN = ["image.png", "masks", "masks.png", "run.json"]


@pytest.fixture(scope="module")
def made(concepts: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, opened):
    """A series of three, its file, and what was told of it."""
    file = write_request(concepts, tiny_folder, SERIES)
    out = tmp_path_factory.mktemp("series") / "out"
    seen: list[tuple[str, int, int]] = []
    result = compose_series(file, out, on_progress=lambda *step: seen.append(step), **opened)
    return file, result, seen


def test_each_variant_gets_a_run_folder_beside_a_sheet(made, opened) -> None:
    _, result, seen = made
    assert sorted(path.name for path in result.folder.iterdir()) == ["max", "run", "series.json", "sheet.png", "sit"]
    for name in ("run", "sit", "max"):
        assert sorted(path.name for path in (result.folder / name).iterdir()) == RUN
    assert (result.made, result.kept, result.waiting) == (("run", "sit", "max"), (), ())
    with Image.open(result.sheet) as sheet:
        assert sheet.size == (8 + 3 * 264, 8 + 256 + 22 + 8)
    assert ("the shared beginning", 1, 1) in seen and ('composing "max", 3 of 3', 2, 2) in seen


def test_the_warm_up_is_computed_once(made, opened) -> None:
    _, result, _ = made
    warmup, steps, rows = 1, 3, 2 + 2
    assert result.unet_rows == 2 * warmup + 3 * rows * (steps - warmup)
    records = [load_run(result.folder / name / "run.json") for name in ("run", "sit", "max")]
    assert [record.unet_rows for record in records] == [rows * (steps - warmup)] * 3
    assert all(record.shared_start and record.masks.areas == records[0].masks.areas for record in records)


def test_a_series_is_of_one_number_format(made, tiny_folder: Path, tmp_path: Path) -> None:
    file, result, _ = made
    copy = Path(shutil.copytree(result.folder, tmp_path / "copy"))
    with pytest.raises(InputError, match=r"another request \(dtype was float32 and is bfloat16\).*--overwrite"):
        compose_series(file, copy, precision="bf16")
    again = compose_series(file, copy, overwrite=True, precision="bf16")
    assert again.kept == () and len(again.made) == 3


def test_a_variant_is_the_scene_composed_alone(made, concepts: Path, tmp_path: Path, opened) -> None:
    _, result, _ = made
    record = load_run(result.folder / "sit" / "run.json")
    assert record.scene.instances[1].sub_prompt == "a photo of a <v2> dog sitting"
    alone = compose(record.scene, tmp_path / "alone", **opened)
    pictures = [np.asarray(Image.open(folder / "image.png")) for folder in (result.folder / "sit", alone)]
    assert (pictures[0] == pictures[1]).all()
    assert load_run(result.folder / "max" / "run.json").scene.instances[1].concept == str(concepts / "max.safetensors")


@pytest.fixture(scope="module")
def woven(concepts: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, opened):
    """The same series, of which all rows read the whole scene, so that its variants share a picture."""
    return compose_series(
        write_request(concepts, tiny_folder, SERIES, weave="all"), tmp_path_factory.mktemp("woven") / "out", **opened
    )


def test_variants_whose_global_rows_differ_keep_the_series_own_picture(woven, concepts: Path) -> None:
    records = [load_run(woven.folder / name / "run.json") for name in ("run", "sit", "max")]
    assert all(record.shared_start and len(record.scene.variant_of) == 2 for record in records)
    assert [("running" in record.read[0], "sitting" in record.read[0]) for record in records[:2]] == [
        (True, False),
        (False, True),
    ]
    warmup, steps, rows = 1, 3, 2 + 2
    assert woven.unet_rows == 3 * (2 * warmup + rows * (steps - warmup))
    assert [record.unet_rows for record in records] == [0, 10, 10]
    assert records[2].kept[1].path == str(concepts / "rex.safetensors")
    # John is as he is in all of them.
    assert len({record.masks.areas[0] for record in records}) == 1


def test_what_variants_keep_is_encoded_once(
    concepts: Path, tiny_folder: Path, tmp_path: Path, opened, monkeypatch
) -> None:
    read = []
    encode = prepare.encode_prompts
    monkeypatch.setattr(prepare, "encode_prompts", lambda base, prompts: read.append(prompts) or encode(base, prompts))
    compose_series(write_request(concepts, tiny_folder, SERIES, weave="all"), tmp_path / "out", **opened)
    # Global prompt and sub-prompts: of the three variants, and of what they keep.
    assert len(read) == 2 * (3 + 1)


def test_a_variant_made_alone_is_the_one_of_the_series(woven, tmp_path: Path, opened) -> None:
    for name in ("run", "sit", "max"):
        alone = compose(load_run(woven.folder / name / "run.json").scene, tmp_path / name, **opened)
        pictures = [np.asarray(Image.open(folder / "image.png")) for folder in (woven.folder / name, alone)]
        assert (pictures[0] == pictures[1]).all()


@pytest.mark.parametrize("name", ["run", "sit", "max"])
def test_a_variant_is_reproduced_from_its_picture(
    woven, name: str, concepts: Path, tiny_folder: Path, tmp_path: Path, opened
) -> None:
    lone = tmp_path / "lone.png"
    lone.write_bytes((woven.folder / name / "image.png").read_bytes())
    assert str(concepts).encode() not in lone.read_bytes()
    result = reproduce(lone, tmp_path / "again", base=str(tiny_folder), search=[concepts], **opened)
    assert result.same_bytes and not result.differences


def test_a_picture_whose_kept_concept_is_missing_names_it(woven, concepts: Path, tmp_path: Path) -> None:
    lone = tmp_path / "lone.png"
    lone.write_bytes((woven.folder / "max" / "image.png").read_bytes())
    here = tmp_path / "some"
    here.mkdir()
    for name in ("john", "max"):
        (here / f"{name}.safetensors").write_bytes((concepts / f"{name}.safetensors").read_bytes())
    missing = find_sources(lone, search=[here]).missing
    assert any("variant_of[1].concept (rex.safetensors" in clause for clause in missing)


def test_a_finished_series_computes_nothing_and_changes_nothing(made, opened) -> None:
    file, result, _ = made
    before = read_all(result.folder)
    seen: list[str] = []
    again = compose_series(file, result.folder, on_progress=lambda what, *_: seen.append(what), **opened)
    assert (again.made, again.kept, again.unet_rows) == ((), ("run", "sit", "max"), 0)
    assert read_all(result.folder) == before
    assert not any("composing" in what for what in seen)


def test_remaking_one_variant_gives_the_same_and_leaves_the_others(
    made, tiny_folder: Path, concepts: Path, opened
) -> None:
    file, result, _ = made
    before = read_all(result.folder)
    again = compose_series(file, result.folder, only=["sit"], overwrite=True, **opened)
    after = read_all(result.folder)
    assert again.made == ("sit",)
    assert {name for name in before if before[name] != after[name]} == {"sit/run.json"}  # its timings
    assert before["sit/image.png"] == after["sit/image.png"]


def test_a_changed_variant_is_made_again_only_when_that_is_allowed(
    made, tiny_folder, concepts, tmp_path, opened
) -> None:
    changed = [SERIES["variants"][0], {"name": "sit", "sub_prompts": [None, "a photo of a <v2> dog jumping"]}]
    first = write_request(concepts, tiny_folder, SERIES, variants=SERIES["variants"][:2])
    out = compose_series(first, tmp_path / "out", **opened).folder
    before = read_all(out)
    file = write_request(concepts, tiny_folder, SERIES, variants=changed)
    with pytest.raises(InputError, match=r"sit was made .*sub_prompt was .*sitting and is .*jumping.* --overwrite"):
        compose_series(file, out, **opened)
    assert read_all(out) == before
    assert compose_series(file, out, overwrite=True, **opened).made == ("sit",)
    after = read_all(out)
    assert {name.split("/")[0] for name in before if before[name] != after[name]} == {"sit", "series.json", "sheet.png"}


def test_a_series_that_was_broken_off_goes_on(made, tmp_path: Path, opened) -> None:
    file, result, _ = made

    def stop(what: str, done: int, total: int) -> None:
        if what.startswith('composing "sit"'):
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        compose_series(file, out, on_progress=stop, **opened)
    assert sorted(path.name for path in out.iterdir()) == ["run", "series.json"]
    went_on = compose_series(file, out, **opened)
    assert (went_on.made, went_on.kept) == (("sit", "max"), ("run",))
    for name in ("run", "sit", "max"):
        assert (out / name / "image.png").read_bytes() == (result.folder / name / "image.png").read_bytes()


def test_one_variant_can_be_made_alone_first(made, tmp_path: Path, opened) -> None:
    file, result, _ = made
    part = compose_series(file, tmp_path / "out", only=["max"], **opened)
    assert (part.made, part.waiting) == (("max",), ("run", "sit"))
    assert (part.folder / "max/image.png").read_bytes() == (result.folder / "max/image.png").read_bytes()


def test_the_series_file_in_the_folder_makes_the_same_series(made, opened) -> None:
    _, result, _ = made
    again = compose_series(result.folder / "series.json", result.folder, **opened)
    assert again.kept == ("run", "sit", "max")
    content = json.loads((result.folder / "series.json").read_text())
    assert [variant["name"] for variant in content["variants"]] == ["run", "sit", "max"]
    assert load_series(result.folder / "series.json").seed == 7


WRONG = {
    "a file's name": ({"variants": [{"name": "Sheet.png"}]}, {}, 'variants: "Sheet.png" is the name of a file'),
    "no such variant": ({}, {"only": ["walk"]}, r'no variant "walk"; it has run, sit, max'),
    "identifier missing": (
        {"variants": [{"name": "a", "sub_prompts": [None, "a dog"]}]},
        {},
        r'variant "a": instances\[1\]\.sub_prompt "a dog" does not hold <v2>',
    ),
    "no such adapter": ({"variants": [{"name": "a", "concepts": [None, "x.safetensors"]}]}, {}, r"x\.safetensors"),
    "the series' own prompt without its identifier": (
        {
            "weave": "all",
            "instances": [SERIES["instances"][0], {**SERIES["instances"][1], "sub_prompt": "a dog"}],
            "variants": [{"name": "a", "sub_prompts": [None, "a <v2> dog"]}],
        },
        {},
        r'variant "a": in what it is a variant of, instances\[1\]\.sub_prompt "a dog" does not hold <v2>',
    ),
    "another's identifier": (
        {"variants": [{"name": "a", "sub_prompts": [None, "a <v2> dog and <v1>"]}]},
        {},
        r'variant "a": instances\[1\]\.sub_prompt holds <v1>',
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_series_is_one_sentence_and_leaves_nothing(case, concepts, tiny_folder, tmp_path, opened) -> None:
    changes, options, sentence = WRONG[case]
    file = write_request(concepts, tiny_folder, SERIES, **changes)
    with pytest.raises((InputError, FileError), match=sentence) as caught:
        compose_series(file, tmp_path / "out", **options, **opened)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_refused(made, tmp_path: Path, opened) -> None:
    file, _, _ = made
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no series"):
        compose_series(file, tmp_path)
    with pytest.raises(FileError, match="is a file"):
        compose_series(file, tmp_path / "mine.txt")


def test_another_series_folder_is_taken_only_when_that_is_said(made, concepts, tiny_folder, tmp_path, opened) -> None:
    out = tmp_path / "out"
    shutil.copytree(made[1].folder, out)
    before = read_all(out)
    other = write_request(concepts, tiny_folder, SERIES, variants=[{"name": "plain"}])
    with pytest.raises(InputError, match=r"another series' folder \(its variants are run, sit, max\)"):
        compose_series(other, out, **opened)
    assert read_all(out) == before
    assert compose_series(other, out, overwrite=True, **opened).made == ("plain",)
    assert (out / "sit" / "image.png").is_file()


def test_candidates_of_a_variant_keep_a_picture_of_their_own_seed(woven, tmp_path: Path, opened) -> None:
    scene = load_run(woven.folder / "sit" / "run.json").scene
    backbone = opened["backbone"]
    request = open_request(scene, AdapterShelf())
    sown = _sow(prepare_request(backbone, request, ExtrasShelf(backbone)), 11)
    assert sown.kept is not None and (sown.scene.seed, sown.kept.scene.seed) == (11, 11)
