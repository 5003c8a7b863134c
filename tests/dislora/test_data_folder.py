import os
from pathlib import Path

import pytest

from d2plan.dislora.data_folder import list_folder
from d2plan.errors import FileError, InputError


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_each_picture_has_the_caption_and_mask_of_its_name(tmp_path: Path) -> None:
    _touch(
        tmp_path, "b.JPG", "a.png", "c.webp", "d.jfif", "a.txt", "b.caption", "a.mask.png", "masks/b.png", "masks/a.png"
    )
    files = list_folder(tmp_path)
    assert [path.name for path in files.pictures] == ["a.png", "b.JPG", "c.webp", "d.jfif"]
    assert {stem: path.name for stem, path in files.captions.items()} == {"a": "a.txt", "b": "b.caption"}
    assert files.masks == {"a": tmp_path / "a.mask.png", "b": tmp_path / "masks" / "b.png"}
    assert files.left_out == ()


def test_whatever_belongs_to_nothing_is_named_with_the_reason(tmp_path: Path) -> None:
    _touch(
        tmp_path, "a.png", "x.heic", "README.txt", "notes.md", "metadata.csv", "concept.yml", ".b.png", "more/c.png",
        "d.mask.png", "masks/e.png", "a.png.bak",
    )  # fmt: skip
    reasons = {item.name: item.reason for item in list_folder(tmp_path).left_out}
    assert reasons == {
        "x.heic": "save it as PNG, JPEG or WebP",
        "README.txt": "is the caption of no picture",
        "notes.md": "is no picture, caption or mask",
        "metadata.csv": "is not read; write metadata.jsonl",
        "concept.yml": "is not read; write concept.yaml",
        ".b.png": "is a hidden file",
        "more": "is a folder; pictures in it are not read",
        "d.mask.png": "is the mask of no picture",
        "masks/e.png": "is the mask of no picture",
        "a.png.bak": "is no picture, caption or mask",
    }


def test_what_systems_and_the_world_leave_behind_is_passed_over_in_silence(tmp_path: Path) -> None:
    _touch(tmp_path, "a.png", ".DS_Store", "._a.png", "Thumbs.db", "desktop.ini", "world.json", "concept.yaml")
    _touch(tmp_path, "metadata.jsonl", ".git/HEAD", "masks/.DS_Store", "preview/sheet.png")
    assert list_folder(tmp_path).left_out == ()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "it is empty"),
        (("notes.txt",), "it holds notes.txt"),
        (("10_sks dog/a.png",), "the folder 10_sks dog in it does, give that one"),
        (("masks/a.png", ".hidden.png"), "it holds masks"),
        (("two\nlines/a.png",), r"the folder two\\nlines in it does"),
    ],
)
def test_a_folder_without_pictures_says_what_it_holds(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    _touch(tmp_path, *names)
    with pytest.raises(FileError, match=f"holds no PNG, JPEG or WebP picture; {words}"):
        list_folder(tmp_path)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    _touch(tmp_path, "file.png")
    (tmp_path / "loop").symlink_to("loop")
    cases = {"missing": "no such folder", "file.png": "is a file", "loop": "cannot be read", "a\0b": "cannot be read"}
    for name, words in cases.items():
        with pytest.raises(FileError, match=words):
            list_folder(tmp_path / name)


def test_far_too_many_files_are_refused_before_they_are_looked_at(tmp_path: Path) -> None:
    for number in range(1001):
        os.mknod(tmp_path / f"{number}.png")
    with pytest.raises(InputError, match="holds 1001 pictures; .* at most 1000"):
        list_folder(tmp_path)
    (tmp_path / "1000.png").unlink()
    assert len(list_folder(tmp_path).pictures) == 1000
