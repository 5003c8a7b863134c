"""Concepts on other weights of their architecture: refused unless asked for, told, and made again from the picture."""

import json
import shutil
from pathlib import Path

import pytest

from d2plan.backbone.load import load_backbone
from d2plan.documents import RunRecord, load_run
from d2plan.errors import AdapterError
from d2plan.media.png_text import read_texts
from d2plan.workflows.composing.compose import RunOptions, compose
from d2plan.workflows.composing.reproduce import reproduce
from d2plan.workflows.composing.series import compose_series
from tests.tiny import write_tiny
from tests.workflows.concept_files import SCENE, SERIES, concepts, opened, write_request

__all__ = ["concepts", "opened"]
STYLE = [{"adapter": "paint.safetensors", "strength": 0.5}]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base like the tiny one, with other weights."""
    return write_tiny(tmp_path_factory.mktemp("other") / "other", seed=5)


@pytest.fixture(scope="module")
def elsewhere(other: Path) -> RunOptions:
    return {"backbone": load_backbone(other)}


@pytest.fixture(scope="module")
def run(concepts: Path, other: Path, tmp_path_factory: pytest.TempPathFactory, elsewhere) -> Path:
    scene = write_request(concepts, other, SCENE, style=STYLE, other_base=True)
    return compose(scene, tmp_path_factory.mktemp("run") / "run", **elsewhere)


@pytest.mark.parametrize(("make", "content"), [(compose, SCENE), (compose_series, SERIES)])
def test_it_is_refused_with_the_remedy_and_nothing_is_written(make, content, concepts, other, tmp_path, elsewhere):
    with pytest.raises(AdapterError, match=r"john\.safetensors was trained on the base .* \(`other_base: true`\)"):
        make(write_request(concepts, other, content), tmp_path / "out", **elsewhere)
    assert not (tmp_path / "out").exists()


def test_a_run_says_which_adapter_came_from_which_base(run: Path, opened, elsewhere) -> None:
    home, here = opened["backbone"].fingerprint, elsewhere["backbone"].fingerprint
    record = load_run(run / "run.json")
    assert record.scene.other_base and record.base_fingerprint == here
    assert [use.learnt_on for use in (*record.adapters, *record.styles)] == [home] * 3
    for field, name in (("instances[0]", "john"), ("instances[1]", "rex"), ("style[0]", "paint")):
        told = f"{field}: {name}.safetensors was learnt on the base {home}, not on {here}, so it may look less like"
        assert any(note.startswith(told) for note in record.masks.notes)


def test_the_picture_alone_is_enough_to_make_it_again(run: Path, concepts: Path, other: Path, tmp_path: Path) -> None:
    sent = Path(shutil.copy(run / "image.png", tmp_path / "sent.png"))
    again = reproduce(sent, tmp_path / "again", base=str(other), search=[concepts])
    assert again.same_bytes and not again.differences


def test_the_variants_of_a_series_say_it_too(concepts: Path, other: Path, tmp_path: Path, opened, elsewhere) -> None:
    file = write_request(concepts, other, SERIES, other_base=True)
    folder = compose_series(file, tmp_path / "out", only=["sit"], **elsewhere).folder
    assert load_run(folder / "sit" / "run.json").adapters[0].learnt_on == opened["backbone"].fingerprint
    assert json.loads((folder / "series.json").read_text())["other_base"] is True
    assert reproduce(folder / "sit", tmp_path / "again", **elsewhere).same_bytes


def test_what_is_allowed_decides_nothing_on_its_own_base(concepts, tiny_folder, tmp_path, opened) -> None:
    file = write_request(concepts, tiny_folder, SERIES)
    folder = compose_series(file, tmp_path / "out", only=["sit"], **opened).folder
    allowed = write_request(concepts, tiny_folder, SERIES, other_base=True)
    assert compose_series(allowed, folder, only=["sit"], **opened).kept == ("sit",)


def test_records_without_it_hold_no_word_of_it(concepts: Path, tiny_folder: Path, tmp_path: Path, opened) -> None:
    folder = compose(write_request(concepts, tiny_folder, SCENE), tmp_path / "run", **opened)
    written = (folder / "run.json").read_text() + read_texts(folder / "image.png")["d2plan"]
    assert "other_base" not in written and "learnt_on" not in written
    record = RunRecord.model_validate_json((folder / "run.json").read_text())
    assert not record.scene.other_base and record.adapters[0].learnt_on == ""
