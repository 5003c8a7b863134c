import io
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile

from d2plan.errors import FileError
from d2plan.media import decode
from d2plan.media.decode import decode_picture, read_bytes, turn_upright

CORNERS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]], [[0, 0, 0], [99, 99, 99]]], np.uint8)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(size: tuple[int, int], kind: int, depth: int, rows: bytes, *more: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, kind, 0, 0, 0))
    body = b"".join(more) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def _encoded(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, format=form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_turn_of_exif_is_undone_as_pillow_itself_does(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(CORNERS).save(tmp_path / "a.png", exif=exif)
    decoded = decode_picture(tmp_path / "a.png")
    inverse = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    mask = CORNERS[..., 0].astype(np.float32)
    assert decoded.stored == (3, 2) and decoded.orientation == orientation
    assert np.array_equal(turn_upright(decoded.pixels[..., 0].astype(np.float32), inverse), mask)
    assert np.array_equal(turn_upright(mask, orientation), decoded.pixels[..., 0])


def test_exif_data_that_are_damaged_or_say_nonsense_leave_the_picture_as_it_lies(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    for name, data in (("nonsense", exif.tobytes()), ("damaged", b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 40)):
        Image.fromarray(CORNERS).save(tmp_path / f"{name}.png", exif=data)
        assert np.array_equal(decode_picture(tmp_path / f"{name}.png").pixels, CORNERS)


def test_sixteen_bits_a_colour_keep_the_upper_eight(tmp_path: Path) -> None:
    values = struct.pack(">6H", 0, 0x12FF, 0x8000, 0xFFFF, 0x0100, 0x00FF)
    (tmp_path / "a.png").write_bytes(_png((2, 1), 2, 16, b"\0" + values))
    assert decode_picture(tmp_path / "a.png").pixels.tolist() == [[[0, 0x12, 0x80], [255, 1, 0]]]


def test_opacity_is_told_only_where_something_can_be_seen_through(tmp_path: Path) -> None:
    layer = Image.new("RGBA", (4, 2), (10, 20, 30, 255))
    layer.save(tmp_path / "solid.png")
    layer.putpixel((1, 0), (0, 0, 0, 51))
    layer.save(tmp_path / "glass.png")
    layer.save(tmp_path / "glass.webp", lossless=True)
    assert decode_picture(tmp_path / "solid.png").opacity is None
    for name in ("glass.png", "glass.webp"):
        decoded = decode_picture(tmp_path / name)
        assert decoded.opacity is not None
        assert decoded.opacity.shape == (2, 4) and decoded.opacity[0, 1] == pytest.approx(0.2)
        assert decoded.opacity.sum() == pytest.approx(7.2)
        assert decoded.pixels[0, 1].tolist() == [204, 204, 204], "one fifth of black over white"


def test_a_foreign_colour_profile_is_applied_and_a_damaged_one_passed_over(tmp_path: Path) -> None:
    grey = Image.new("RGB", (2, 2), (200, 100, 50))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"tmp_").replace(b"bXYZ", b"rXYZ").replace(b"tmp_", b"bXYZ")
    foreign = swapped.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    for name, profile in (("srgb", srgb), ("lab", lab), ("noise", b"\1" * 300)):
        grey.save(tmp_path / f"{name}.png", icc_profile=profile)
        assert decode_picture(tmp_path / f"{name}.png").pixels[0, 0].tolist() == [200, 100, 50], name
    grey.save(tmp_path / "foreign.png", icc_profile=foreign)
    red, green, blue = (int(value) for value in decode_picture(tmp_path / "foreign.png").pixels[0, 0])
    assert (abs(red - 50) <= 3, abs(green - 100) <= 3, abs(blue - 200) <= 3) == (True, True, True)


def test_a_phone_s_second_picture_is_no_animation(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (16, 8), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[second])
    first.save(tmp_path / "moving.webp", save_all=True, append_images=[second], lossless=True)
    phone, moving = decode_picture(tmp_path / "phone.jpg"), decode_picture(tmp_path / "moving.webp")
    assert (phone.animated, moving.animated) == (False, True)
    assert phone.pixels[0, 0, 0] > 240 and moving.pixels[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"GIF89a" + b"\0" * 50, "GIF"),
        (b"  <!DOCTYPE html><html>", "HTML"),
        (b"<svg xmlns='x'/>", "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"II*\0" + b"\0" * 9, "TIFF"),
        (b"%!PS-Adobe-3.0 EPSF", "not a PNG"),
        (b"SIMPLE  =                    T", "not a PNG"),
        (os.urandom(200), "not a PNG"),
    ],
)
def test_another_content_is_called_by_its_name(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(FileError, match=rf"a\.png: .*{words}") as caught:
        decode_picture(tmp_path / "a.png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "BMP", "PPM", "TGA", "PCX", "EPS", "DDS", "ICO", "SGI"])
def test_whole_pictures_of_other_formats_are_not_decoded_under_any_name(tmp_path: Path, form: str) -> None:
    (tmp_path / "a.png").write_bytes(_encoded(form))
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == form
    with pytest.raises(FileError, match=r"a\.png: is (a GIF|a TIFF|a BMP|not a PNG, JPEG or WebP picture)"):
        decode_picture(tmp_path / "a.png")


def test_texts_and_profiles_that_unpack_to_much_do_not(tmp_path: Path) -> None:
    packed, many = zlib.compress(b"x" * 8_000_000), zlib.compress(b"x" * 1_000_000)
    chunks = [_chunk(kind, b"k\0\0" + packed) for kind in (b"zTXt", b"iCCP")]
    # None of these is large, but together they are 70 MB.
    chunks.append(b"".join(_chunk(b"zTXt", b"k%d\0\0" % number + many) for number in range(70)))
    for chunk in chunks:
        (tmp_path / "a.png").write_bytes(_png((1, 1), 2, 8, b"\0abc", chunk))
        with pytest.raises(FileError, match=r"a\.png: is damaged"):
            decode_picture(tmp_path / "a.png")


BOMBS = {
    "huge": _png((30_000, 30_000), 2, 8, b"\0"),
    "wide": _png((2**31 - 1, 1), 2, 8, b"\0"),
    "none": _png((0, 5), 2, 8, b"\0"),
    "over": _png((8000, 4001), 0, 1, b"\0"),
    # Between the size of which Pillow warns and the one that it refuses.
    "warned": _png((12_000, 12_000), 2, 8, b"\0"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_from_its_header_in_little_memory(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").write_bytes(BOMBS[name])
    code = (
        "import resource, sys\n"
        "from d2plan.media.decode import decode_picture\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20,) * 2)\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (10, 10))\n"
        "try:\n    decode_picture(sys.argv[1])\n"
        "except OSError as error:\n    print(error)\n"
    )
    if not Path("/proc/self/statm").exists():
        pytest.skip("/proc is not there, so memory cannot be bounded")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.png")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "pixels" in done.stdout or "damaged" in done.stdout or "not a PNG" in done.stdout


def _many_frames(form: str, count: int) -> bytes:
    """Make an animation of very many frames of 2 x 2 pixels without encoding each."""
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, format=form, save_all=True, append_images=frames[1:], lossless=True)
    content = buffer.getvalue()
    if form == "WEBP":
        start = content.rindex(b"ANMF")
        body = content[:start] + content[start:] * (count - 1)
        return body[:4] + struct.pack("<I", len(body) - 8) + body[8:]
    start, end = content.rindex(b"fcTL") - 4, content.rindex(b"IEND") - 4
    sizes = struct.unpack(">IIIIHHBB", content[start + 12 : start + 34])
    data = content[content.index(b"fdAT") + 8 : end - 4]
    control = struct.pack(">IIIIHHBB", *sizes)
    parts = [
        _chunk(b"fcTL", struct.pack(">I", 2 * number - 1) + control)
        + _chunk(b"fdAT", struct.pack(">I", 2 * number) + data)
        for number in range(1, count)
    ]
    where = content.index(b"acTL") - 4
    told = _chunk(b"acTL", struct.pack(">II", count, 0))
    return content[:where] + told + content[where + 20 : start] + b"".join(parts) + content[end:]


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_of_a_hundred_thousand_frames_the_first_is_taken_at_once(tmp_path: Path, form: str) -> None:
    (tmp_path / "a.png").write_bytes(_many_frames(form, 100_000))
    begun = time.process_time()
    decoded = decode_picture(tmp_path / "a.png")
    assert time.process_time() - begun < 5
    assert decoded.animated and decoded.pixels.tolist() == [[[255, 0, 0]] * 2] * 2


@pytest.mark.parametrize("size", [2**36, 40, 0], ids=["grown", "cut", "emptied"])
def test_a_file_that_changes_while_it_is_read_is_read_as_it_was_or_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    Image.fromarray(CORNERS).save(tmp_path / "a.png")
    real = os.fstat

    def change(handle: int) -> os.stat_result:
        details = real(handle)
        os.truncate(tmp_path / "a.png", size)
        return details

    monkeypatch.setattr(decode.os, "fstat", change)
    if size > 2**30:
        assert np.array_equal(decode_picture(tmp_path / "a.png").pixels, CORNERS)
    else:
        with pytest.raises(FileError, match=r"a\.png: is (damaged|empty|not a PNG)"):
            decode_picture(tmp_path / "a.png")


def test_a_picture_of_a_thousand_to_one_is_read(tmp_path: Path) -> None:
    Image.new("L", (10_290, 10), 7).save(tmp_path / "a.png")
    assert decode_picture(tmp_path / "a.png").pixels.shape == (10, 10_290, 3)


def test_only_regular_files_are_opened_and_none_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    here = os.getcwd()
    os.chdir(tmp_path)  # the name of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as plug:
            plug.bind("plug.png")
            expected = {
                "pipe": "not a regular file", "folder": "folder", "loop": "leads back to itself",
                "gone": "file that is not there", "device": "not a regular file", "plug": "not a regular file",
            }  # fmt: skip
            for name, words in expected.items():
                with pytest.raises(FileError, match=rf"{name}\.png: .*{words}"):
                    decode_picture(f"{name}.png")
    finally:
        os.chdir(here)
    with pytest.raises(FileError, match="null"):
        decode_picture("a\0b.png")


def test_a_link_to_a_picture_is_followed(tmp_path: Path) -> None:
    Image.fromarray(CORNERS).save(tmp_path / "real.png")
    (tmp_path / "link.png").symlink_to("real.png")
    assert np.array_equal(decode_picture(tmp_path / "link.png").pixels, CORNERS)


def test_a_file_without_permission_is_named() -> None:
    # The superuser may read every file, so he becomes nobody for a moment; pytest's own folders are closed to nobody.
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        path.write_bytes(_encoded("PNG"))
        path.chmod(0)
        Path(folder).chmod(0o755)
        try:
            if user == 0:
                os.seteuid(65534)
            with pytest.raises(FileError, match=r"a\.png: cannot be read"):
                decode_picture(path)
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("name", ["-rf.png", "a b.png", "two\nlines.png", "\N{DOG}.png", "x" * 251 + ".png"])
def test_odd_names_are_names(tmp_path: Path, name: str) -> None:
    Image.fromarray(CORNERS).save(tmp_path / name)
    assert decode_picture(tmp_path / name).pixels.shape == (3, 2, 3)


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    with open(tmp_path / "sparse.png", "wb") as stream:
        stream.truncate(2**36)
    with pytest.raises(FileError, match="larger than 256 MiB"):
        decode_picture(tmp_path / "sparse.png")
    (tmp_path / "a.txt").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a.txt", 5) == b"12345"
    with pytest.raises(FileError, match="larger"):
        read_bytes(tmp_path / "a.txt", 4)


@given(data=st.data(), form=st.sampled_from(["PNG", "JPEG", "WEBP"]))
def test_damaged_bytes_end_in_a_picture_or_in_the_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, form: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = bytearray(_encoded(form, exif=exif))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    path.write_bytes(content)
    try:
        decoded = decode_picture(path)
    except FileError as error:
        assert "damaged.png: " in str(error) and "\n" not in str(error)
    else:
        assert decoded.pixels.dtype == np.uint8 and decoded.pixels.shape[2] == 3


def test_cut_off_pictures_are_never_completed_by_guessing() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_memory_stays_within_a_few_copies_of_the_picture(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 1500), (9, 9, 9)).save(tmp_path / "a.png")
    code = (
        "import resource, sys\n"
        "from d2plan.media.decode import decode_picture\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "decode_picture(sys.argv[1])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], capture_output=True, check=True)
    unit = 1024 if sys.platform != "darwin" else 1
    assert int(done.stdout) * unit < 6 * 2000 * 1500 * 3, "3 megapixels are 9 MB as RGB"
