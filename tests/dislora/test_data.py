from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2plan.dislora.data import check_template, read_concept_folder, read_concept_words
from d2plan.errors import FileError, InputError


def _picture(path: Path, shade: int = 90, size: tuple[int, int] = (32, 32)) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(path)


def _half_mask(path: Path, size: tuple[int, int] = (32, 32)) -> None:
    path.parent.mkdir(exist_ok=True)
    mask = np.zeros((size[1], size[0]), dtype=np.uint8)
    mask[:, : size[0] // 2] = 255
    Image.fromarray(mask).save(path)


def test_pictures_come_in_the_order_of_their_names_with_what_lies_beside(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        _picture(tmp_path / f"{number:02}.png", shade=number)
    (tmp_path / "00.txt").write_text("a dog\n  running ")
    _half_mask(tmp_path / "01.mask.png")
    _half_mask(tmp_path / "masks" / "02.png")
    (tmp_path / "concept.yaml").write_text('class_word: dog\nidentifier: "<v1>"\ntemplate: a picture of a {}\n')
    (tmp_path / "world.json").write_text("{}")
    data = read_concept_folder(tmp_path, 32, 32)
    assert data.names == ("00.png", "01.png", "02.png")
    assert data.images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert data.captions == ("a dog running", None, None)
    assert data.masks[0] is None
    assert data.masks[1] is not None and data.masks[1].mean() == 0.5
    assert data.masks[2] is not None and data.masks[2][0, 0] == 1 and data.masks[2][0, -1] == 0
    assert (data.words.class_word, data.words.identifier, data.words.template) == ("dog", "<v1>", "a picture of a {}")
    assert data.notes == ()
    assert data.summary == "3 pictures, 1 captions, 2 masks"


def test_pictures_and_masks_are_brought_to_the_base_size(tmp_path: Path) -> None:
    _picture(tmp_path / "a.jpg", size=(100, 40))
    _half_mask(tmp_path / "a.mask.png", size=(100, 40))
    data = read_concept_folder(tmp_path, 64, 64)
    assert data.images.shape == (1, 64, 64, 3)
    assert data.masks[0] is not None and data.masks[0].shape == (64, 64)
    assert data.masks[0].mean() == pytest.approx(0.5, abs=0.02)


def test_captions_come_from_the_table_unless_a_file_lies_beside(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _picture(tmp_path / f"{name}.png")
    rows = ['{"file_name": "a.png", "text": "from the table"}', "", '{"file_name": "b.png", "caption": "not this"}']
    (tmp_path / "metadata.jsonl").write_text("\n".join([*rows, '{"file_name": "c.png", "text": "gone"}']))
    (tmp_path / "b.txt").write_text("from the file")
    data = read_concept_folder(tmp_path, 32, 32)
    assert data.captions == ("from the table", "from the file")
    assert data.notes == ("metadata.jsonl names c.png, which is not there",)


def test_what_cannot_be_used_is_left_out_and_named(tmp_path: Path) -> None:
    _picture(tmp_path / "good.png")
    _half_mask(tmp_path / "good.mask.png", size=(16, 16))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    _picture(tmp_path / "other.gif")
    _picture(tmp_path / "third.png")
    Image.new("L", (32, 32)).save(tmp_path / "third.mask.png")
    data = read_concept_folder(tmp_path, 32, 32)
    assert data.names == ("good.png", "third.png")
    assert data.masks == (None, None)
    notes = " | ".join(data.notes)
    assert "broken.png" in notes and "other.gif" in notes
    assert "good.mask.png: it is 16 x 16 pixels" in notes and "third.mask.png: nearly nothing" in notes


@pytest.mark.parametrize("folder", ["missing", "empty", "file.txt", "texts", "broken"])
def test_a_folder_without_a_picture_is_refused_by_name(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.txt").write_text("x")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_text("x")
    with pytest.raises(FileError, match=folder):
        read_concept_folder(tmp_path / folder, 32, 32)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.jsonl", "{"),
        ("metadata.jsonl", "[1]"),
        ("metadata.jsonl", '{"file_name": "a.png"}'),
        ("concept.yaml", "- dog"),
        ("concept.yaml", "class_word: [dog"),
        ("concept.yaml", "class_word: 7"),
        ("concept.yaml", "template: no place in here"),
        ("a.txt", "x" * 3000),
    ],
)
def test_a_file_beside_that_cannot_be_used_is_named(tmp_path: Path, name: str, content: str) -> None:
    _picture(tmp_path / "a.png")
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        read_concept_folder(tmp_path, 32, 32)


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match=r"a\.txt"):
        read_concept_folder(tmp_path, 32, 32)


def test_a_misspelt_word_field_is_noted_with_the_nearest(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    (tmp_path / "concept.yaml").write_text("clas_word: dog")
    assert read_concept_words(tmp_path).class_word is None
    notes = read_concept_folder(tmp_path, 32, 32).notes
    assert notes == ("concept.yaml: clas_word is not used; did you mean class_word?",)


def test_a_template_has_one_place_for_the_class_word() -> None:
    check_template("a photo of a {}")
    with pytest.raises(InputError, match="template"):
        check_template("{} and {}")


def test_a_folder_of_photographs_is_read_whole(outside_data: Path) -> None:
    data = read_concept_folder(outside_data / "photos" / "dog6", 64, 64)
    assert data.images.shape == (5, 64, 64, 3) and data.notes == ()
    assert data.images.std(axis=(1, 2, 3)).min() > 20


@pytest.mark.parametrize("text", ["class_word: 2020-13-45", "class_word: dog\nclass_word: cat"])
def test_a_date_that_is_none_and_a_key_written_twice_are_told(tmp_path, text):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "concept.yaml").write_text(text)
    with pytest.raises(InputError, match="concept.yaml is not readable as YAML"):
        read_concept_folder(tmp_path, 16, 16)
