import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from d2plan.adapter.file import check_base, load_adapter, read_metadata
from d2plan.backbone.load import load_backbone
from d2plan.dislora.train import StepReport
from d2plan.errors import D2PlanError, FileError, InputError
from d2plan.media.images import read_image
from d2plan.workflows.composing.generate import generate
from d2plan.workflows.training.previews import Previews, draw_picture
from d2plan.workflows.training.train import train_concept


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
    assert _names(tmp_path / "out") == ["rex.json", "rex.log.jsonl", "rex.png", "rex.safetensors"]
    adapter = load_adapter(path)
    assert (adapter.name, adapter.class_word, adapter.identifier, adapter.rank) == ("rex", "dog", "<v2>", 4)
    assert adapter.settings["steps"] == "2" and adapter.settings["seed"] == "3" and adapter.settings["base"] == "tiny"
    check_base(adapter, load_backbone(tiny_folder))
    assert np.array_equal(read_image(tmp_path / "out" / "rex.png"), read_image(pictures / "00.png"))
    log = [json.loads(line) for line in (tmp_path / "out" / "rex.log.jsonl").read_text().splitlines()]
    assert log[0]["settings"]["class_word"] == "dog" and [row["step"] for row in log[1:]] == [1, 2]
    assert ("training", 2, 2) in told and [report.step for report in reports] == [1, 2]
    assert notes[0].startswith("3 pictures used, 1 caption")


def test_an_open_base_is_used_again_and_gives_the_same_adapter(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    backbone = load_backbone(tiny_folder)
    one = train_concept(pictures, tmp_path / "one.safetensors", "dog", "<v1>", backbone, steps=1, batch_size=1)
    two = train_concept(pictures, tmp_path / "two.safetensors", "dog", "<v1>", tiny_folder, steps=1, batch_size=1)
    first, second = load_adapter(one), load_adapter(two)
    assert first.identifier == "<v1>"
    assert all(torch.equal(first.deltas[path].up, second.deltas[path].up) for path in first.deltas)


def test_the_header_tells_the_bases_own_size_and_prediction_and_the_same_training_gives_the_same_bytes(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_folder, tmp_path / "velocity")
    for name, changes in (
        ("d2plan.json", {"height": 64, "width": 96}),
        ("scheduler/scheduler_config.json", {"prediction_type": "v_prediction"}),
    ):
        content = json.loads((base / name).read_text())
        (base / name).write_text(json.dumps(content | changes))
    asked = {"steps": 1, "batch_size": 1}
    ours, plain = (
        train_concept(pictures, tmp_path / place.name / "out" / "rex.safetensors", base=place, **asked)
        for place in (base, tiny_folder)
    )
    expected = {"ss_num_train_images": "3", "ss_steps": "1", "ss_seed": "0", "modelspec.trigger_phrase": "<v2> dog"}
    for path, name, size, prediction in ((ours, "velocity", "96x64", "v"), (plain, "tiny", "128x128", "epsilon")):
        words = read_metadata(path)
        expected |= {"ss_sd_model_name": name, "ss_resolution": size, "modelspec.resolution": size}
        expected |= {"modelspec.prediction_type": prediction}
        assert {key: words.get(key) for key in expected} == expected
        assert not [key for key in words if "date" in key or "started" in key]
    again = train_concept(pictures, tmp_path / "again" / "rex.safetensors", base=base, **asked)
    assert again.read_bytes() == ours.read_bytes()


def test_a_preview_shows_the_concept_as_the_base_with_the_adapter_draws_it(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    out, prompt = tmp_path / "rex.safetensors", "a photo of a <v2> dog"
    # One loud step, so that it can be seen.
    asked = {"steps": 1, "batch_size": 1, "unet_rate": 0.05, "text_rate": 0.05}
    train_concept(pictures, out, base=tiny_folder, preview_every=1, **asked)
    sheet = read_image(tmp_path / "rex.preview.png")
    gap, side, label = 8, 128, 22
    assert sheet.shape == (gap + 2 * (side + label + gap), gap + 4 * (side + gap), 3)
    rows = [
        [sheet[top : top + side, left : left + side] for left in range(gap, sheet.shape[1], side + gap)]
        for top in range(gap, sheet.shape[0], side + label + gap)
    ]
    plain = [read_image(path) for path in generate(prompt, tmp_path / "base.png", str(tiny_folder), count=4)]
    backbone, adapter = load_backbone(tiny_folder), load_adapter(out)
    tuned = [draw_picture(backbone, adapter, prompt, seed) for seed in range(4)]
    assert all(not np.array_equal(before, after) for before, after in zip(plain, tuned, strict=True))
    for row, drawn in zip(rows, (plain, tuned), strict=True):
        assert all(np.array_equal(here, there) for here, there in zip(row, drawn, strict=True))
    train_concept(pictures, tmp_path / "end" / "rex.safetensors", base=tiny_folder, preview=True, **asked)
    only = read_image(tmp_path / "end" / "rex.preview.png")
    assert only.shape[0] == gap + side + label + gap
    assert np.array_equal(only[gap : gap + side], sheet[gap + side + label + gap :][:side])


def test_the_time_left_counts_the_previews_to_come(
    pictures: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(previews: Previews, step: int) -> None:
        previews.seconds = 1000.0

    monkeypatch.setattr(Previews, "draw", draw)
    monkeypatch.setattr(Previews, "sheet", lambda *_: np.zeros((8, 8, 3), dtype=np.uint8))
    left: list[float] = []
    asked = {"steps": 3, "batch_size": 1, "on_step": lambda report: left.append(report.seconds_left)}
    train_concept(pictures, tmp_path / "a.safetensors", base=tiny_folder, preview_every=2, **asked)
    # After steps 2 and 3 previews are drawn, none after the end.
    assert [1000 * round(seconds / 1000) for seconds in left] == [2000, 1000, 0]


def test_without_an_identifier_the_first_reserved_one_is_taken(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    (pictures / "concept.yaml").unlink()
    path = train_concept(
        pictures, tmp_path / "a.safetensors", "dog", base=tiny_folder, steps=1, batch_size=1, name="Rex"
    )
    adapter = load_adapter(path)
    assert (adapter.identifier, adapter.name) == ("<v1>", "Rex")


def test_a_second_concept_gets_the_next_identifier_and_keeps_it_when_it_goes_on(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    (pictures / "concept.yaml").unlink()
    backbone, out, notes = load_backbone(tiny_folder), tmp_path / "out", []

    def stop(report: StepReport) -> None:
        raise KeyboardInterrupt

    train_concept(pictures, out / "a.safetensors", "dog", base=backbone, steps=1, batch_size=1)
    asked = {"class_word": "dog", "base": backbone, "steps": 2, "batch_size": 1, "on_note": notes.append}
    with pytest.raises(KeyboardInterrupt):
        train_concept(pictures, out / "b.safetensors", **asked, on_step=stop)
    assert "its identifier is <v2>, as in a photo of a <v2> dog" in notes
    (out / "a.safetensors").unlink()
    path = train_concept(pictures, out / "b.safetensors", **asked, resume=True)
    assert load_adapter(path).identifier == "<v2>" and "going on after step 1 of 2" in notes


def test_words_that_the_base_has_never_seen_are_told_and_logged(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    notes: list[str] = []
    path = train_concept(
        pictures, tmp_path / "a.safetensors", "dragon", "<v1>", tiny_folder,
        steps=1, batch_size=1, template="a foto of a {}", on_note=notes.append,
    )  # fmt: skip
    told = [note for note in notes if "has never seen" in note]
    assert [note.split(";")[0] for note in told] == [
        f'the base has never seen the word "{word}"' for word in ("dragon", "foto")
    ]
    assert 'the caption of 00.png does not name "dragon", so the template is used instead' in notes
    assert not [note for note in notes if "cut off" in note]
    first = json.loads(path.with_suffix(".log.jsonl").read_text().splitlines()[0])
    assert all(note in first["notes"] for note in told)


def test_what_of_a_caption_no_encoder_reads_is_told(pictures: Path, tiny_folder: Path, tmp_path: Path) -> None:
    (pictures / "01.txt").write_text("a photo of a dog" + " on the beach" * 60)
    notes: list[str] = []
    train_concept(pictures, tmp_path / "a.safetensors", base=tiny_folder, steps=1, batch_size=1, on_note=notes.append)
    (told,) = [note for note in notes if "cut off" in note]
    assert told == "the caption of 01.png is longer than the base reads; what stands behind is cut off"
    (pictures / "00.txt").unlink()
    (pictures / "01.txt").unlink()
    train_concept(
        pictures, tmp_path / "b.safetensors", base=tiny_folder, steps=1, batch_size=1, on_note=notes.append,
        template="a photo of a {}" + " on the beach" * 60,
    )  # fmt: skip
    assert notes[-1] == "the template is longer than the base reads; what stands behind is cut off"


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
        ({"precision": "fp8"}, InputError, "precision is 'fp8'"),
        ({"preview_every": -1}, InputError, "preview_every"),
        ({"token_weight": 0.0, "attention_weight": 0.0, "denoising_weight": 0.0}, InputError, "weight 0"),
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


def _stop_at(step: int) -> Callable[[StepReport], None]:
    def stop(report: StepReport) -> None:
        if report.step == step:
            raise KeyboardInterrupt

    return stop


def test_a_stopped_training_leaves_its_state_alone_and_goes_on_to_the_same_adapter(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    backbone = load_backbone(tiny_folder)
    before = backbone.unet.conv_in.weight.clone(), set(backbone.unet.state_dict())
    asked = {"base": backbone, "steps": 3, "batch_size": 1}
    # Without previews: they change nothing of what is learnt.
    whole = load_adapter(train_concept(pictures, tmp_path / "whole" / "a.safetensors", **asked))
    asked["preview_every"] = 2
    target, notes = tmp_path / "out" / "a.safetensors", []
    with pytest.raises(KeyboardInterrupt):
        train_concept(pictures, target, on_step=_stop_at(2), on_note=notes.append, **asked)
    assert _names(target.parent) == ["a.train"]
    assert notes[-1] == "stopped after step 2 of 3; go on with --resume"
    assert torch.equal(backbone.unet.conv_in.weight, before[0])
    assert set(backbone.unet.state_dict()) == before[1], "the adapter is off the base again"
    with pytest.raises(FileError, match="stopped after step 2; go on with --resume"):
        train_concept(pictures, target, **asked)
    resumed = load_adapter(train_concept(pictures, target, resume=True, on_note=notes.append, **asked))
    assert "going on after step 2 of 3" in notes
    assert all(torch.equal(whole.deltas[path].up, resumed.deltas[path].up) for path in whole.deltas)
    assert _names(target.parent) == ["a.json", "a.log.jsonl", "a.png", "a.preview.png", "a.safetensors"]
    rows = [[json.loads(line) for line in (place / "a.log.jsonl").read_text().splitlines()][1:]
            for place in (tmp_path / "whole", target.parent)]  # fmt: skip
    assert [[row["step"], row["loss"]] for row in rows[0]] == [[row["step"], row["loss"]] for row in rows[1]]
    # Three rows of four: the base, after step 2, and the end.
    sheet = read_image(target.parent / "a.preview.png")
    assert sheet.shape == (8 + 3 * (128 + 22 + 8), 8 + 4 * 136, 3)
    train_concept(pictures, target, resume=True, on_note=notes.append, **asked)
    assert notes[-1].endswith("is finished already; nothing was done.")


def test_two_trainings_never_share_a_folder(pictures: Path, tiny_folder: Path, tmp_path: Path) -> None:
    backbone = load_backbone(tiny_folder)
    told: list[str] = []

    def start_another(report: StepReport) -> None:
        with pytest.raises(FileError) as caught:
            train_concept(pictures, tmp_path / "a.safetensors", base=backbone, steps=1, overwrite=True)
        told.append(str(caught.value))

    train_concept(pictures, tmp_path / "a.safetensors", base=backbone, steps=1, batch_size=1, on_step=start_another)
    assert len(told) == 1 and "another training uses it" in told[0] and str(os.getpid()) in told[0]
    assert (tmp_path / "a.safetensors").is_file()


def test_kept_checkpoints_let_a_finished_training_go_on(pictures: Path, tiny_folder: Path, tmp_path: Path) -> None:
    backbone, out = load_backbone(tiny_folder), tmp_path / "a.safetensors"
    train_concept(pictures, out, base=backbone, steps=1, batch_size=1, keep_checkpoints=True)
    train_concept(pictures, out, base=backbone, steps=2, batch_size=1, resume=True)
    straight = train_concept(pictures, tmp_path / "b.safetensors", base=backbone, steps=2, batch_size=1, name="a")
    first, second = load_adapter(out), load_adapter(straight)
    assert all(torch.equal(first.deltas[path].up, second.deltas[path].up) for path in first.deltas)
    assert not (tmp_path / "a.train").exists()


def test_a_folder_of_the_same_name_with_other_things_in_it_is_left_alone(
    pictures: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.train").mkdir()
    (tmp_path / "a.train" / "diary.txt").write_text("dear me")
    with pytest.raises(FileError, match=r"diary\.txt"):
        train_concept(pictures, tmp_path / "a.safetensors", base=tiny_folder, steps=1, overwrite=True)
    assert _names(tmp_path / "a.train") == ["diary.txt"]


def test_half_precision_and_a_smaller_file(pictures: Path, tiny_folder: Path, tmp_path: Path) -> None:
    asked = {"base": tiny_folder, "steps": 1, "batch_size": 1, "precision": "bf16", "file_precision": "fp16"}
    adapter = load_adapter(train_concept(pictures, tmp_path / "a.safetensors", **asked))
    assert {delta.up.dtype for delta in adapter.deltas.values()} == {torch.float16}


def test_tensorboard_gets_each_part_of_each_step(pictures: Path, tiny_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra [tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    asked = {"base": tiny_folder, "steps": 2, "batch_size": 1, "tensorboard": tmp_path / "board"}
    train_concept(pictures, tmp_path / "a.safetensors", **asked)
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    log = [json.loads(line) for line in (tmp_path / "a.log.jsonl").read_text().splitlines()][1:]
    for name in ("loss", "ldm", "token", "attention", "prior", "plain", "images_per_second"):
        written = [(event.step, event.value) for event in events.Scalars(f"train/{name}")]
        assert written == [(row["step"], pytest.approx(row[name], rel=1e-5)) for row in log]
