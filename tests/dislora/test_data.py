import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2plan.dislora.data import ConceptData, read_concept_folder, read_concept_words
from d2plan.dislora.data_buckets import plan_buckets
from d2plan.errors import FileError, InputError
from d2plan.media.images import fit_image
from tests.dislora.folders import write_half_mask, write_picture


def test_pictures_come_in_the_order_of_their_names_with_what_lies_beside(tmp_path: Path) -> None:
    pixels = {number: write_picture(tmp_path / f"{number:02}.png", number) for number in (2, 0, 1)}
    (tmp_path / "00.txt").write_text("a dog\n  running ")
    write_half_mask(tmp_path / "01.mask.png")
    write_half_mask(tmp_path / "masks" / "02.png")
    (tmp_path / "concept.yaml").write_text('class_word: dog\nidentifier: "<v1>"\ntemplate: a picture of a {}\n')
    (tmp_path / "world.json").write_text("{}")
    told: list[tuple[int, int]] = []
    data = read_concept_folder(tmp_path, 32, 32, on_picture=lambda done, total: told.append((done, total)))
    assert data.names == ("00.png", "01.png", "02.png") and len(data) == 3
    assert all(np.array_equal(image, pixels[number]) for number, image in enumerate(data.images))
    assert data.captions == ("a dog running", None, None)
    assert data.masks[0] is None
    assert data.masks[1] is not None and data.masks[1].mean() == 0.5
    assert data.masks[2] is not None and data.masks[2][0, 0] == 1 and data.masks[2][0, -1] == 0
    assert (data.words.class_word, data.words.identifier, data.words.template) == ("dog", "<v1>", "a picture of a {}")
    assert data.notes == ()
    assert data.summary == "3 pictures, 1 captions, 2 masks"
    assert [(used.caption, used.mask) for used in data.report.used] == [
        ("00.txt", None), (None, "01.mask.png"), (None, "masks/02.png"),
    ]  # fmt: skip
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_pictures_and_masks_are_brought_to_the_base_size(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg", size=(40, 100))
    write_half_mask(tmp_path / "a.mask.png", size=(40, 100))
    data = read_concept_folder(tmp_path, 64, 64)
    assert data.sizes == ((64, 64),)
    assert data.masks[0] is not None and data.masks[0].shape == (64, 64)


def test_each_picture_takes_the_bucket_of_its_shape(tmp_path: Path) -> None:
    write_picture(tmp_path / "high.png", 1, (300, 200))
    write_picture(tmp_path / "square.png", 2, (200, 200))
    write_picture(tmp_path / "wide.png", 3, (200, 300))
    write_half_mask(tmp_path / "wide.mask.png", (200, 300))
    data = read_concept_folder(tmp_path, 128, 128, plan_buckets(128, 128, 16))
    assert data.sizes == ((160, 112), (128, 128), (112, 160))
    assert data.masks[2] is not None and data.masks[2].shape == (112, 160)
    assert all(used.kept > 0.95 for used in data.report.used)
    batches = [data.batch_rows(5, step, 2) for step in range(3)]
    assert Counter(row for batch in batches for row in batch) == {0: 2, 1: 2, 2: 2}
    assert all(first == second for first, second in batches), "no batch mixes sizes"


def test_where_one_side_is_cut_the_subject_stays_in(tmp_path: Path) -> None:
    pixels = write_picture(tmp_path / "a.png", size=(32, 96))
    mask = np.zeros((32, 96), dtype=np.uint8)
    mask[:, 70:90] = 255
    Image.fromarray(mask).save(tmp_path / "a.mask.png")
    data = read_concept_folder(tmp_path, 32, 32)
    assert np.array_equal(data.images[0], pixels[:, 64:96])
    assert data.masks[0] is not None
    assert np.flatnonzero(data.masks[0][0] == 1).tolist() == list(range(6, 26))


def test_a_mask_of_another_resolution_fits_and_of_another_shape_does_not(tmp_path: Path) -> None:
    for name, size in (("half", (16, 24)), ("other", (32, 32))):
        write_picture(tmp_path / f"{name}.png", len(name), (32, 48))
        write_half_mask(tmp_path / f"{name}.mask.png", size)
    data = read_concept_folder(tmp_path, 32, 48)
    assert data.masks[0] is not None and data.masks[0].mean() == pytest.approx(0.5, abs=0.01)
    assert data.masks[1] is None
    assert data.notes == (
        "left out other.mask.png: it is 32 x 32 pixels, its picture 48 x 32, so the whole picture counts",
    )


def test_a_mask_is_turned_with_a_photo_that_its_tool_did_not_turn(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise).save(tmp_path / "a.png", exif=exif)
    write_half_mask(tmp_path / "a.mask.png", (32, 48))
    data = read_concept_folder(tmp_path, 48, 32)
    assert np.array_equal(data.images[0], np.rot90(noise, -1))
    assert data.masks[0] is not None and data.masks[0][:24].min() == 1 and data.masks[0][24:].max() == 0


def test_transparent_parts_are_the_mask_unless_one_lies_beside(tmp_path: Path) -> None:
    for name in ("cut", "told"):
        noise = np.random.default_rng(len(name)).integers(0, 256, (32, 32, 4), dtype=np.uint8)
        noise[..., 3] = 255
        noise[:8, :, 3] = 0
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    write_half_mask(tmp_path / "told.mask.png")
    Image.new("RGBA", (32, 32), (1, 2, 3, 0)).save(tmp_path / "void.png")
    data = read_concept_folder(tmp_path, 32, 32)
    assert data.names == ("cut.png", "told.png")
    assert data.masks[0] is not None and data.masks[0].mean() == 0.75 and data.masks[0][:8].max() == 0
    assert data.masks[1] is not None and data.masks[1].mean() == 0.5
    assert (data.images[0][:8] == 255).all(), "transparent parts show white"
    assert [used.mask for used in data.report.used] == ["its own transparency", "told.mask.png"]
    assert data.notes == ("left out void.png: is transparent all over",)


def test_bars_are_cut_off_with_their_part_of_the_mask(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(60, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(np.pad(noise, ((32, 32), (0, 0), (0, 0)))).save(tmp_path / "a.png")
    mask = np.zeros((64, 32), dtype=np.uint8)
    mask[16:32] = 255
    Image.fromarray(mask).save(tmp_path / "a.mask.png")
    data = read_concept_folder(tmp_path, 64, 64)
    assert data.report.used[0].content == (35, 93, 0, 64)
    assert data.images[0].min() > 0
    assert data.masks[0] is not None and data.masks[0].mean() == pytest.approx(0.5, abs=0.06)
    assert data.notes == ("a.png has plain bars at its sides; they were cut off, which left 64 x 58 pixels",)


def test_captions_come_from_the_table_unless_a_file_lies_beside(tmp_path: Path) -> None:
    for number, name in enumerate("abd"):
        write_picture(tmp_path / f"{name}.png", number)
    rows = ['{"file_name": "a.png", "text": "from the table"}', '{"file_name": "b.png", "caption": "not this"}']
    (tmp_path / "metadata.jsonl").write_text("\n".join([*rows, '{"file_name": "c.png", "text": "gone"}']))
    (tmp_path / "b.txt").write_text("from the file")
    (tmp_path / "d.txt").write_text(" \n")
    data = read_concept_folder(tmp_path, 32, 32)
    assert data.captions == ("from the table", "from the file", None)
    assert [used.caption for used in data.report.used] == ["metadata.jsonl", "b.txt", None]
    assert data.notes == ("d.txt is empty, so the template is used", "metadata.jsonl names c.png, which is not there")


def test_what_cannot_be_used_is_left_out_and_named_without_its_path(tmp_path: Path) -> None:
    write_picture(tmp_path / "good.png", 1)
    write_picture(tmp_path / "third.png", 2)
    Image.new("L", (32, 32)).save(tmp_path / "third.mask.png")
    (tmp_path / "good.mask.png").write_bytes(b"no mask")
    (tmp_path / "broken.png").write_bytes((tmp_path / "good.png").read_bytes()[:500])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "folder.png").mkdir()
    write_picture(tmp_path / "long.png", 3, (8, 40))
    write_picture(tmp_path / "other.gif", 4)
    data = read_concept_folder(tmp_path, 32, 32)
    assert data.names == ("good.png", "third.png") and data.masks == (None, None)
    reasons = {item.name: item.reason for item in data.report.left_out}
    assert list(reasons) == sorted(reasons)
    expected = {
        "broken.png": "damaged or cut off", "empty.jpg": "is empty", "folder.png": "is a folder",
        "good.mask.png": "not a PNG", "long.png": "40 x 8 pixels, too long", "loop.png": "leads back to itself",
        "other.gif": "save it as PNG", "third.mask.png": "nearly nothing in it is white",
    }  # fmt: skip
    assert reasons.keys() == expected.keys()
    assert all(words in reasons[name] for name, words in expected.items())
    assert str(tmp_path) not in json.dumps(data.report.record())


def test_the_same_picture_is_learnt_once(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    Image.open(tmp_path / "a.png").save(tmp_path / "c.webp", lossless=True)
    (tmp_path / "d.png").symlink_to("a.png")
    write_picture(tmp_path / "e.png", 1)
    data = read_concept_folder(tmp_path, 32, 32)
    assert data.names == ("a.png", "e.png")
    assert data.notes == tuple(f"left out {name}: shows the same as a.png" for name in ("b.png", "c.webp", "d.png"))


def test_small_plain_and_moving_pictures_are_used_and_remarked_on(tmp_path: Path) -> None:
    write_picture(tmp_path / "small.png", 1, (8, 8))
    Image.new("RGB", (32, 32), "red").save(tmp_path / "plain.png")
    frames = [Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)) for seed in (1, 2)]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    data = read_concept_folder(tmp_path, 32, 32)
    assert len(data) == 3 and np.array_equal(data.images[0], np.asarray(frames[0]))
    assert data.notes == (
        "moving.webp is animated; only its first frame is used",
        "plain.png shows one colour and nothing else, which teaches nothing",
        "small.png shows only 8 x 8 pixels and was enlarged 4.0 times; a larger one would teach more",
    )


@pytest.mark.parametrize(
    "name", ["-rf.png", "two\nlines.png", "\N{DOG} dog.png", "dog.v2.final.png", "x" * 247 + ".png"]
)
def test_odd_names_keep_what_lies_beside_them(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / name)
    (tmp_path / name).with_suffix(".txt").write_text("a dog")
    write_half_mask(tmp_path / "masks" / name)
    data = read_concept_folder(tmp_path, 32, 32)
    assert data.captions == ("a dog",) and data.masks[0] is not None and data.report.left_out == ()


def test_a_folder_where_no_picture_can_be_used_is_refused_with_the_reasons(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("x")
    with pytest.raises(FileError, match=r"holds no picture that can be used: left out a\.png: is not a PNG"):
        read_concept_folder(tmp_path, 32, 32)
    with pytest.raises(FileError, match="missing"):
        read_concept_folder(tmp_path / "missing", 32, 32)


def test_more_pictures_than_fit_into_memory_are_refused_before_one_is_decoded(tmp_path: Path) -> None:
    for number in range(400):
        (tmp_path / f"{number}.png").touch()
    with pytest.raises(InputError, match="400 pictures of this size need 4.7 GiB"):
        read_concept_folder(tmp_path, 2048, 2048)


@pytest.mark.parametrize("name", ["metadata.jsonl", "concept.yaml", "a.txt"])
def test_words_that_cannot_be_used_stop_the_reading(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / name).write_text("[" + "x" * 3000)
    with pytest.raises(InputError, match=name):
        read_concept_folder(tmp_path, 32, 32)
    if name != "a.txt":
        with pytest.raises(InputError, match=name):
            read_concept_words(tmp_path)


def test_words_are_read_without_decoding_a_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "concept.yaml").write_text("class_word: dog")
    assert read_concept_words(tmp_path).class_word == "dog"


def test_parts_that_do_not_belong_together_make_no_data() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    assert ConceptData(("a",), (image,), (None,), (None,)).sizes == ((4, 4),)
    for images, masks in (((), (None,)), ((image, image), (None,)), ((image,), (np.zeros((4, 5), np.float32),))):
        with pytest.raises(InputError, match="data"):
            ConceptData(("a",), images, (None,), masks)
    with pytest.raises(InputError, match="data"):
        ConceptData((), (), (), ())


def test_the_fingerprint_tells_every_change_of_what_is_learnt(tmp_path: Path) -> None:
    for number in range(2):
        write_picture(tmp_path / f"{number}.png", number)
    data, again = (read_concept_folder(tmp_path, 32, 32) for _ in range(2))
    assert data.fingerprint == again.fingerprint and len(data.fingerprint) == 64
    touched = data.images[0].copy()
    touched[0, 0, 0] ^= 1
    changes = [
        replace(data, images=(touched, data.images[1])),
        replace(data, images=data.images[::-1]),
        replace(data, captions=(None, "a dog")),
        replace(data, masks=(None, np.ones((32, 32), np.float32))),
        replace(data, names=("0.png", "2.png")),
    ]
    assert len({data.fingerprint, *(changed.fingerprint for changed in changes)}) == 6


@pytest.mark.parametrize("subject", ["dog6", "cat2", "backpack", "robot_toy"])
def test_a_folder_of_photographs_is_read_whole(outside_data: Path, subject: str) -> None:
    folder = outside_data / "photos" / subject
    if not folder.is_dir():
        pytest.skip(f"outside data: {folder} is not there")
    data = read_concept_folder(folder, 256, 256, plan_buckets(256, 256, 16))
    assert len(data) == len(list(folder.glob("*.jpg"))) and data.report.left_out == ()
    assert all(image.std() > 20 for image in data.images)
    assert set(data.sizes) <= set(plan_buckets(256, 256, 16))


def test_photographs_padded_to_a_square_lose_their_black_bars(outside_data: Path) -> None:
    folder = outside_data / "photos" / "cat2"
    if not folder.is_dir():
        pytest.skip(f"outside data: {folder} is not there")
    data = read_concept_folder(folder, 256, 256, plan_buckets(256, 256, 16))
    shapes = {used.name: used.bucket for used in data.report.used}
    assert shapes["00.jpg"] == shapes["04.jpg"] == (320, 208) and shapes["01.jpg"] == (208, 320)
    assert shapes["02.jpg"] == shapes["03.jpg"] == (256, 256)
    sides = np.concatenate([fit_image(data.images[0], 64, 64)[:, :2], fit_image(data.images[4], 64, 64)[:, -2:]])
    assert sides.mean() > 40
