import json

import numpy as np
import pytest

from d2plan.documents import AdapterUse, Instance, MaskReport, RunRecord, Scene
from d2plan.errors import FileError, InputError
from d2plan.media.images import write_png
from d2plan.workflows.scoring.score import find_runs, read_identity, read_references, score_runs
from d2plan.world.caption import accessory_phrase
from d2plan.world.cast import identity_from_seed
from d2plan.world.folders import write_concept
from d2plan.world.scene import sample_scene
from d2plan.world.seeds import stream_rng
from d2plan.world.truth import render

PLACE = {"beach": "on the beach", "city": "in the city"}


def write_run(folder, identity, number):
    """Write a run whose picture is a render, so that its scores are known."""
    rng = stream_rng("heldout", 920, number)
    scene = sample_scene(rng, [identity])
    while scene.place not in PLACE or scene.light != "day":
        scene = sample_scene(rng, [identity])
    figure = scene.figures[0]
    worn = f" wearing {accessory_phrase(figure.accessory, figure.accessory_colour)}" if figure.accessory else ""
    asked = Scene(
        global_prompt=f"a photo of a {figure.class_word} {PLACE[scene.place]}",
        instances=(
            Instance(
                concept=str(folder.parent / "rex.safetensors"),
                class_word=figure.class_word,
                sub_prompt=f"a photo of a <v1> {figure.class_word} {figure.action}{worn}",
            ),
        ),
    )
    use = AdapterUse(
        path=str(folder.parent / "rex.safetensors"),
        name="rex",
        sha256="0",
        class_word=figure.class_word,
        identifier="<v1>",
    )
    record = RunRecord(
        scene=asked,
        base_fingerprint="0",
        adapters=(use,),
        masks=MaskReport(route="attention", confidence=1.0),
        unet_calls=1,
        unet_rows=3,
        seed=0,
    )
    folder.mkdir()
    write_png(folder / "image.png", render(scene).image)
    (folder / "run.json").write_text(record.model_dump_json())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    identity = identity_from_seed("dog", 7)
    for number in range(4):
        write_run(folder / f"run-{number}", identity, number)
    write_concept(folder / "references", "dog", 7, count=6)
    return folder


def test_renders_of_the_right_character_score_right(runs):
    table = score_runs([runs], {"rex": runs / "references"}, out=runs / "scores.json")
    assert len(table.scores) == 4
    assert table.summary["present"].mean >= 0.75
    assert table.summary["place"].mean >= 0.75
    assert table.summary["similarity"].mean > 0.4
    assert np.median([score.instances[0].rank for score in table.scores]) <= 4
    written = json.loads((runs / "scores.json").read_text())
    assert [score["picture"] for score in written["scores"]] == [f"run-{number}" for number in range(4)]
    assert written["summary"]["present"]["count"] == 4


def test_without_references_identity_is_not_scored(runs):
    seen = []
    table = score_runs([runs / "run-0"], report=lambda what, done, total: seen.append((done, total)))
    assert table.scores[0].instances[0].rank is None
    assert "similarity" not in table.summary
    assert seen == [(0, 1), (1, 1)]


def test_references_of_nobody_are_told(runs):
    with pytest.raises(InputError, match='"rxe" is no concept here; name one of .*rex'):
        score_runs([runs], {"rxe": runs / "references"})


def test_references_beside_the_adapter_are_found(runs, tmp_path):
    (runs / "rex").symlink_to(runs / "references")
    try:
        assert score_runs([runs / "run-0"]).scores[0].instances[0].rank is not None
    finally:
        (runs / "rex").unlink()


def test_a_base_without_runs_is_told(runs):
    with pytest.raises(InputError, match="--base other"):
        score_runs([runs], base="other")


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(FileError, match="holds no run"):
        find_runs([tmp_path])
    with pytest.raises(FileError, match="is not a folder"):
        find_runs([tmp_path / "gone"])


def test_each_run_is_found_once(runs):
    assert [path.name for path in find_runs([runs, runs / "run-1"])] == [f"run-{number}" for number in range(4)]


def test_masks_are_no_references(runs):
    assert len(read_references(runs / "references")) == 6


def test_a_folder_without_pictures_is_named(tmp_path):
    with pytest.raises(FileError, match="holds no PNG, JPEG or WebP picture"):
        read_references(tmp_path)


def test_an_identity_comes_back_from_its_file(runs, tmp_path):
    assert read_identity(runs / "references") == identity_from_seed("dog", 7)
    assert read_identity(tmp_path) is None
    (tmp_path / "world.json").write_text('{"class_word": "dog", "identity": {"fur": 3}}')
    with pytest.raises(InputError, match="no identity"):
        read_identity(tmp_path)
