"""Folders of the world: a concept like a user's, scenes with their truth, and clips."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from d2plan.errors import D2PlanError, FileError, InputError
from d2plan.world.caption import Caption, write_caption
from d2plan.world.cast import CLASSES, identity_from_seed
from d2plan.world.clip import clip_frames, sample_clip
from d2plan.world.portraits import sample_portraits
from d2plan.world.scene import Json, WorldScene, sample_scene, scene_to_json
from d2plan.world.seeds import DEVELOPMENT_SEEDS, TEST_SEEDS, stream_rng
from d2plan.world.truth import Truth, render

TRUTH_FILE = "world.json"
MOST_IMAGES = 1000
# All that these functions and the command line write; an --overwrite deletes nothing else.
_OWN_FILES = re.compile(r"\d+(\.\d+)?(\.mask)?\.(png|txt|json)|world\.json|concept\.yaml|sheet\.png|clip\.(gif|webp)")
_OWN_FOLDERS = ("preview", "depth")
_PART = ".part"
_FRAME_MILLISECONDS = 60
_HOLD_MILLISECONDS = 500


def write_concept(
    out: str | Path, class_word: str, seed: int, count: int = 16, size: int = 128, overwrite: bool = False
) -> Path:
    """Write a concept's folder like a user's: pictures of one character, with captions and masks beside them.

    The folder holds ``00.png``, ``00.txt`` (caption), ``00.mask.png`` (the character is white) and so on,
    ``concept.yaml`` (class word and name) and ``world.json`` (seed, identity and the scene of each picture).

    Args:
        out: the folder to make.
        class_word: one of the world's classes.
        seed: which character, 0..99,999; seeds from 50,000 on are kept for tests.
        count: of pictures.
        size: height and width in pixels.
        overwrite: whether a folder that was written by this function may be replaced.

    Returns:
        The folder.

    Raises:
        InputError: the class is unknown, or the seed, count or size is out of range.
        FileError: the folder is not empty or cannot be written.
    """
    _check_range("count", count, 1, MOST_IMAGES)
    _check_range("seed", seed, DEVELOPMENT_SEEDS[0], TEST_SEEDS[-1])
    identity = identity_from_seed(class_word, seed)
    rng = stream_rng("context", CLASSES.index(class_word), seed)
    name = f"{class_word}-{seed}"
    entries: list[Json] = []
    target = Path(out).expanduser()
    with _fresh_folder(target, overwrite) as folder:
        for stem, scene in zip(_stems(count), sample_portraits(identity, rng, count), strict=True):
            caption, truth = write_caption(scene, rng), render(scene, size)
            _write_picture(folder, stem, truth.image, caption)
            _save(folder / f"{stem}.mask.png", truth.masks[0])
            entries.append({"file": f"{stem}.png", "caption": caption.text, "scene": scene_to_json(scene)})
        # The seed stands in the truth file: a real user's concept.yaml knows none.
        (folder / "concept.yaml").write_text(f"class_word: {class_word}\nname: {name}\n", encoding="utf-8")
        about = {"kind": "concept", "class_word": class_word, "seed": seed, "name": name, "size": size}
        _write_json(folder / TRUTH_FILE, {**about, "identity": dict(identity.values), "images": entries})
    return target


def write_scenes(out: str | Path, count: int, seed: int = 0, size: int = 128, overwrite: bool = False) -> Path:
    """Write sampled scenes with all that is true of them.

    The folder holds ``00.png``, ``00.txt`` (caption), ``00.0.mask.png`` (first instance), ``00.1.mask.png`` and so on,
    ``depth/00.png`` (near is bright, as ControlNets for depth read it), ``00.json`` (scene, spans of the caption, boxes
    and key points in pixels) and ``world.json``.

    Args:
        out: the folder to make.
        count: of scenes.
        seed: which scenes; they come from the stream that no model is trained on.
        size: height and width in pixels.
        overwrite: whether a folder that was written by this function may be replaced.

    Returns:
        The folder.

    Raises:
        InputError: the seed, count or size is out of range.
        FileError: the folder is not empty or cannot be written.
    """
    _check_range("count", count, 1, MOST_IMAGES)
    target = Path(out).expanduser()
    with _fresh_folder(target, overwrite) as folder:
        (folder / "depth").mkdir()
        for index, stem in enumerate(_stems(count)):
            rng = stream_rng("heldout", seed, index)
            scene = sample_scene(rng)
            caption, truth = write_caption(scene, rng), render(scene, size)
            _write_picture(folder, stem, truth.image, caption)
            for number, mask in enumerate(truth.masks):
                _save(folder / f"{stem}.{number}.mask.png", mask)
            _save(folder / "depth" / f"{stem}.png", 1 - truth.depth)
            _write_json(folder / f"{stem}.json", _tell_truth(scene, caption, truth))
        _write_json(folder / TRUTH_FILE, {"kind": "scenes", "seed": seed, "count": count, "size": size})
    return target


def write_clip(out: str | Path, seed: int = 0, frames: int = 24, size: int = 128, overwrite: bool = False) -> Path:
    """Write a sampled clip.

    The folder holds its frames ``00.png``..., ``clip.gif`` and ``clip.webp`` that play them, and ``world.json`` (both
    states with their captions).

    Args:
        out: the folder to make.
        seed: which clip.
        frames: how many frames, at least 2.
        size: height and width in pixels.
        overwrite: whether a folder that was written by this function may be replaced.

    Returns:
        The folder.

    Raises:
        InputError: the seed, the number of frames or the size is out of range.
        FileError: the folder is not empty or cannot be written.
    """
    clip = sample_clip(stream_rng("heldout", seed))
    drawn = clip_frames(clip, frames, size)
    target = Path(out).expanduser()
    with _fresh_folder(target, overwrite) as folder:
        for stem, frame in zip(_stems(frames), drawn, strict=True):
            _save(folder / f"{stem}.png", frame)
        _write_moving(folder, drawn)
        states = {
            name: {"caption": caption.text, "scene": scene_to_json(scene)}
            for name, scene, caption in (
                ("start", clip.start, clip.caption_start),
                ("end", clip.end, clip.caption_end),
            )
        }
        _write_json(folder / TRUTH_FILE, {"kind": "clip", "seed": seed, "frames": frames, **states})
    return target


@contextmanager
def _fresh_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """Give a folder whose content becomes the wanted one's when all is written."""
    try:
        _check_target(out, overwrite)
        place = out if out.is_dir() else out.parent
        place.mkdir(parents=True, exist_ok=True)
        part = _make_part(out, place)
    except D2PlanError:
        raise
    except OSError as error:
        raise FileError(f"{out}: cannot be made here ({error.strerror or error}); choose another folder.") from error
    try:
        yield part
        if out.is_dir():
            _exchange(part, out)
        else:
            part.chmod(0o755)
            os.replace(part, out)
    except D2PlanError:
        raise
    except OSError as error:
        raise FileError(f"{out}: cannot be written ({error.strerror or error}); choose another folder.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _make_part(out: Path, place: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=place, prefix=f".{out.name[:100]}.", suffix=_PART))


def _exchange(part: Path, out: Path) -> None:
    """Put what was written in the place of what a folder holds; if that fails, put everything back.

    The folder itself stays: it may be the current one, or the root of another disk.
    """
    old = _make_part(out, out)
    moved: list[tuple[Path, Path]] = []
    try:
        # The truth file marks a folder as whole, so it goes first and comes last.
        for source, target in ((out, old), (part, out)):
            names = sorted(_list_names(source), key=lambda name: (name == TRUTH_FILE) == (source == part))
            for name in names:
                os.replace(source / name, target / name)
                moved.append((source / name, target / name))
    except OSError:
        for was, now in reversed(moved):
            os.replace(now, was)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(_PART))


def _check_target(out: Path, overwrite: bool) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_dir():
        raise FileError(f"{out}: is not a folder; give the name of a new one.")
    names = _list_names(out)
    if names and not overwrite:
        raise FileError(f"{out}: is not empty; give another folder, or --overwrite to replace what was written there.")
    foreign = [name for name in names if not (_OWN_FILES.fullmatch(name) or name in _OWN_FOLDERS)]
    if names and (foreign or TRUTH_FILE not in names):
        named = foreign[0] if foreign else names[0]
        raise FileError(f"{out}: holds {named}, which was not written here; give another folder.")


def _check_range(field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(f"{field}: {value} is outside {low}..{high}; choose a number in between.")


def _stems(count: int) -> list[str]:
    digits = max(2, len(str(count - 1)))
    return [f"{number:0{digits}d}" for number in range(count)]


def _write_picture(folder: Path, stem: str, image: np.ndarray, caption: Caption) -> None:
    _save(folder / f"{stem}.png", image)
    (folder / f"{stem}.txt").write_text(caption.text + "\n", encoding="utf-8")


def _save(path: Path, values: np.ndarray) -> None:
    """Write a picture (uint8) or a mask (0..1)."""
    pixels = values if values.dtype == np.uint8 else np.round(values * 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def _write_json(path: Path, content: Json) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _tell_truth(scene: WorldScene, caption: Caption, truth: Truth) -> Json:
    return {
        "caption": caption.text,
        "phrases": caption.phrases,
        "class_words": caption.class_words,
        "said": [sorted(fields) for fields in caption.said],
        "place_said": caption.place_said,
        "scene": scene_to_json(scene),
        "boxes": truth.boxes.tolist(),
        "skeletons": truth.skeletons,
    }


def _write_moving(folder: Path, frames: np.ndarray) -> None:
    first, *rest = (Image.fromarray(frame) for frame in frames)
    durations = [_FRAME_MILLISECONDS] * len(frames)
    # Both states stay on for a moment before the clip begins again.
    durations[0] = durations[-1] = _HOLD_MILLISECONDS
    first.save(folder / "clip.gif", save_all=True, append_images=rest, duration=durations, loop=0)
    first.save(
        folder / "clip.webp", save_all=True, append_images=rest, duration=durations, loop=0, lossless=True, method=2
    )
