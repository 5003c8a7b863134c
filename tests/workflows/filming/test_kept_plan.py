"""Whose plan lies in a video's folder: it is kept, refused or put aside, never lost."""

import re
import shlex
import shutil
from html import unescape

import pytest
import yaml

from d2plan.cli.main import main
from d2plan.errors import D2PlanError, InputError
from d2plan.workflows.filming.video import VideoOptions, make_video
from tests.workflows.concept_files import concepts

__all__ = ["concepts"]
FIRST, SECOND = "The dog sleeps next to the man, then it runs.", "The dog sits next to the man, then it jumps."


@pytest.fixture
def own(concepts, tmp_path):
    """A folder of a dog and a man, which a test may take away."""
    folder = tmp_path / "concepts"
    folder.mkdir()
    for name in ("john", "rex"):
        shutil.copy(concepts / f"{name}.safetensors", folder)
    return folder


@pytest.fixture
def film(own, tiny_folder, tmp_path):
    """Film a story in the smallest way; give the result."""

    def make(story, name="k.gif", **changes):
        options = {"concepts": own, "base": str(tiny_folder), "interpolator": "blend", "interpolation_steps": 1}
        return make_video(str(story), tmp_path / name, VideoOptions(**{**options, "frames": 2, **changes}))

    return make


def test_another_storys_plan_is_not_replaced_unasked(film, tmp_path):
    kept = film(FIRST).folder / "plan.yaml"
    before = kept.read_bytes()
    hint = r"k\.video/plan\.yaml: .* film it with `d2plan video .*plan\.yaml -o .*k\.webp`, .*--overwrite"
    with pytest.raises(InputError, match=hint):
        film(SECOND, "k.webp")
    other = tmp_path / "other.yaml"
    other.write_text(before.decode().replace("sleeping", "sitting"))
    with pytest.raises(InputError, match=hint):
        film(other, "k.webp")
    assert kept.read_bytes() == before and not (tmp_path / "k.webp").exists()
    film(SECOND, "k.webp", overwrite=True)
    assert yaml.safe_load(kept.read_text())["story"] == SECOND
    film(FIRST, "k.webp", overwrite=True)
    texts = [(kept.parent / f"plan.before-{count}.yaml").read_text() for count in (1, 2)]
    assert texts[0] == before.decode() and yaml.safe_load(texts[1])["story"] == SECOND


def test_a_story_that_was_planned_here_keeps_its_plan_and_says_so(film):
    first = film(FIRST)
    assert not [note for note in first.notes if "is kept" in note]
    kept = first.folder / "plan.yaml"
    kept.write_text(kept.read_text().replace("running", "jumping"))
    again = film(FIRST, overwrite=True, seed=5)
    assert "jumping" in kept.read_text() and yaml.safe_load(kept.read_text())["seed"] == 5
    assert [note for note in again.notes if f"{kept} is kept" in note and "delete that file" in note]
    assert film(kept, "k.webp").video.is_file()


@pytest.mark.parametrize("damage", ["moved", "broken"])
def test_a_new_story_may_replace_a_plan_that_works_no_more(film, own, damage):
    folder = film(FIRST).folder
    if damage == "moved":
        concepts = own.rename(own.with_name("moved"))
    else:
        concepts = own
        (folder / "plan.yaml").write_text("beats: [")
    with pytest.raises(D2PlanError):
        film(SECOND, "k.webp", concepts=concepts)
    film(SECOND, concepts=concepts, overwrite=True)
    assert yaml.safe_load((folder / "plan.yaml").read_text())["story"] == SECOND


def test_the_command_on_the_page_works_and_frames_of_an_earlier_film_go(film, tmp_path, monkeypatch):
    result = film(FIRST, keep_frames=True)
    frames = result.folder / "frames"
    assert len(list(frames.iterdir())) == result.frames
    command = re.search(r"<code>(d2plan.*?)</code>", result.page.read_text())[1]
    assert command.endswith("-o k.gif --overwrite --interpolator blend --steps 1 --keep-frames")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(unescape(command).removesuffix(" --keep-frames"))[1:])
    assert not ended.value.code
    assert list(frames.iterdir()) == []


@pytest.mark.parametrize(("options", "told"), [({"frames": 0}, "frames"), ({"seed": -1}, "seed")])
def test_an_option_that_no_plan_takes_is_told_as_such(film, tmp_path, options, told):
    with pytest.raises(InputError, match=f"the options: {told}"):
        film(FIRST, **options)
    assert not (tmp_path / "k.video").exists()


def test_the_page_says_that_its_plan_was_changed_by_hand(film):
    first = film(FIRST)
    assert "by hand" not in first.page.read_text()
    kept = first.folder / "plan.yaml"
    again = film(kept, overwrite=True, seed=5)
    assert "by hand" not in again.page.read_text()
    kept.write_text(kept.read_text().replace("running", "jumping"))
    assert "was changed by hand" in film(kept, overwrite=True).page.read_text()
