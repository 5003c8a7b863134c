import json
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote

import pytest

from d2plan.adapter.file import load_adapter
from d2plan.backbone.load import find_base, fingerprint_base
from d2plan.documents import InstanceScore, Score, load_run, load_scene
from d2plan.errors import FileError, InputError
from d2plan.etp.grammar.planner import GrammarPlanner
from d2plan.etp.plan import KnownConcept
from d2plan.etp.planner import StoryRequest
from d2plan.isp.colours import colours_of, shade_colour
from d2plan.media.images import read_image
from d2plan.workflows.demo.demo import DemoRequest, bring_guest, make_demo_folder, run_demo
from d2plan.workflows.demo.gallery import FILM, PAGE, SHEET, Facts, Film, Gallery, Scored, Trained
from d2plan.workflows.demo.page import write_page
from d2plan.workflows.demo.scenes import (
    CHARACTERS,
    LEFT,
    RIGHT,
    choose_characters,
    choose_guests,
    plan_gallery,
    tell_film,
)
from d2plan.workflows.filming.keyframes import tell_beat
from d2plan.workflows.runs.timetable import Timetable
from d2plan.world.cast import ACTIONS, CLASSES
from tests.tiny import DEFAULTS, write_tiny

IDENTIFIERS = ("<v1>", "<v2>")
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Reads a page: what it shows and names, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.images, self.links, self.texts, self.tags, self.open = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values))
        self.images += [values["src"]] if tag == "img" else []
        self.links += [values[name] for name in ("href", "src") if name in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A random small base that draws 64 px in two steps."""
    folder = write_tiny(tmp_path_factory.mktemp("base") / "tiny")
    small = {**DEFAULTS, "height": 64, "width": 64, "steps": 2, "train_steps": 1, "batch_size": 1, "rank": 2}
    (folder / "d2plan.json").write_text(json.dumps(small))
    return folder


@pytest.fixture(scope="module")
def demo(base, tmp_path_factory):
    """A whole demo: its folder, and what was told on the way; there is no judge."""
    folder = make_demo_folder(tmp_path_factory.mktemp("runs") / "demo")
    told = []
    page = run_demo(DemoRequest(base=str(base)), folder, lambda *step: told.append(step), folder / "judge")
    assert page == folder / PAGE
    return folder, told


@pytest.fixture(scope="module")
def gallery(demo):
    """The same demo's gallery, with scores as a judge might give them."""
    folder, _ = demo
    characters = choose_characters(CHARACTERS, IDENTIFIERS)
    rows = plan_gallery(characters, [Path("a"), Path("b")], "mini", 0)
    scores = {shot.name: _make_score(shot) for row in rows for shot in row.shots}
    facts = Facts("today", "<base> & co", "0123", 0, "a machine", 61.0, {"drawing": 1.0})
    trained = {who.name: Trained(100.0, 2, 10_000) for who in characters}
    return Gallery(folder, characters, rows, facts, trained, Scored(scores))


def _make_score(shot):
    found = [
        InstanceScore(
            class_word=instance.class_word,
            concept="John",
            present=True,
            accessory=True,
            accessory_colour=False,
            rank=3,
            swapped=True,
            seen={"accessory": "scarf", "accessory_colour": "<blue>"},
        )
        for instance in shot.scene.instances
    ]
    return Score(
        picture=shot.name,
        place=True,
        expected_count=len(found),
        seen_count=1,
        seen_place="moon",
        seen_light="day",
        instances=tuple(found),
    )


def test_everything_that_the_page_names_lies_in_the_folder(demo):
    folder, _ = demo
    page = Page((folder / PAGE).read_text(encoding="utf-8"))
    assert page.open == []
    assert len(page.images) == 1 + 2 * 8 + 18 + 15
    for link in page.links:
        assert "//" not in link and not link.startswith("/")
        assert (folder / unquote(link)).is_file()
    assert not [tag for tag, values in page.tags if tag in ("script", "link", "iframe") or "onclick" in values]
    assert all(values.get("alt") for tag, values in page.tags if tag == "img")


def test_identifiers_and_names_are_written_as_text(gallery):
    text = write_page(gallery).read_text(encoding="utf-8")
    for bare in ("<v1>", "<v2>", "<base>", "<blue>"):
        assert bare not in text
    page = Page(text)
    assert "a photo of a <v1> man wearing black sunglasses" in "".join(page.texts)
    assert any("<base> & co (0123)" in part for part in page.texts)
    assert page.open == []


def test_a_name_on_the_page_has_the_colour_of_its_masks(gallery):
    page = Page(write_page(gallery).read_text(encoding="utf-8"))
    tinted = [(tag, values["style"]) for tag, values in page.tags if "who" in values.get("class", "").split()]
    wanted = [shade_colour(colour).plain for colour in colours_of([who.name for who in gallery.characters])]
    assert len(set(wanted)) == 2
    for kind in ("span", "h3"):
        assert [style.partition(";")[0] for tag, style in tinted if tag == kind] == [f"--plain:{it}" for it in wanted]
    lines = [style for tag, style in tinted if tag == "li"]
    assert len(lines) == 9 * 2 + 6 and all(any(it in line for it in wanted) for line in lines)


def test_scores_stand_below_what_was_asked_for(gallery):
    page = Page(write_page(gallery).read_text(encoding="utf-8"))
    said = "".join(page.texts)
    assert said.count("<blue> scarf") == said.count("John, 3rd of 20") == said.count("swapped with the other") == 24
    kinds = [values["class"] for tag, values in page.tags if tag == "span" and "chip " in values.get("class", "")]
    assert kinds.count("chip yes") == 18 and len(kinds) == 18 + 12 + 3 * 24
    assert "0 of 24" in page.texts


def test_a_page_without_scores_says_why(gallery):
    page = Page(write_page(replace(gallery, scored=Scored(trouble="no <judge> here"))).read_text(encoding="utf-8"))
    assert "no <judge> here" in page.texts
    assert not [values for tag, values in page.tags if "chip" in values.get("class", "")]


def test_each_row_shows_three_pictures_of_one_kind(demo):
    folder, _ = demo
    runs = [load_run(path / "run.json") for path in sorted((folder / "pictures").iterdir())]
    assert [len(run.adapters) for run in runs] == [2] * 3 + [0] * 3 + [2] * 3 + [1] * 6 + [2] * 3
    together, plain, changed, boxed = runs[:3], runs[3:6], runs[6:9], runs[15:]
    assert [run.seed for run in together] == [run.seed for run in plain]
    assert len({(run.seed, run.scene.global_prompt, run.scene.instances[0]) for run in changed}) == 1
    assert len({run.scene.instances[1].sub_prompt for run in changed}) == 3
    assert {use.name for run in runs for use in run.adapters} == {"John", "Rex"}
    assert len({(run.seed, run.scene.global_prompt, run.scene.instances[1].sub_prompt) for run in boxed}) == 1
    boxes = [tuple(item.box for item in run.scene.instances) for run in boxed]
    assert boxes == [(None, None), (LEFT, RIGHT), (RIGHT, LEFT)]


def test_boxes_are_drawn_over_their_picture_and_told(demo):
    folder, _ = demo
    page = Page((folder / PAGE).read_text(encoding="utf-8"))
    drawn = [values["style"] for tag, values in page.tags if values.get("class") == "box"]
    john, rex = (shade_colour(colour).plain for colour in colours_of(["John", "Rex"]))
    left, right = (f"left:{x}%;top:6%;width:48%;height:92%;--plain:".__add__ for x in (2, 50))
    assert drawn == [left(john), right(rex), right(john), left(rex)]
    told = [text for text in page.texts if "its box" in text]
    assert [text.split()[2] for text in told] == ["2%", "50%", "50%", "2%"]


def test_scene_files_make_the_pictures_again(demo):
    folder, _ = demo
    paths = sorted((folder / "scenes").iterdir())
    assert [path.stem for path in paths] == sorted(path.name for path in (folder / "pictures").iterdir())
    for path in paths:
        scene = load_scene(path)
        assert all(Path(instance.concept).is_file() for instance in scene.instances)
        assert scene.seed == load_run(folder / "pictures" / path.stem / "run.json").seed


def test_the_sheet_shows_references_and_all_pictures(demo):
    folder, _ = demo
    height, width = read_image(folder / SHEET).shape[:2]
    assert width == 3 * 256 + 4 * 8 and height > 7 * 256


def test_every_stage_and_the_whole_are_told_to_their_ends(demo):
    _, told = demo
    ends = {what for what, done, total in told if done == total}
    assert {"drawing references", "learning John", "learning Rex", "composing", "the page"} <= ends
    whole = [(done, total) for what, done, total in told if what.startswith("whole demo")]
    assert whole[-1][0] == whole[-1][1] and all(done < total for done, total in whole[:-1])


def test_a_stopped_demo_keeps_whole_parts_alone(base, tmp_path):
    def stop(what, done, total):
        if what == "learning Rex" and done:
            raise KeyboardInterrupt

    folder = make_demo_folder(tmp_path / "demo")
    with pytest.raises(KeyboardInterrupt):
        run_demo(DemoRequest(base=str(base), steps=1), folder, stop)
    assert sorted(path.name for path in (folder / "concepts").iterdir()) == ["john", "rex"]
    assert [path.name for path in (folder / "adapters").glob("*.safetensors")] == ["john.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == ["adapters", "concepts", "pictures", "scenes"]


def test_each_demo_gets_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = {make_demo_folder(None) for _ in range(3)}
    assert len(folders) == 3 and all(folder.is_dir() and folder.parent == Path("runs") for folder in folders)


def test_a_folder_that_holds_something_needs_leave(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="--overwrite"):
        make_demo_folder(tmp_path)
    assert make_demo_folder(tmp_path, overwrite=True) == tmp_path
    with pytest.raises(FileError, match=r"mine\.txt"):
        make_demo_folder(tmp_path / "mine.txt")


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        (("man:31",), "two characters"),
        (("man:31", "man:32"), "choose two classes"),
        (("man:31", "dgo:1"), "did you mean 'dog'"),
        (("man:31", "dog:fast"), "CLASS:SEED"),
        (("man:31", "dog:50000"), "kept for measuring"),
    ],
)
def test_characters_that_cannot_be_shown_are_told(choices, told):
    with pytest.raises(InputError, match=told):
        choose_characters(choices, IDENTIFIERS)


def test_guests_make_two_of_one_class_and_three_at_once():
    characters = (*choose_characters(CHARACTERS, IDENTIFIERS), *choose_guests((*IDENTIFIERS, "<v3>", "<v4>")))
    paths = [Path(f"{who.stem}.safetensors") for who in characters]
    *_, alike, three, _ = plan_gallery(characters, paths, "mini", 0)
    for shot in alike.shots:
        assert shot.scene.global_prompt.startswith("a photo of a man and a man ")
        assert [item.concept for item in shot.scene.instances] == ["john.safetensors", "sam.safetensors"]
    for shot in three.shots:
        assert shot.scene.global_prompt.startswith("a photo of a man, a dog and a woman ")
        assert len({item.sub_prompt for item in shot.scene.instances}) == 3
    assert len({shot.name for row in plan_gallery(characters, paths, "mini", 0) for shot in row.shots}) == 24
    cats = (*choose_characters(("cat:1", "woman:2"), IDENTIFIERS), *characters[2:])
    *_, alike, three, _ = plan_gallery(cats, paths, "mini", 0)
    assert "a woman and a woman" in alike.shots[0].scene.global_prompt
    assert "a cat, a woman and a man" in three.shots[0].scene.global_prompt


def test_the_packaged_guests_are_small_and_of_the_packaged_base():
    base = fingerprint_base(find_base("mini"))
    for who in choose_guests(("<v1>", "<v2>", "<v3>", "<v4>")):
        path = Path(str(files("d2plan"))) / "assets" / "demo" / f"{who.stem}.safetensors"
        adapter = load_adapter(path)
        assert path.stat().st_size <= 1_000_000
        assert (adapter.base_fingerprint, adapter.class_word, adapter.identifier) == (
            base,
            who.class_word,
            who.identifier,
        )


def test_a_guest_is_named_in_its_file_as_the_judge_and_the_page_call_it(tmp_path):
    who = choose_guests(("<v1>", "<v2>", "<v3>"))[0]
    source = Path(str(files("d2plan"))) / "assets" / "demo" / f"{who.stem}.safetensors"
    was, now = load_adapter(source), load_adapter(bring_guest(who, source, tmp_path))
    assert (now.name, now.identifier, now.class_word) == ("Sam", "<v3>", "man")
    assert all(was.deltas[path].down.equal(delta.down) for path, delta in now.deltas.items())
    assert was.deltas.keys() == now.deltas.keys()


def test_a_film_is_shown_or_its_lack_is_told(demo, gallery):
    folder, _ = demo
    # The tiny base has no video network.
    assert not (folder / FILM).exists()
    told = replace(gallery, film=Film(trouble="no <network>"))
    assert "no <network>" in Page(write_page(told).read_text(encoding="utf-8")).texts
    (gallery.folder / FILM).write_bytes(b"GIF89a")
    keyframe = next((gallery.folder / "pictures").rglob("image.png"))
    film = Film(gallery.folder / FILM, gallery.folder / PAGE, "", "Rex <sits>.", ((keyframe, "Rex: <sitting>"),))
    page = Page(write_page(replace(gallery, film=film)).read_text(encoding="utf-8"))
    assert FILM in page.images and keyframe.relative_to(gallery.folder).as_posix() in page.images
    assert "Rex <sits>." in page.texts and "1. Rex: <sitting>" in page.texts and page.open == []


@pytest.mark.parametrize("pair", [CHARACTERS, *(("woman:2", f"{word}:1") for word in CLASSES if word != "woman")])
@pytest.mark.parametrize("turned", [False, True])
def test_the_films_story_is_planned_as_it_is_meant(pair, turned):
    characters = choose_characters(pair[::-1] if turned else pair, IDENTIFIERS)
    known = tuple(KnownConcept(who.name, who.stem, who.class_word, who.identifier) for who in characters)
    strangers = (KnownConcept("Sam", "sam", "man", "<v3>"),)
    plan = GrammarPlanner().plan(StoryRequest(tell_film(characters), (*known, *strangers)))
    mine, its = (ACTIONS[who.class_word][2] for who in characters)
    one, other = (who.name for who in characters)
    assert [tell_beat(plan, index) for index in range(4)] == [
        f"{other}: {its}; {one}",
        f"{other}: {its}; {one}: {mine}",
        f"{other}: wearing a blue hat {its}; {one}: {mine}",
        f"{other}: wearing a blue hat {its}; {one}: wearing a red hat {mine}",
    ]
    assert len(plan.beats) == 4 and not plan.notes


def test_a_character_without_a_seed_takes_the_demos():
    man, cat = choose_characters(("man", "cat:5"), IDENTIFIERS, seed=9)
    assert (man.seed, man.identifier, cat.seed, cat.identifier) == (9, "<v1>", 5, "<v2>")


def test_the_time_left_follows_the_pace_so_far():
    now, told = [0.0], []
    table = Timetable("all", {"one": 20.0, "two": 60.0}, lambda *step: told.append(step), lambda: now[0])
    report = table.start("one")
    assert table.left() == 80
    now[0] = 40.0
    report("", 4, 4)
    assert table.left() == 120
    report = table.start("two")
    now[0] = 70.0
    report("half", 1, 2)
    assert told[-2:] == [("all", 70, 100), ("two: half", 1, 2)]
    table.finish()
    assert told[-1] == ("all", 70, 70)


def test_stages_beside_each_other_end_with_the_longest():
    now = [0.0]
    planned = {"a: learning": 100.0, "a: drawing": 100.0, "b: drawing": 40.0, "c: drawing": 60.0}
    table = Timetable("all", planned, lambda *_: None, lambda: now[0], lanes=2)
    assert table.left() == 200
    learning, other = table.start("a: learning"), table.start("b: drawing")
    now[0] = 50.0
    learning("", 1, 2)
    other("", 4, 4)
    assert table.left() == 50 + 100 * 100 / 90
    third = table.start("c: drawing")
    now[0] = 100.0
    learning("", 1, 1)
    third("", 4, 4)
    assert table.left() == pytest.approx(100)  # one lane stands still and makes the other no faster
