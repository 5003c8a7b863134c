"""Animated pictures with every frame kept: Pillow encodes each frame, and here the parts are put into one file.

Pillow's own writers merge frames that look the same, so a video of 16 frames could come out with 14.
"""

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from d2plan.errors import InputError

_PNG_START = b"\x89PNG\r\n\x1a\n"
_MOST_UNIT = 65535


def check_pace(rate: Fraction, suffix: str) -> None:
    """Refuse a rate that a format cannot hold.

    Args:
        rate: frames a second.
        suffix: of the file's name; formats that hold any rate may be named too.

    Raises:
        InputError: the rate cannot be written.
    """
    if suffix == ".gif" and rate > 50:
        raise InputError(f"rate is {rate}, but a GIF shows at most 50 frames a second; use .mp4, .webp or .png.")
    if suffix in (".png", ".apng") and max(rate.numerator, rate.denominator) > _MOST_UNIT:
        raise InputError(f"rate is {rate}, which an animated PNG cannot hold; use a rounder one.")


def write_apng(frames: NDArray[np.uint8], rate: Fraction, text: str, keyword: str) -> bytes:
    """Write an animated PNG: without loss, with its rate exact.

    Args:
        frames: ``[f, h, w, 3]``.
        rate: frames a second.
        text: kept inside.
        keyword: the text's name.

    Returns:
        The file's bytes.

    Raises:
        InputError: the rate cannot be written.
    """
    check_pace(rate, ".png")
    info = PngImagePlugin.PngInfo()
    info.add_itxt(keyword, text)
    parts, number = [_PNG_START], 0
    height, width = frames.shape[1:3]
    for index, frame in enumerate(frames):
        chunks = list(_png_chunks(_save(frame, "PNG", pnginfo=info if index == 0 else None)))
        if index == 0:
            parts += [_png_chunk(kind, body) for kind, body in chunks if kind in (b"IHDR", b"iTXt")]
            parts.append(_png_chunk(b"acTL", struct.pack(">II", len(frames), 0)))
        control = struct.pack(">IIIIIHHBB", number, width, height, 0, 0, rate.denominator, rate.numerator, 0, 0)
        parts.append(_png_chunk(b"fcTL", control))
        number += 1
        for body in (body for kind, body in chunks if kind == b"IDAT"):
            if index == 0:
                parts.append(_png_chunk(b"IDAT", body))
            else:
                parts.append(_png_chunk(b"fdAT", struct.pack(">I", number) + body))
                number += 1
    parts.append(_png_chunk(b"IEND", b""))
    return b"".join(parts)


def write_gif(frames: NDArray[np.uint8], rate: Fraction, text: str) -> bytes:
    """Write a GIF; where its hundredths of a second do not divide the rate, single frames stand one longer.

    Args:
        frames: ``[f, h, w, 3]``; each gets 256 colours of its own.
        rate: frames a second, at most 50: programs show shorter frames slowly.
        text: kept inside as a comment.

    Returns:
        The file's bytes.

    Raises:
        InputError: the rate is too high.
    """
    check_pace(rate, ".gif")
    height, width = frames.shape[1:3]
    parts = [b"GIF89a", struct.pack("<HHBBB", width, height, 0x70, 0, 0)]
    parts.append(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
    content = text.encode()
    blocks = [content[start : start + 255] for start in range(0, len(content), 255)]
    parts += [b"\x21\xfe", *(bytes([len(block)]) + block for block in blocks), b"\x00"]
    for frame, pause in zip(frames, spread_pauses(len(frames), rate, 100), strict=True):
        colours = Image.fromarray(frame).quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        palette, image = _gif_parts(_save_image(colours, "GIF", optimize=False, interlace=0))
        parts.append(b"\x21\xf9\x04\x00" + struct.pack("<H", pause) + b"\x00\x00")
        parts.append(image[:9] + bytes([0x80 | (len(palette) // 3).bit_length() - 2]) + palette + image[10:])
    parts.append(b"\x3b")
    return b"".join(parts)


def write_webp(frames: NDArray[np.uint8], rate: Fraction, text: str) -> bytes:
    """Write an animated WebP; where its milliseconds do not divide the rate, single frames stand one longer.

    Args:
        frames: ``[f, h, w, 3]``.
        rate: frames a second.
        text: kept inside as XMP.

    Returns:
        The file's bytes.
    """
    height, width = frames.shape[1:3]
    size = _number24(width - 1) + _number24(height - 1)
    parts = [_riff(b"VP8X", b"\x06\x00\x00\x00" + size), _riff(b"ANIM", b"\x00\x00\x00\x00\x00\x00")]
    for frame, pause in zip(frames, spread_pauses(len(frames), rate, 1000), strict=True):
        # After "RIFF", the size and "WEBP"; a picture without transparency and metadata is one chunk.
        picture = _save(frame, "WEBP", quality=90, method=4)[12:]
        head = _number24(0) + _number24(0) + size + _number24(pause) + b"\x02"
        parts.append(_riff(b"ANMF", head + picture))
    parts.append(_riff(b"XMP ", text.encode()))
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def spread_pauses(count: int, rate: Fraction, unit: int) -> list[int]:
    """Give each frame a whole number of time units, so that no frame begins more than half a unit off.

    >>> spread_pauses(4, Fraction(8), 100)
    [12, 13, 13, 12]

    Args:
        count: of frames.
        rate: frames a second.
        unit: units in a second.

    Returns:
        One number for each frame, at least 1.
    """
    begins = [round(index * unit / rate) for index in range(count + 1)]
    return [max(1, after - before) for before, after in zip(begins, begins[1:], strict=False)]


def _save(frame: NDArray[np.uint8], kind: str, **settings: object) -> bytes:
    return _save_image(Image.fromarray(np.ascontiguousarray(frame)), kind, **settings)


def _save_image(image: Image.Image, kind: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **settings)
    return buffer.getvalue()


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_PNG_START)
    while place < len(content):
        (length,) = struct.unpack_from(">I", content, place)
        yield content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        place += 12 + length


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _gif_parts(content: bytes) -> tuple[bytes, bytes]:
    """Find the palette and the image block of a GIF of one frame."""
    size = 2 << (content[10] & 7)
    palette = content[13 : 13 + 3 * size]
    place = 13 + 3 * size
    while content[place : place + 1] == b"\x21":
        place += 2
        while content[place]:
            place += content[place] + 1
        place += 1
    # Up to the trailer.
    return palette, content[place:-1]


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\x00" * (len(body) % 2)


def _number24(value: int) -> bytes:
    return struct.pack("<I", value)[:3]


def join_animation(frames: NDArray[np.uint8], rate: Fraction, text: str, suffix: str, keyword: str) -> bytes:
    """Write frames in the format that a file's name asks for.

    Args:
        frames: ``[f, h, w, 3]``.
        rate: frames a second.
        text: kept inside.
        suffix: ".png", ".apng", ".gif" or ".webp".
        keyword: the text's name where the format has names.

    Returns:
        The file's bytes.
    """
    if suffix == ".gif":
        return write_gif(frames, rate, text)
    if suffix == ".webp":
        return write_webp(frames, rate, text)
    return write_apng(frames, rate, text, keyword)


def list_pauses(image: Image.Image) -> Sequence[float]:
    """Read how long each frame of an animated picture stands.

    Args:
        image: opened by Pillow.

    Returns:
        Milliseconds, one for each frame.
    """
    pauses = []
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        image.load()
        pauses.append(float(image.info.get("duration", 0)))
    return pauses
