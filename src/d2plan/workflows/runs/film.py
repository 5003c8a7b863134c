"""A film's record: what made it, and which of the parts in its folder it consists of, in their order."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from d2plan.errors import FileError
from d2plan.media.images import write_file
from d2plan.workflows.runs.folder import IMAGE

RECORD = "video.json"


@dataclass(frozen=True)
class FilmParts:
    """What a film consists of; other things in its folder belong to what it was before.

    Attributes:
        keyframes: the run folder of each beat, with the SHA-256 of its picture.
        segments: the file with the frames from each keyframe to the next, the keyframes' own places counted.
    """

    keyframes: Mapping[Path, str]
    segments: tuple[Path, ...]

    @property
    def whole(self) -> bool:
        """All parts are there, and the keyframes are those between which the frames were made."""
        fits = all(_read_digest(folder) == digest for folder, digest in self.keyframes.items())
        return fits and all(path.is_file() for path in self.segments)


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
    content = json.loads(text) | {
        "keyframes": {path.relative_to(folder).as_posix(): _read_digest(path) for path in keyframes},
        "segments": [path.relative_to(folder).as_posix() for path in segments],
    }
    write_file(folder / RECORD, (json.dumps(content, ensure_ascii=False) + "\n").encode())


def read_film(folder: Path) -> FilmParts | None:
    """Read which parts a film consists of.

    Args:
        folder: of the film's parts.

    Returns:
        The parts, which may have been changed since (``FilmParts.whole``); None where the record names none, as an
        older one.

    Raises:
        FileError: there is no record, or one that cannot be used.
    """
    path = folder / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not {"keyframes", "segments"} & content.keys():
            return None
        keyframes = {_find(folder, name): str(digest) for name, digest in content["keyframes"].items()}
        segments = tuple(_find(folder, name) for name in content["segments"])
        if not len(segments) == len(keyframes) - 1 > 0:
            raise ValueError(len(segments))
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (ValueError, TypeError, AttributeError, KeyError):
        raise FileError(f"{path}: is no record of a film; make the film again with `d2plan video`.") from None
    return FilmParts(keyframes, segments)


def _read_digest(keyframe: Path) -> str | None:
    picture = keyframe / IMAGE
    return hashlib.sha256(picture.read_bytes()).hexdigest() if picture.is_file() else None


def _find(folder: Path, name: str) -> Path:
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts:
        raise ValueError(name)
    return folder / inside
