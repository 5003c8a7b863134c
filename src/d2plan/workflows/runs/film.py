"""A film's record: what made it, and which of the parts in its folder it consists of, in their order."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from d2plan.errors import FileError
from d2plan.media.images import write_file

RECORD = "video.json"
_PARTS = ("keyframes", "segments")


@dataclass(frozen=True)
class FilmParts:
    """What a film consists of; other things in its folder belong to what it was before.

    Attributes:
        keyframes: the run folder of each beat.
        segments: the file with the frames from each keyframe to the next, the keyframes' own places counted.
    """

    keyframes: tuple[Path, ...]
    segments: tuple[Path, ...]


def write_film(folder: Path, text: str, keyframes: Sequence[Path], segments: Sequence[Path]) -> None:
    """Write a film's record.

    Args:
        folder: of the film's parts.
        text: a JSON object, what made the film.
        keyframes: run folders in it, in the order of the beats.
        segments: files in it, one fewer.

    Raises:
        FileError: it cannot be written.
    """
    parts = {
        name: [path.relative_to(folder).as_posix() for path in paths]
        for name, paths in zip(_PARTS, (keyframes, segments), strict=True)
    }
    content = json.dumps({**json.loads(text), **parts}, ensure_ascii=False)
    write_file(folder / RECORD, (content + "\n").encode())


def read_film(folder: Path) -> FilmParts | None:
    """Read which parts a film consists of.

    Args:
        folder: of the film's parts.

    Returns:
        The parts, which may have been taken away since; None where the record names none, as an older one.

    Raises:
        FileError: there is no record, or one that cannot be used.
    """
    path = folder / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        named = [content.get(name) for name in _PARTS]
        if named == [None, None]:
            return None
        keyframes, segments = (tuple(_find(folder, one) for one in names) for names in named)
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (ValueError, TypeError, AttributeError):
        raise FileError(f"{path}: is no record of a film; make the film again with `d2plan video`.") from None
    if len(segments) != len(keyframes) - 1:
        raise FileError(f"{path}: is no record of a film; make the film again with `d2plan video`.")
    return FilmParts(keyframes, segments)


def _find(folder: Path, name: str) -> Path:
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts:
        raise ValueError(name)
    return folder / inside
