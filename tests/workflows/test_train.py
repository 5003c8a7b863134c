import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from d2plan.adapter.file import check_base, load_adapter
from d2plan.backbone.load import load_backbone
from d2plan.dislora.train import StepReport
from d2plan.errors import D2PlanError, FileError, InputError
from d2plan.media.images import read_image
from d2plan.workflows.train import train_concept


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "rex"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        blocks = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks.repeat(16, 0).repeat(16, 1)).save(folder / f"{number:02}.png")
    (folder / "00.txt").write_text("a photo of a dog running on the beach")
    (folder / "concept.yaml").write_text('class_word: dog\nidentifier: "<v2>"\n')
    return folder


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_becomes_an_adapter_with_thumbnail_and_log(pictures: Path, tiny_folder: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    reports: list[StepReport] = []
    notes: list[str] = []
    path = train_concept(
        pictures, tmp_path / "out" / "rex.safetensors", base=tiny_folder, seed=3,
        on_progress=lambda what, done, total: told.append((what, done, total)),
        steps=2, batch_size=1, on_step=reports.append, on_note=notes.append,
    )  # fmt: skip
    assert _names(tmp_path / "out") == ["rex.log.jsonl", "rex.png", "rex.safetensors"]
    adapter = load_adapter(path)
    assert (adapter.name, adapter.class_word, adapter.identifier, adapter.rank) == ("rex", "dog", "<v2>", 4)
    assert adapter.settings["steps"] == "2" and adapter.settings["seed"] == "3" and adapter.settings["base"] == "tiny"
    check_base(adapter, load_backbone(tiny_folder))
    assert np.array_equal(read_image(tmp_path / "out" / "rex.png"), read_image(pictures / "00.png"))
    log = [json.loads(line) for line in (tmp_path / "out" / "rex.log.jsonl").read_text().splitlines()]
    assert log[0]["settings"]["class_word"] == "dog" and [row["step"] for row in log[1:]] == [1, 2]
    assert ("training", 2, 2) in told and [report.step for report in reports] == [1, 2]
    assert notes[0] == "3 pictures, 1 captions, 0 masks"


def test_an_open_base_is_used_again_and_gives_the_same_adapter(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    backbone = load_backbone(tiny_folder)
    one = train_concept(pictures, tmp_path / "one.safetensors", "dog", "<v1>", backbone, steps=1, batch_size=1)
    two = train_concept(pictures, tmp_path / "two.safetensors", "dog", "<v1>", tiny_folder, steps=1, batch_size=1)
    first, second = load_adapter(one), load_adapter(two)
    assert first.identifier == "<v1>"
    assert all(torch.equal(first.deltas[path].up, second.deltas[path].up) for path in first.deltas)


def test_a_preview_shows_the_concept_as_the_base_with_the_adapter_draws_it(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rex.safetensors"
    train_concept(pictures, out, base=tiny_folder, steps=1, batch_size=1, preview=True)
    assert read_image(tmp_path / "rex.preview.png").shape == (8 + 128 + 22 + 8, 8 + 4 * 136, 3)


def test_without_an_identifier_the_first_reserved_one_is_taken(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    (pictures / "concept.yaml").unlink()
    path = train_concept(
        pictures, tmp_path / "a.safetensors", "dog", base=tiny_folder, steps=1, batch_size=1, name="Rex"
    )
    adapter = load_adapter(path)
    assert (adapter.identifier, adapter.name) == ("<v1>", "Rex")


def test_wrong_input_is_refused_in_one_sentence_before_anything_is_written(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    bare = tmp_path / "bare"
    bare.mkdir()
    Image.new("RGB", (8, 8)).save(bare / "a.png")
    good = {"folder": pictures, "out": tmp_path / "new" / "x.safetensors", "base": tiny_folder}
    cases: list[tuple[dict[str, object], type[D2PlanError], str]] = [
        ({"folder": tmp_path / "empty"}, FileError, "empty"),
        ({"folder": tmp_path / "none"}, FileError, "none"),
        ({"folder": bare}, InputError, "class_word is missing"),
        ({"identifier": "zzz"}, InputError, "<v1>"),
        ({"identifier": "dog"}, InputError, "overlap"),
        ({"out": tmp_path / "x.png"}, InputError, r"\.safetensors"),
        ({"out": tmp_path / "file" / "x.safetensors"}, FileError, "cannot be written"),
        ({"base": tmp_path / "nobase"}, InputError, "nobase"),
        ({"stepz": 3}, InputError, "did you mean steps"),
        ({"steps": 0}, InputError, "steps"),
        ({"rank": 5000}, InputError, "rank"),
        ({"seed": -1}, InputError, "seed"),
        ({"template": "no place"}, InputError, "template"),
    ]
    for changes, kind, words in cases:
        with pytest.raises(kind, match=words) as caught:
            train_concept(**{**good, **changes})  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_files_that_are_there_stay_unless_asked(pictures: Path, tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rex.png").write_bytes(b"somebody's own picture")
    with pytest.raises(FileError, match=r"rex\.png.*overwrite"):
        train_concept(pictures, tmp_path / "rex.safetensors", base=tiny_folder, steps=1)
    assert (tmp_path / "rex.png").read_bytes() == b"somebody's own picture"
    train_concept(pictures, tmp_path / "rex.safetensors", base=tiny_folder, steps=1, batch_size=1, overwrite=True)
    assert read_image(tmp_path / "rex.png").shape == (128, 128, 3)


def test_a_stopped_training_writes_nothing(pictures: Path, tiny_folder: Path, tmp_path: Path) -> None:
    backbone = load_backbone(tiny_folder)
    before = backbone.unet.conv_in.weight.clone(), set(backbone.unet.state_dict())

    def stop(report: StepReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_concept(pictures, tmp_path / "out" / "a.safetensors", base=backbone, steps=3, batch_size=1, on_step=stop)
    assert _names(tmp_path / "out") == []
    assert torch.equal(backbone.unet.conv_in.weight, before[0])
    assert set(backbone.unet.state_dict()) == before[1], "the adapter is off the base again"
