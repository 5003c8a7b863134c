"""A scene file in, a run folder out: what lies in it, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from d2plan.adapter.file import save_adapter
from d2plan.backbone.load import Backbone, load_backbone
from d2plan.backbone.sdxl import decode_latents, sample_steps
from d2plan.documents import Scene, load_run, load_scene
from d2plan.errors import D2PlanError, FileError, InputError
from d2plan.isp.colours import colours_of
from d2plan.workflows.composing.compose import compose, compose_all
from d2plan.workflows.runs.folder import check_out, draw_masks, open_run
from tests.isp.concepts import random_adapter

SCENE = {
    "global_prompt": "a photo of a man and a dog on the beach",
    "instances": [
        {"concept": "john.safetensors", "sub_prompt": "a photo of a <v1> man wearing sunglasses"},
        {"concept": "rex.safetensors", "sub_prompt": "a photo of a <v2> dog running"},
    ],
    "steps": 3,
    "height": 64,
    "width": 64,
    "seed": 7,
}


@pytest.fixture(scope="module")
def concepts(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with john (<v1>), rex (<v2>), max (<v1> too) and odd (an identifier that is not reserved)."""
    folder = tmp_path_factory.mktemp("concepts")
    backbone = load_backbone(tiny_folder)
    known = {"john": ("man", "<v1>"), "rex": ("dog", "<v2>"), "max": ("dog", "<v1>"), "odd": ("dog", "zzz")}
    for seed, (name, (word, identifier)) in enumerate(known.items()):
        save_adapter(folder / f"{name}.safetensors", random_adapter(backbone, word, identifier, seed))
    return folder


def _write(folder: Path, tiny_folder: Path, **changes: object) -> Path:
    path = folder / "scene.yaml"
    path.write_text(yaml.safe_dump({**SCENE, "base": str(tiny_folder), **changes}), encoding="utf-8")
    return path


def _instance(concept: str, sub_prompt: str, **more: object) -> dict[str, object]:
    return {"concept": f"{concept}.safetensors", "sub_prompt": sub_prompt, **more}


def test_a_run_holds_a_picture_its_masks_and_its_record(concepts: Path, tiny_folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    out = compose(_write(concepts, tiny_folder), tmp_path / "runs" / "one", on_progress=lambda *step: seen.append(step))
    assert out == tmp_path / "runs" / "one"
    assert sorted(path.name for path in out.iterdir()) == ["image.png", "masks", "masks.png", "run.json"]
    assert [path.name for path in out.parent.iterdir()] == ["one"]
    record = load_run(out / "run.json")
    assert [(use.name, use.class_word, use.identifier) for use in record.adapters] == [
        ("a man", "man", "<v1>"),
        ("a dog", "dog", "<v2>"),
    ]
    assert all(len(use.sha256) == 64 and Path(use.path).is_file() for use in record.adapters)
    assert record.base_fingerprint == load_backbone(tiny_folder).fingerprint
    assert (record.scene.warmup, record.scene.guidance_scale, record.seed) == (1, 5.0, 7)
    assert (record.unet_calls, record.unet_rows) == (3, 2 + 4 + 4)
    assert len(record.masks.areas) == 2 and "torch" in record.versions
    assert seen[-1] == ("composing", 3, 3) and ("opening the base", 1, 1) in seen
    assert [path.name for path in sorted((out / "masks").iterdir())] == ["00.png", "01.png"]
    with Image.open(out / "masks" / "01.png") as mask:
        assert mask.size == (64, 64) and mask.mode == "L"
        assert np.asarray(mask).mean() / 255 == pytest.approx(record.masks.areas[1], abs=0.02)
    with Image.open(out / "image.png") as image:
        assert image.size == (64, 64)
        assert image.text["parameters"].startswith(SCENE["global_prompt"] + "\nSteps: 3, Sampler: Euler, ")
        inside = json.loads(image.text["d2plan"])
    assert inside["adapters"][0]["path"] == "john.safetensors" and str(tmp_path) not in json.dumps(inside)
    assert Scene.model_validate(inside["scene"]).seed == 7


def test_one_request_gives_one_file_byte_for_byte(concepts: Path, tiny_folder: Path, tmp_path: Path) -> None:
    scene = _write(concepts, tiny_folder)
    one, two, other = (compose(scene, tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert (one / "image.png").read_bytes() == (two / "image.png").read_bytes()
    assert (one / "image.png").read_bytes() != (other / "image.png").read_bytes()
    again = compose(load_run(one / "run.json").scene, tmp_path / "d")
    assert (one / "image.png").read_bytes() == (again / "image.png").read_bytes()


def test_a_new_process_gives_the_same_bytes(concepts: Path, tiny_folder: Path, tmp_path: Path) -> None:
    here = compose(_write(concepts, tiny_folder), tmp_path / "here")
    command = [sys.executable, "-m", "d2plan", "compose", concepts / "scene.yaml", "-o", tmp_path / "there"]
    subprocess.run(command, check=True, capture_output=True)
    assert (here / "image.png").read_bytes() == (tmp_path / "there" / "image.png").read_bytes()


def test_a_scene_without_instances_is_the_plain_model(tiny_folder: Path, tmp_path: Path) -> None:
    out = compose(Scene(base=str(tiny_folder), global_prompt="a dog", height=64, width=64, seed=3), tmp_path / "run")
    assert sorted(path.name for path in out.iterdir()) == ["image.png", "run.json"]
    backbone = load_backbone(tiny_folder)
    *_, last = sample_steps(backbone, "a dog", 3, size=(64, 64))
    with Image.open(out / "image.png") as image:
        assert (np.asarray(image) == decode_latents(backbone, last.latents)[0]).all()


def test_many_scenes_are_composed_together(concepts: Path, tiny_folder: Path, tmp_path: Path) -> None:
    scenes = [load_scene(_write(concepts, tiny_folder, seed=seed)) for seed in (1, 2)]
    outs = compose_all(scenes, [tmp_path / "one", tmp_path / "two"])
    assert [load_run(out / "run.json").seed for out in outs] == [1, 2]
    assert (outs[0] / "image.png").read_bytes() != (outs[1] / "image.png").read_bytes()


BAD_SCENES = {
    "class word missing": ({"global_prompt": "a photo of a man"}, r'does not hold "dog", the class word of inst'),
    "identifier missing": (
        {"instances": [_instance("rex", "a photo of a dog")]},
        r'instances\[0\]\.sub_prompt "a photo of a dog" does not hold <v2>',
    ),
    "another's identifier": (
        {"instances": [_instance("rex", "a photo of a <v2> dog and <v1>")]},
        r"instances\[0\]\.sub_prompt holds <v1>",
    ),
    "identifier in the global prompt": (
        {"global_prompt": "a <v1> man and a dog"},
        r"global_prompt holds the identifier <v1>",
    ),
    "two concepts of one identifier": (
        {"instances": [_instance("john", "a <v1> man"), _instance("max", "a <v1> dog")]},
        r"have the same identifier <v1>",
    ),
    "an identifier that is not reserved": (
        {"instances": [_instance("odd", "a zzz dog")]},
        r"identifier zzz, which this base does not reserve; .* <v1> \.\. <v32>",
    ),
    "a misspelt field": ({"stepps": 3}, r"stepps is not a field; did you mean steps"),
    "no such adapter": ({"instances": [_instance("none", "a <v2> dog")]}, r"none\.safetensors"),
    "one mention for two": (
        {"instances": [_instance("rex", "a <v2> dog"), _instance("rex", "a <v2> dog")]},
        r'mentions "dog" 1 time, but 2',
    ),
}


@pytest.mark.parametrize("case", BAD_SCENES)
def test_a_wrong_scene_is_one_sentence_and_leaves_nothing(
    case: str, concepts: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    changes, sentence = BAD_SCENES[case]
    with pytest.raises(D2PlanError, match=sentence) as caught:
        compose(_write(concepts, tiny_folder, **changes), tmp_path / "runs" / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


def test_a_wrong_scene_is_told_before_a_network_computes(
    concepts: Path, tiny: Backbone, tiny_folder: Path, tmp_path: Path
) -> None:
    def compute(*_: object) -> None:
        raise AssertionError("a network computed")

    for network in (tiny.unet, *tiny.text_encoders, tiny.vae):
        network.register_forward_pre_hook(compute)
    for changes, sentence in BAD_SCENES.values():
        with pytest.raises(D2PlanError, match=sentence):
            compose(_write(concepts, tiny_folder, **changes), tmp_path / "out", backbone=tiny)


def test_an_adapter_of_another_base_is_refused(concepts: Path, tmp_path: Path, tiny_folder: Path) -> None:
    from tests.tiny import write_tiny

    other = write_tiny(tmp_path / "other", seed=5)
    with pytest.raises(D2PlanError, match="was trained on the base"):
        compose(_write(concepts, tiny_folder), tmp_path / "out", base=str(other))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty_needs_overwrite(concepts: Path, tiny_folder: Path, tmp_path: Path) -> None:
    scene = _write(concepts, tiny_folder)
    out = tmp_path / "out"
    out.mkdir()
    compose(scene, out)
    (out / "mine.txt").write_text("kept")
    before = (out / "image.png").read_bytes()
    with pytest.raises(D2PlanError, match="--overwrite"):
        compose(scene, out, seed=9)
    assert (out / "image.png").read_bytes() == before
    compose(scene, out, seed=9, overwrite=True)
    assert load_run(out / "run.json").seed == 9 and (out / "image.png").read_bytes() != before
    assert (out / "mine.txt").read_text() == "kept"


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for out in (file, file / "below"):
        with pytest.raises(FileError, match="file"), open_run(out):
            raise AssertionError("the block must not begin")


def test_a_run_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path / "out") as folder:
        (folder / "image.png").write_bytes(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_masks_picture_shows_each_concept_in_its_colour_whatever_their_order() -> None:
    masks = np.zeros((2, 8, 8), np.float32)
    masks[0, :, :4], masks[1, :, 4:] = 1, 1
    grey, who = np.full((64, 64, 3), 128, np.uint8), [("john", "man"), ("rex", "dog")]
    shown = draw_masks(grey, masks, who).astype(int)
    assert shown.shape[1] == 384 and shown.shape[0] > 384
    for column, colour in zip((60, 330), colours_of(["john", "rex"]), strict=True):
        tint = np.array(colour.rgb) - np.array(colour.rgb).mean()
        assert np.corrcoef(shown[200, column], tint)[0, 1] > 0.99
    turned = draw_masks(grey, masks[::-1], who[::-1])
    np.testing.assert_array_equal(turned[:384, :150], shown[:384, :150])


def test_the_current_folder_a_link_and_a_folder_that_is_there_take_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path / "here")
    for out in (Path(), tmp_path / "link"):
        with open_run(out) as folder:
            (folder / "run.json").write_text("{}")
        assert [path.name for path in out.iterdir()] == ["run.json"]
    assert (tmp_path / "link").is_symlink()
    with pytest.raises(ZeroDivisionError), open_run(tmp_path / "real", overwrite=True) as folder:
        raise ZeroDivisionError
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["run.json"]


def test_a_link_to_nothing_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(FileError, match="a link to nothing"), open_run(tmp_path / "link"):
        raise AssertionError("the work began")


@pytest.mark.parametrize("name", ["01.jpg", "concept.yaml", "scene.yaml"])
def test_a_folder_of_other_things_is_refused_with_overwrite_too(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    for overwrite in (False, True):
        with (
            pytest.raises(InputError, match=rf"holds no run \(but {name}\); name another"),
            open_run(tmp_path, overwrite),
        ):
            raise AssertionError("the work began")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("mark", ["concept.yaml", "world.json"])
def test_a_run_among_training_pictures_is_not_replaced(mark: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / mark).write_text("")
    with pytest.raises(InputError, match="holds training pictures"), open_run(tmp_path, overwrite=True):
        raise AssertionError("the work began")
    with pytest.raises(InputError, match="holds training pictures"):
        check_out(tmp_path, overwrite=True)


def test_a_run_that_lost_its_record_and_hidden_files_are_no_strangers(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_text("")
    (tmp_path / "image.png").write_bytes(b"half")
    with open_run(tmp_path, overwrite=True) as folder:
        (folder / "run.json").write_text("{}")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".DS_Store", "run.json"]


def test_masks_that_no_run_wrote_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "00.png").write_bytes(b"mine")
    with pytest.raises(InputError, match="belong to no run"), open_run(tmp_path, overwrite=True):
        raise AssertionError("the work began")
    assert (tmp_path / "masks" / "00.png").read_bytes() == b"mine"
