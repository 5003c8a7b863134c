"""Folders of the world hold what they promise, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from d2plan.errors import FileError, InputError
from d2plan.world import folders
from d2plan.world.cast import CLASSES, identity_from_seed
from d2plan.world.folders import write_clip, write_concept, write_scenes
from d2plan.world.scene import scene_from_json, scene_to_json
from d2plan.world.truth import render


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_a_concept_folder_is_like_a_users(tmp_path: Path) -> None:
    folder = write_concept(tmp_path / "made" / "dog", "dog", 7, size=64)
    stems = [f"{number:02d}" for number in range(16)]
    kinds = (".png", ".txt", ".mask.png")
    assert set(contents(folder)) == {stem + kind for stem in stems for kind in kinds} | {"concept.yaml", "world.json"}
    assert yaml.safe_load((folder / "concept.yaml").read_text()) == {"class_word": "dog", "name": "dog-7"}
    told = json.loads((folder / "world.json").read_text())
    assert (told["kind"], told["class_word"], told["seed"]) == ("concept", "dog", 7)
    for stem, entry in zip(stems, told["images"], strict=True):
        scene = scene_from_json(entry["scene"])
        truth = render(scene, 64)
        assert [figure.identity for figure in scene.figures] == [identity_from_seed("dog", 7)]
        assert np.array_equal(pixels(folder / f"{stem}.png"), truth.image)
        assert np.abs(pixels(folder / f"{stem}.mask.png") / 255 - truth.masks[0]).max() < 1 / 255
        caption = (folder / f"{stem}.txt").read_text()
        assert caption == entry["caption"] + "\n"
        assert "dog" in caption


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name, write in (
        ("concept", lambda out: write_concept(out, "cat", 4, 3, 48)),
        ("scenes", lambda out: write_scenes(out, 3, 4, 48)),
        ("clip", lambda out: write_clip(out, 4, 3, 48)),
    ):
        first, second = (contents(write(tmp_path / f"{name}{number}")) for number in range(2))
        assert first == second
        assert len(first) > 4


def test_other_seeds_and_classes_are_other_characters_in_other_places(tmp_path: Path) -> None:
    made = [("dog", 1), ("dog", 2), ("cat", 1)]
    told = [json.loads(contents(write_concept(tmp_path / f"{w}{s}", w, s, 4, 32))["world.json"]) for w, s in made]
    assert len({json.dumps(one["identity"]) for one in told}) == 3
    assert len({json.dumps([image["scene"]["place"] for image in one["images"]]) for one in told}) == 3


def test_scenes_come_with_their_truth(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", 4, seed=3, size=64)
    assert json.loads((folder / "world.json").read_text()) == {"kind": "scenes", "seed": 3, "count": 4, "size": 64}
    for number in range(4):
        told = json.loads((folder / f"{number:02d}.json").read_text())
        scene = scene_from_json(told["scene"])
        assert json.loads(json.dumps(scene_to_json(scene))) == told["scene"]
        truth = render(scene, 64)
        assert np.array_equal(pixels(folder / f"{number:02d}.png"), truth.image)
        assert np.allclose(told["boxes"], truth.boxes)
        assert [set(points) for points in told["skeletons"]] == [set(points) for points in truth.skeletons]
        assert (folder / f"{number:02d}.txt").read_text() == told["caption"] + "\n"
        words = [told["caption"][start:end] for start, end in told["class_words"]]
        assert words == [figure.class_word for figure in scene.figures]
        for place, mask in enumerate(truth.masks):
            assert np.abs(pixels(folder / f"{number:02d}.{place}.mask.png") / 255 - mask).max() < 1 / 255
        assert not (folder / f"{number:02d}.{len(truth.masks)}.mask.png").exists()
        assert np.abs(pixels(folder / "depth" / f"{number:02d}.png") / 255 - (1 - truth.depth)).max() < 1 / 255


def test_a_clip_moves_as_gif_and_webp(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip", seed=5, frames=6, size=48)
    frames = np.stack([pixels(folder / f"{number:02d}.png") for number in range(6)])
    told = json.loads((folder / "world.json").read_text())
    for place, state in ((0, "start"), (-1, "end")):
        assert np.array_equal(frames[place], render(scene_from_json(told[state]["scene"]), 48).image)
        assert told[state]["caption"]
    # Where nothing moves, both formats keep one frame for longer.
    distinct = [frame for frame, before in zip(frames[1:], frames, strict=False) if (frame != before).any()]
    with Image.open(folder / "clip.webp") as moving:
        assert moving.n_frames == len(distinct) + 1 > 2
        for number, frame in enumerate([frames[0], *distinct]):
            moving.seek(number)
            assert np.array_equal(np.asarray(moving.convert("RGB")), frame)
    with Image.open(folder / "clip.gif") as moving:
        assert moving.info["loop"] == 0
        durations = [moving.seek(number) or moving.info["duration"] for number in range(moving.n_frames)]
        assert sum(durations) == 2 * 500 + 4 * 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dgo", 1), "'dgo'.*'dog'"),
        (("dog", -1), "seed: -1 is outside 0..99999"),
        (("dog", 100_000), "seed: 100000 is outside"),
        (("dog", 1, 0), "count: 0 is outside 1..1000"),
        (("dog", 1, 1001), "count: 1001 is outside"),
        (("dog", 1, 2, 8), "size: 8 is outside"),
    ],
)
def test_a_wrong_request_leaves_nothing_behind(tmp_path: Path, arguments: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_concept(tmp_path / "out", *arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(FileError, match="out: is not empty.*--overwrite"):
        write_concept(tmp_path / "out", "dog", 1, 2, 32)
    with pytest.raises(FileError, match="holds letter.txt, which was not written here"):
        write_concept(tmp_path / "out", "dog", 1, 2, 32, overwrite=True)
    assert contents(tmp_path / "out") == {"letter.txt": b"dear"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_overwriting_replaces_what_was_written_but_spares_what_a_user_added(tmp_path: Path) -> None:
    folder = write_concept(tmp_path / "out", "dog", 1, 3, 32)
    write_concept(folder, "dog", 2, 2, 32, overwrite=True)
    assert json.loads((folder / "world.json").read_text())["seed"] == 2
    assert not (folder / "02.png").exists()
    (folder / "dog.safetensors").write_bytes(b"learnt")
    with pytest.raises(FileError, match=r"holds dog.safetensors"):
        write_concept(folder, "dog", 3, 2, 32, overwrite=True)
    assert json.loads((folder / "world.json").read_text())["seed"] == 2


def test_numbered_pictures_of_a_user_are_not_taken_for_own_ones(tmp_path: Path) -> None:
    (tmp_path / "01.png").write_bytes(b"mine")
    with pytest.raises(FileError, match="01.png"):
        write_concept(tmp_path, "dog", 1, 2, 32, overwrite=True)
    assert (tmp_path / "01.png").read_bytes() == b"mine"


def test_an_empty_folder_and_a_new_one_are_both_fine(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    made = contents(write_concept(tmp_path / "empty", "dog", 1, 2, 32))
    assert made == contents(write_concept(tmp_path / "new" / "deep", "dog", 1, 2, 32))


def test_a_file_or_link_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("file", "link"):
        with pytest.raises(FileError, match=f"{name}: is not a folder"):
            write_scenes(tmp_path / name, 1, overwrite=True)
    with pytest.raises(FileError, match=r"file/out: cannot be made here"):
        write_scenes(tmp_path / "file" / "out", 1)


def test_a_failure_half_way_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = write_concept(tmp_path / "kept", "dog", 1, 2, 32)
    before = contents(kept)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "_write_json", full_disk)
    for out in (tmp_path / "out", kept):
        with pytest.raises(FileError, match="cannot be written.*No space left"):
            write_concept(out, "dog", 5, 2, 32, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert contents(kept) == before


def test_the_current_folder_can_be_written_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_scenes(".", 3, size=16)
    write_scenes(".", 2, seed=1, size=16, overwrite=True)
    made = contents(tmp_path)
    assert made == contents(write_scenes(tmp_path.parent / "beside", 2, seed=1, size=16))
    assert sorted(path.name for path in tmp_path.iterdir())[0] == "00.0.mask.png", "no hidden folder stays"


@pytest.mark.parametrize("fails_at", [0, 2, 5, 8])
def test_a_failure_while_files_change_places_puts_them_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    kept = write_concept(tmp_path / "kept", "dog", 1, 2, 32)
    before, moves, replace = contents(kept), [], folders.os.replace

    def move(source: Path, target: Path) -> None:
        if len(moves) == fails_at:
            moves.append(None)
            raise OSError(5, "Input/output error")
        moves.append(None)
        replace(source, target)

    monkeypatch.setattr(folders.os, "replace", move)
    with pytest.raises(FileError, match="cannot be written.*Input/output"):
        write_concept(kept, "dog", 5, 2, 32, overwrite=True)
    assert contents(kept) == before
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_home_folder_is_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert write_concept("~/rex", "dog", 1, 1, 16) == tmp_path / "rex"
    assert (tmp_path / "rex" / "world.json").is_file()


def test_many_pictures_sort_in_their_order(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "many", 101, size=16)
    names = sorted(path.name for path in folder.glob("*.txt"))
    assert names[:2] == ["000.txt", "001.txt"]
    assert names[-1] == "100.txt"


@pytest.mark.parametrize("word", CLASSES)
def test_every_class_can_be_a_concept(tmp_path: Path, word: str) -> None:
    folder = write_concept(tmp_path / "x", word, 11, 2, 32)
    assert word in (folder / "00.txt").read_text()
