import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from d2plan.errors import FileError, InputError
from d2plan.media.images import (
    _wrap,
    check_output,
    contact_sheet,
    fit_image,
    fit_mask,
    read_image,
    read_mask,
    write_file,
    write_png,
)


def _colours(height: int = 6, width: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_what_is_written_is_read_back_with_its_texts(tmp_path: Path) -> None:
    picture = _colours()
    write_png(tmp_path / "a.png", picture, {"scene": "höher\nand higher"})
    assert np.array_equal(read_image(tmp_path / "a.png"), picture)
    assert Image.open(tmp_path / "a.png").info["scene"] == "höher\nand higher"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_content_and_not_the_name_tells_the_format(tmp_path: Path) -> None:
    Image.fromarray(_colours()).save(tmp_path / "a.jpg", format="PNG")
    assert np.array_equal(read_image(tmp_path / "a.jpg"), _colours())


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_lossy_formats_come_close(tmp_path: Path, form: str) -> None:
    Image.new("RGB", (16, 8), (200, 40, 90)).save(tmp_path / "a", format=form, quality=95)
    picture = read_image(tmp_path / "a")
    assert picture.shape == (8, 16, 3)
    assert np.abs(picture.astype(int) - (200, 40, 90)).max() <= 6


def test_a_picture_is_turned_as_its_exif_data_say(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_colours()).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), np.rot90(_colours(), -1))


def test_transparent_parts_show_white_in_pictures_and_black_in_masks(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (2, 1), (255, 255, 255, 255))
    picture.putpixel((0, 0), (10, 20, 30, 0))
    picture.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[255] * 3, [255] * 3]]
    assert read_mask(tmp_path / "a.png").tolist() == [[0.0, 1.0]]


def test_a_half_transparent_pixel_is_mixed_with_white(tmp_path: Path) -> None:
    Image.new("LA", (1, 1), (0, 128)).save(tmp_path / "a.png")
    assert abs(int(read_image(tmp_path / "a.png")[0, 0, 0]) - 127) <= 1


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_palettes_cmyk_and_bits_become_colours(tmp_path: Path) -> None:
    palette = Image.new("P", (1, 1), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    palette.save(tmp_path / "p.png")
    palette.save(tmp_path / "t.png", transparency=1)
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=95)
    Image.new("1", (1, 1), 1).save(tmp_path / "b.png")
    assert read_image(tmp_path / "p.png").tolist() == [[[10, 200, 30]]]
    assert read_image(tmp_path / "t.png").tolist() == [[[255, 255, 255]]]
    red = read_image(tmp_path / "c.jpg")[0, 0].tolist()
    assert red[0] > 240 and red[1] < 16 and red[2] < 16
    assert read_image(tmp_path / "b.png").tolist() == [[[255, 255, 255]]]


def test_of_several_frames_the_first_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [255, 0, 0]


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("size", [(8000, 4001), (100_000, 100_000)])
def test_a_picture_with_too_many_pixels_is_refused_from_its_header(tmp_path: Path, size: tuple[int, int]) -> None:
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + _png_chunk(b"IDAT", zlib.compress(b"0" * 99)))
    with pytest.raises(FileError, match=r"bomb\.png.*pixels"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, form: str, part: float) -> None:
    buffer = io.BytesIO()
    Image.fromarray(_colours(64, 64)).save(buffer, format=form)
    whole = buffer.getvalue()
    (tmp_path / "cut.png").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(FileError, match=r"cut\.png"):
        read_image(tmp_path / "cut.png")


@pytest.mark.parametrize("content", [b"", b"hello", b"GIF89a" + b"\0" * 50, b"%PDF-1.4", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.png").write_bytes(content)
    with pytest.raises(FileError, match=r"notes\.png"):
        read_image(tmp_path / "notes.png")


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="regular file"):
        read_image(tmp_path)
    with pytest.raises(FileError, match=r"none\.png"):
        read_image(tmp_path / "none.png")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="missing"):
        write_file(tmp_path / "missing" / "a.txt", b"1")
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(FileError, match=r"a\.txt"):
        write_file(tmp_path / "a.txt", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_only_pictures_are_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="uint8"):
        write_png(tmp_path / "a.png", np.zeros((4, 4, 3), dtype=np.float32))
    assert not list(tmp_path.iterdir())


def test_fitting_cuts_the_middle_out_of_picture_and_mask_alike() -> None:
    picture = np.zeros((10, 30, 3), dtype=np.uint8)
    picture[:, 10:20] = 255
    assert (fit_image(picture, 10, 10) == 255).all()
    assert (fit_mask(picture[:, :, 0].astype(np.float32) / 255, 10, 10) == 1).all()
    assert fit_image(picture, 20, 20).shape == (20, 20, 3)


def test_a_sheet_holds_every_picture_and_its_label() -> None:
    pictures = [np.full((20, 30, 3), shade, dtype=np.uint8) for shade in (10, 60, 110)]
    sheet = contact_sheet(pictures, columns=2, labels=["one", "a very long label that cannot fit", ""])
    assert sheet.shape == (8 + 2 * (20 + 22 + 8), 8 + 2 * (30 + 8), 3)
    assert (sheet[8:28, 8:38] == 10).all() and (sheet[8:28, 46:76] == 60).all() and (sheet[58:78, 8:38] == 110).all()
    assert (sheet[28:50, 8:38] < 200).any(), "the label is drawn"
    assert (sheet[28:50, 39:45] == 255).all(), "a label stays in its cell"
    assert contact_sheet(pictures, columns=5).shape == (36, 8 + 3 * 38, 3)


def test_a_sheet_needs_pictures_and_as_many_labels() -> None:
    with pytest.raises(InputError):
        contact_sheet([])
    with pytest.raises(InputError):
        contact_sheet([_colours()], labels=["a", "b"])


def test_a_label_of_any_length_is_cut_at_once():
    picture = np.zeros((8, 100, 3), dtype=np.uint8)
    begun = time.perf_counter()
    contact_sheet([picture], labels=["i" * 1_000_000])
    assert time.perf_counter() - begun < 2


def test_an_output_that_is_there_is_refused_in_words_of_the_command_line(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(FileError, match="choose another name, or replace it with --overwrite.$"):
        check_output(tmp_path / "a.png")
    check_output(tmp_path / "a.png", overwrite=True)


def test_a_link_of_an_outputs_name_is_refused_and_asked_to_it_is_replaced_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"mine")
    for name in ("mine", "nowhere"):
        link = tmp_path / "a.png"
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / f"{name}.png")
        with pytest.raises(FileError, match="is there already"):
            check_output(link)
        write_file(link, b"ours")
        assert not link.is_symlink() and link.read_bytes() == b"ours"
    assert (tmp_path / "mine.png").read_bytes() == b"mine" and not (tmp_path / "nowhere.png").exists()


def test_a_label_may_take_several_lines_and_the_last_one_ends_in_dots():
    picture = np.zeros((8, 120, 3), dtype=np.uint8)
    font = ImageFont.load_default(14)
    said = "dog: sitting\ncat: wearing a red scarf and a hat"
    lines = _wrap(said, font, 120, 9)
    assert lines[0] == "dog: sitting" and " ".join(lines[1:]) == "cat: wearing a red scarf and a hat"
    assert all(font.getlength(line) <= 120 for line in lines)
    assert _wrap(said, font, 120, 2)[1].endswith("...") and _wrap("", font, 120, 2) == [""]
    one, several = (contact_sheet([picture] * 2, labels=["a", text], lines=9) for text in ("b", said))
    assert several.shape[0] - one.shape[0] == 18 * (len(lines) - 1)
    assert (several[-20:, 8:128] == 255).all() and (several[-30:, 136:] < 200).any()
