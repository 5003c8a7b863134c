"""Decode pictures that come from anywhere: the file is checked first, and every mode becomes RGB by one rule."""

import errno
import hashlib
import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, features

from d2plan.errors import FileError

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 32_000_000
MAX_BYTES = 256 * 2**20
MAX_PROFILE_BYTES = 4 * 2**20
WHITE, BLACK = 255, 0

Picture = NDArray[np.uint8]

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OTHER_CONTENTS = (
    (b"version https://git-lfs", "is a Git LFS pointer and not the picture itself; run git lfs pull"),
    (b"GIF8", "is a GIF; save it as PNG, JPEG or WebP"),
    (b"II*\0", "is a TIFF; save it as PNG, JPEG or WebP"),
    (b"MM\0*", "is a TIFF; save it as PNG, JPEG or WebP"),
    (b"BM", "is a BMP; save it as PNG, JPEG or WebP"),
    (b"8BPS", "is a Photoshop file; save it as PNG, JPEG or WebP"),
    (b"%PDF", "is a PDF; save its picture as PNG, JPEG or WebP"),
    (b"<", "is a text of HTML, SVG or XML and not a picture; download it again or save it as PNG"),
)


@dataclass(frozen=True, eq=False)
class DecodedPicture:
    """A picture as people would see it, with what its file tells besides.

    Attributes:
        pixels: ``[h w 3]``, 0..255; transparent parts over one grey.
        opacity: ``[h w]``, 0..1; None when nothing can be seen through.
        stored: height and width before the picture was turned as EXIF says, pixels.
        orientation: EXIF's number, 1..8; 1 is upright.
        animated: it holds further frames, which were not read.
        digest: SHA-256 of the file's bytes, hexadecimal.
    """

    pixels: Picture
    opacity: NDArray[np.float32] | None
    stored: tuple[int, int]
    orientation: int
    animated: bool
    digest: str


def decode_picture(path: str | Path, background: int = WHITE) -> DecodedPicture:
    """Read and decode a picture.

    The file is opened once and must be a regular one; the format is taken from its content, never from its name;
    its size is checked from the header before anything is decoded. Then, in this order: of several frames the first;
    16 bits to 8; a colour profile other than sRGB (RGB or CMYK) applied; palettes, greys and CMYK to RGB; transparent
    parts over ``background``; turned as EXIF says.

    Args:
        path: a PNG, JPEG or WebP file.
        background: the grey behind transparent parts, 0..255.

    Returns:
        The picture.

    Raises:
        FileError: missing, not a regular file, empty, another format, too many pixels or bytes, or damaged.
    """
    source = Path(path)
    content = read_bytes(source)
    if not content:
        raise FileError(f"{source}: is empty (0 bytes); save it again.")
    try:
        with warnings.catch_warnings():
            # Pillow warns of what is checked here more strictly (size) or mended by rule (EXIF, palettes).
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                _check_size(source, picture)
                return _bring_to_rgb(picture, background, hashlib.sha256(content).hexdigest())
    except FileError:
        raise
    except Image.UnidentifiedImageError as error:
        raise FileError(f"{source}: {_name_content(content)}.") from error
    except Image.DecompressionBombError as error:
        raise FileError(f"{source}: has more than {MAX_PIXELS:,} pixels; make it smaller.") from error
    except MemoryError as error:
        raise FileError(f"{source}: needs more memory than there is; make it smaller.") from error
    # Damaged bytes come out of Pillow's parsers as a dozen kinds of error, struct.error and IndexError among them.
    except Exception as error:
        raise FileError(f"{source}: is damaged or cut off and cannot be decoded; save it again.") from error


def read_bytes(path: Path, most: int = MAX_BYTES, wanted: str = "a PNG, JPEG or WebP picture") -> bytes:
    """Read a regular file whole; a pipe, a device or an endless file ends in an error, not in waiting.

    Args:
        path: the file; a symbolic link is followed.
        most: bytes that it may hold.
        wanted: what errors ask for instead.

    Returns:
        Its bytes.

    Raises:
        FileError: missing, not a regular file, unreadable or too large.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer; what was opened is what is checked and read.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as stream:
            details = os.fstat(stream.fileno())
            if not stat.S_ISREG(details.st_mode):
                raise FileError(f"{path}: is not a regular file; give {wanted}.")
            # Room is made for all that is asked for, so ask for no more than the file says it holds.
            content = stream.read(details.st_size + 1) if details.st_size <= most else None
    except FileError:
        raise
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: {_tell_why(path, error, wanted)}.") from error
    if content is None or len(content) > most:
        raise FileError(f"{path}: is larger than {most // 2**20} MiB; make it smaller.")
    return content


def turn_upright(array: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Turn a mask as EXIF turns the picture that it was drawn for.

    Args:
        array: ``[h w]``.
        orientation: EXIF's number, 1..8.

    Returns:
        The mask, turned.
    """
    turn = _TURNS.get(orientation)
    return array if turn is None else np.asarray(Image.fromarray(array).transpose(turn))


def _tell_why(path: Path, error: OSError | ValueError, wanted: str) -> str:
    code = getattr(error, "errno", None)
    if code == errno.ELOOP:
        return "is a symbolic link that leads back to itself; put the file there"
    if code == errno.ENOENT and path.is_symlink():
        return "is a symbolic link to a file that is not there; put the file there"
    if code == errno.EISDIR or (code == errno.EACCES and path.is_dir()):
        return f"is a folder and not a regular file; give {wanted}"
    if code in (errno.ENXIO, errno.ENODEV):
        return f"is a socket or device and not a regular file; give {wanted}"
    return f"cannot be read ({getattr(error, 'strerror', None) or error})"


def _name_content(content: bytes) -> str:
    if content[4:8] == b"ftyp":
        return "is a HEIC, AVIF or video file; save it as PNG, JPEG or WebP"
    head = content[:64].lstrip()
    for mark, meaning in _OTHER_CONTENTS:
        if head.startswith(mark):
            return meaning
    return "is not a PNG, JPEG or WebP picture"


def _check_size(path: Path, picture: Image.Image) -> None:
    width, height = picture.size
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise FileError(f"{path}: is {width} x {height} pixels; the limit is {MAX_PIXELS:,}. Make it smaller.")


def _bring_to_rgb(picture: Image.Image, background: int, digest: str) -> DecodedPicture:
    # A phone's JPEG may carry a second picture (depth, gain map) behind the first; that is no animation.
    animated = picture.format != "MPO" and bool(getattr(picture, "is_animated", False))
    picture.load()
    orientation = _read_orientation(picture)
    profile = picture.info.get("icc_profile")
    whole = _reduce_bits(picture)
    opacity = None
    if whole.has_transparency_data:
        layer = whole.convert("RGBA")
        alpha = np.asarray(layer.getchannel("A"))
        ground = Image.new("RGBA", layer.size, (background, background, background, 255))
        whole = Image.alpha_composite(ground, _apply_profile(layer, profile)).convert("RGB")
        opacity = alpha.astype(np.float32) / np.float32(255) if alpha.min() < 255 else None
    else:
        whole = _apply_profile(whole, profile)
        whole = whole if whole.mode == "RGB" else whole.convert("RGB")
    turn = _TURNS.get(orientation)
    pixels = np.asarray(whole if turn is None else whole.transpose(turn))
    if opacity is not None:
        opacity = turn_upright(opacity, orientation)
    return DecodedPicture(pixels, opacity, (picture.height, picture.width), orientation, animated, digest)


def _read_orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    # Damaged EXIF data say nothing about the pixels; the picture is taken as it lies.
    except Exception:
        return 1
    return value if value in _TURNS else 1


def _reduce_bits(picture: Image.Image) -> Image.Image:
    if not picture.mode.startswith("I"):
        return picture
    # Greys of 16 bits: Pillow's own conversion would cut them off at 255.
    values = np.asarray(picture).astype(np.int64).clip(0, 65535)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _apply_profile(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Bring colours to sRGB; a profile that is damaged, or made for another mode, is passed over."""
    if not profile or len(profile) > MAX_PROFILE_BYTES or picture.mode not in ("RGB", "RGBA", "CMYK"):
        return picture
    if not features.check("littlecms2"):
        return picture
    try:
        own = ImageCms.getOpenProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(own):
            return picture
        mode = "RGBA" if picture.mode == "RGBA" else "RGB"
        mended = ImageCms.profileToProfile(picture, own, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return picture
    if mended is None:
        return picture
    if mode == "RGBA":
        mended.putalpha(picture.getchannel("A"))
    return mended
