"""A picture made again from what stands inside it, and what is told where that cannot be."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from d2plan.adapter.file import save_adapter
from d2plan.backbone.load import load_backbone
from d2plan.documents import load_run
from d2plan.errors import FileError, InputError
from d2plan.workflows.composing.compose import compose, compose_all
from d2plan.workflows.composing.generate import generate
from d2plan.workflows.composing.reproduce import find_sources, reproduce
from d2plan.workflows.composing.series import compose_series
from tests.isp.concepts import random_adapter
from tests.tiny import write_tiny
from tests.workflows.concept_files import SCENE, SERIES, concepts, opened, write_request

__all__ = ["concepts", "opened"]
STYLE = [{"adapter": "paint.safetensors", "strength": 0.5}]


@pytest.fixture(scope="module")
def run(concepts: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, opened) -> Path:
    """A run of a scene with two concepts, a mask that a person drew, and a style."""
    Image.new("L", (32, 32), 255).crop((0, 0, 16, 32)).resize((32, 32)).save(concepts / "left.png")
    drawn = Image.new("L", (64, 64), 0)
    drawn.paste(255, (0, 0, 32, 64))
    drawn.save(concepts / "left.png")
    one, two = SCENE["instances"]
    instances = [{**one, "mask": "left.png", "strength": 0.5}, two]
    scene = write_request(concepts, tiny_folder, SCENE, instances=instances, style=STYLE)
    return compose(scene, tmp_path_factory.mktemp("run") / "run", **opened)


def _away(run: Path, folder: Path) -> Path:
    """The picture alone, as a friend gets it."""
    return Path(shutil.copy(run / "image.png", folder / "sent.png"))


def _change_text(path: Path, change) -> None:
    with Image.open(path) as picture:
        picture.load()
        content = json.loads(picture.info["d2plan"])
        change(content)
        info = PngImagePlugin.PngInfo()
        info.add_itxt("d2plan", json.dumps(content))
        picture.save(path, pnginfo=info)


def test_a_run_is_made_again_byte_for_byte(run: Path, tmp_path: Path, opened) -> None:
    again = reproduce(run, tmp_path / "again", **opened)
    assert (again.same_bytes, again.same_pixels, again.changed, again.differences) == (True, True, 0.0, ())
    assert (again.folder / "image.png").read_bytes() == (run / "image.png").read_bytes()
    assert load_run(again.folder / "run.json").adapters == load_run(run / "run.json").adapters


def test_a_picture_alone_is_made_again_from_files_that_were_renamed(
    run: Path, concepts: Path, tiny_folder: Path, tmp_path: Path, opened
) -> None:
    sent, shelf = _away(run, tmp_path), tmp_path / "shelf" / "below"
    shelf.mkdir(parents=True)
    for name, other in (("john", "x1"), ("rex", "x2"), ("paint", "x3")):
        shutil.copy(concepts / f"{name}.safetensors", shelf / f"{other}.safetensors")
    shutil.copy(concepts / "left.png", shelf / "a mask.png")
    again = reproduce(sent, tmp_path / "again", base=str(tiny_folder), search=[tmp_path / "shelf"], **opened)
    assert again.same_bytes and not again.differences
    assert load_run(again.folder / "run.json").scene.instances[0].concept == str(shelf / "x1.safetensors")


def test_everything_that_is_missing_is_told_at_once(run: Path, tmp_path: Path, opened) -> None:
    sent = _away(run, tmp_path)
    with pytest.raises(InputError) as caught:
        reproduce(sent, tmp_path / "again", **opened)
    told = str(caught.value)
    uses = load_run(run / "run.json").adapters
    assert told.startswith(f"{sent} cannot be made again: the base tiny is not found")
    assert f"instances[0].concept (john.safetensors, <v1> man) is not found, SHA-256 {uses[0].sha256[:12]}" in told
    assert f"instances[1].concept (rex.safetensors, <v2> dog) is not found, SHA-256 {uses[1].sha256[:12]}" in told
    assert "style[0].adapter (paint.safetensors" in told and "instances[0].mask (left.png" in told
    assert "--search" in told and "--base" in told and "\n" not in told
    assert not (tmp_path / "again").exists()


def test_an_adapter_that_was_trained_again_is_told(run, concepts, tiny_folder, tmp_path, opened) -> None:
    sent, shelf = _away(run, tmp_path), tmp_path / "shelf"
    shutil.copytree(concepts, shelf)
    new = save_adapter(shelf / "rex.safetensors", random_adapter(load_backbone(tiny_folder), "dog", "<v2>", 99))
    sources = find_sources(sent, str(tiny_folder), [shelf])
    was = load_run(run / "run.json").adapters[1].sha256
    assert sources.missing == (
        f"instances[1].concept (rex.safetensors, <v2> dog) has another content in {shelf}/rex.safetensors: "
        f"SHA-256 was {was[:12]} and is {new.sha256[:12]}",
    )


def test_a_base_with_other_weights_is_told(run: Path, tmp_path: Path, opened) -> None:
    other = write_tiny(tmp_path / "other", seed=5)
    with pytest.raises(InputError, match=rf"the base {other} has other weights: their fingerprint was \w+ and is"):
        reproduce(run, tmp_path / "again", base=str(other), **opened)


def test_other_versions_are_told_and_the_picture_is_compared(
    run: Path, tiny_folder, concepts, tmp_path, opened
) -> None:
    sent = _away(run, tmp_path)
    _change_text(sent, lambda content: content["versions"].update(torch="1.0"))
    again = reproduce(sent, tmp_path / "again", base=str(tiny_folder), search=[concepts], **opened)
    assert (again.same_bytes, again.same_pixels) == (False, True)
    now = load_run(run / "run.json").versions["torch"]
    assert again.differences == (f"torch was 1.0 and is {now}",)


def test_another_picture_is_measured(run: Path, tiny_folder, concepts, tmp_path, opened) -> None:
    sent = _away(run, tmp_path)
    with Image.open(sent) as picture:
        picture.load()
        info = PngImagePlugin.PngInfo()
        info.add_itxt("d2plan", picture.info["d2plan"])
        value = picture.getpixel((0, 0))[0]
        picture.putpixel((0, 0), (value ^ 64, *picture.getpixel((0, 0))[1:]))
        picture.save(sent, pnginfo=info)
    again = reproduce(sent, tmp_path / "again", base=str(tiny_folder), search=[concepts], **opened)
    assert (again.same_pixels, again.largest, again.changed) == (False, 64, 1 / 64**2)


def test_another_seed_is_a_sibling(run: Path, tmp_path: Path, opened) -> None:
    other = reproduce(run, tmp_path / "other", seed=8, **opened)
    assert not other.same_pixels and other.differences == ("seed was 7 and is 8",)
    assert load_run(other.folder / "run.json").seed == 8


def test_a_picture_of_a_series_is_made_again_from_itself(concepts, tiny_folder, tmp_path, opened) -> None:
    variants = SERIES["variants"][1:2]
    file = write_request(concepts, tiny_folder, SERIES, variants=variants, warmup=0)
    series = compose_series(file, tmp_path / "series", **opened)
    assert reproduce(series.folder / "sit", tmp_path / "again", **opened).same_bytes


def test_a_picture_of_the_base_alone_is_made_again(tiny_folder: Path, tmp_path: Path, opened) -> None:
    (path,) = generate("a dog", tmp_path / "dog.png", base=str(tiny_folder), seed=3, steps=2)
    assert reproduce(path, tmp_path / "again", base=str(tiny_folder), **opened).same_bytes


def test_low_memory_is_remembered(concepts: Path, tiny_folder: Path, tmp_path: Path, opened) -> None:
    run = compose(write_request(concepts, tiny_folder, SCENE), tmp_path / "run", memory="low", **opened)
    assert load_run(run / "run.json").machine["memory"] == "low"
    assert reproduce(run, tmp_path / "again", **opened).same_bytes


def test_an_open_base_of_another_precision_is_refused(concepts: Path, tiny_folder: Path, tmp_path: Path) -> None:
    base = load_backbone(tiny_folder)
    scene = write_request(concepts, tiny_folder, SCENE)
    with pytest.raises(InputError, match="precision is bf16, but the base that was given is open in torch.float32"):
        compose(scene, tmp_path / "run", backbone=base, precision="bf16")
    assert not (tmp_path / "run").exists()
    run = compose(scene, tmp_path / "run", precision="bf16")
    again = reproduce(run, tmp_path / "again", backbone=base)
    assert "float32" in " ".join(again.differences)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_remembered(precision: str, concepts: Path, tiny_folder: Path, tmp_path: Path) -> None:
    run = compose(write_request(concepts, tiny_folder, SCENE), tmp_path / "run", precision=precision)
    again = reproduce(run, tmp_path / "again")
    assert again.same_bytes and not again.differences
    # In another one it is another picture, and nothing but the number format is named as the reason.
    other = reproduce(run, tmp_path / "other", precision="fp32")
    assert [told.partition(" ")[0] for told in other.differences] == ["dtype"] and other.changed > 0


def test_a_batch_is_told(concepts: Path, tiny_folder: Path, tmp_path: Path, opened) -> None:
    scenes = [write_request(concepts, tiny_folder, SCENE, seed=seed) for seed in (1, 2)]
    one, _ = compose_all(scenes, [tmp_path / "one", tmp_path / "two"], backbone=opened["backbone"])
    again = reproduce(one, tmp_path / "again", **opened)
    assert again.differences == ("it was composed in one batch of 2 scenes, and now in one of 1",)
    assert again.largest <= 1


DAMAGED = {
    "no text": (None, 'holds no "d2plan" text'),
    "no json": ("{", 'its "d2plan" text is damaged'),
    "a list": ("[]", "holds no fields"),
    "another thing": ('{"prompt": 1}', "prompt is not a field"),
    "deep": ("[" * 100_000, "damaged"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_picture_without_a_record_is_told(case: str, tmp_path: Path, opened) -> None:
    text, sentence = DAMAGED[case]
    info = PngImagePlugin.PngInfo()
    if text is not None:
        info.add_itxt("d2plan", text)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(InputError, match=sentence) as caught:
        reproduce(tmp_path / "a.png", tmp_path / "again", **opened)
    assert "\n" not in str(caught.value) and not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["adapters"].pop(),
        lambda content: content["files"][0].update(field="instances[99].mask"),
        lambda content: content["files"][0].update(field="base"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(run: Path, tmp_path: Path, change, opened) -> None:
    sent = _away(run, tmp_path)
    _change_text(sent, change)
    with pytest.raises(InputError, match="contradicts itself"):
        find_sources(sent)


def test_a_path_in_a_strangers_picture_opens_nothing(run: Path, concepts: Path, tmp_path: Path, opened) -> None:
    sent = _away(run, tmp_path)
    _change_text(sent, lambda content: content["adapters"][0].update(path=str(concepts / "john.safetensors")))
    assert any("john.safetensors" in clause for clause in find_sources(sent).missing)


def test_what_is_no_png_is_told(tmp_path: Path, opened) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(FileError, match="is not a PNG"):
        find_sources(tmp_path / "a.jpg")
    with pytest.raises(FileError, match="is not there"):
        find_sources(tmp_path / "none.png")
    with pytest.raises(FileError, match="is not there"):
        find_sources(tmp_path)
