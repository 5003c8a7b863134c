import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from PIL import Image

from d2plan.bench.assemble import WAITING
from d2plan.bench.report import plots
from d2plan.bench.report.grids import choose_grid, draw_sheet, read_thumbnail
from d2plan.bench.report.page import write_report
from d2plan.bench.store import PLAN, RESULTS, read_results, write_record
from d2plan.errors import FileError, InputError
from tests.bench.report.synthetic import ABLATION, KINDS, make_results

FEW = {name: KINDS[name] for name in ("isp-dislora", "lora-merge", "mix-of-show")}
CLOSED = {"meta", "img", "br", "path", "use", "rect"}


class Reader(HTMLParser):
    """Notes what a page refers to, and whether its elements are closed."""

    def __init__(self):
        super().__init__()
        self.links, self.ids, self.images, self.open = [], [], [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links += [found[key] for key in ("href", "xlink:href") if key in found]
        self.ids += [found["id"]] if "id" in found else []
        self.images += [found["src"]] if "src" in found else []
        if tag not in CLOSED:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in CLOSED:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    make_results(folder, FEW)
    return folder


@pytest.fixture(scope="module")
def report(folder, tmp_path_factory):
    return write_report(folder, tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def page(report):
    reader = Reader()
    reader.feed(report.page.read_text(encoding="utf-8"))
    return reader


def test_the_page_needs_nothing_but_itself(page):
    assert page.open == []
    assert all(link.startswith("#") for link in page.links)
    assert all(source.startswith("data:image/webp;base64,") for source in page.images)


def test_its_links_lead_somewhere_and_no_name_is_twice(page):
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_its_pictures_can_be_opened(page):
    # Two rows for each of four concepts, three for each of three pairs; a pair shows two of each of two references.
    assert len(page.images) == 8 * (1 + 3) + 9 * (4 + 3) - 3
    Image.open(io.BytesIO(base64.b64decode(page.images[0].partition(",")[2]))).verify()


def test_the_page_has_the_whole_contents(report):
    text = report.page.read_text(encoding="utf-8")
    for words in (
        "Table 2: one concept and several",
        "Several concepts: ours minus the rival",
        "Figure 5: one concept",
        "Figure 6: several concepts",
        "What a picture costs",
        "What a concept costs",
        "the matrix of the fusion is singular",
        "The paper&#x27;s numbers beside ours",
        "mini-clip 0a1b2c",
        "commit 0123abc",
        ">failed<",
    ):
        assert words in text


def test_the_markdown_shows_files_that_are_there(report):
    text = report.text.read_text(encoding="utf-8")
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert sorted(shown) == sorted(path.relative_to(report.text.parent).as_posix() for path in report.figures)
    assert all((report.text.parent / name).stat().st_size < 400_000 for name in shown)
    assert text.count("\n## ") == 8
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_what_users_wrote_does_not_become_markup(folder, tmp_path):
    results = read_results(folder)
    method = results.methods[0].model_copy(update={"title": "<script>alert(1)</script> & |more|"})
    tricky = results.model_copy(update={"methods": (method, *results.methods[1:])})
    (tmp_path / RESULTS).write_text(tricky.model_dump_json(), encoding="utf-8")
    written = write_report(tmp_path)
    assert "<script" not in written.page.read_text(encoding="utf-8").lower()
    assert "<script" not in written.text.read_text(encoding="utf-8").lower()
    reader = Reader()
    reader.feed(written.page.read_text(encoding="utf-8"))
    assert reader.open == []


def test_without_matplotlib_the_report_is_written_and_says_so(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    written = write_report(folder, tmp_path)
    text = written.text.read_text(encoding="utf-8")
    assert "matplotlib" in text
    assert ".svg" not in text
    assert "Table 2" in text


def test_results_on_the_way_say_how_far_they_are(folder, tmp_path):
    results = read_results(folder)
    cut = results.methods[1].model_copy(update={"pictures": results.methods[1].pictures[:5], "series": ()})
    half = results.model_copy(update={"finished": False, "methods": (results.methods[0], cut), "notes": ("A <note>.",)})
    (tmp_path / RESULTS).write_text(half.model_dump_json(), encoding="utf-8")
    text = write_report(tmp_path).page.read_text(encoding="utf-8")
    assert "68 of 126 pictures are there, 0 failed, 58 are not drawn yet" in text
    assert "A &lt;note&gt;." in text
    assert ">not run yet</div>" in text
    assert ">failed</div>" not in text


@pytest.mark.parametrize("kind", ["spatial", "ablation"])
def test_a_report_of_nothing_can_be_written(kind, tmp_path):
    nothing = make_results(None, {}, kind).model_copy(update={"finished": False})
    (tmp_path / RESULTS).write_text(nothing.model_dump_json(), encoding="utf-8")
    assert "0 of 0 pictures" in write_report(tmp_path).text.read_text(encoding="utf-8")


def test_a_report_without_scores_has_pictures_and_costs(folder, tmp_path):
    results = read_results(folder)
    bare = results.methods[0].model_copy(
        update={
            "pictures": tuple(
                one.model_copy(update={"values": {}, "instances": ()}) for one in results.methods[0].pictures
            ),
            "series": (),
            "validated": None,
        }
    )
    unscored = results.model_copy(update={"methods": (bare,), "encoders": {}})
    (tmp_path / RESULTS).write_text(unscored.model_dump_json(), encoding="utf-8")
    written = write_report(tmp_path)
    assert "none: not measured" in written.text.read_text(encoding="utf-8")
    assert [path.stem for path in written.figures if path.suffix == ".svg"] == [
        "cost-rows", "cost-seconds", "cost-learning"
    ]  # fmt: skip


def test_an_ablation_has_its_own_tables_and_figures(tmp_path):
    make_results(tmp_path, ABLATION, "ablation")
    written = write_report(tmp_path / RESULTS)
    text = written.page.read_text(encoding="utf-8")
    assert "Figure 8a: what each part of ISP does, one concept" in text
    assert "CAC: cross-attention calibration, eq. (7)" in text
    assert "Figure 8a in pictures: several concepts, ours without some parts, a series in each block" in text
    assert "the concepts&#x27; own pictures, then Full ISP, CAC off, CNC off. The prompt stands below each row" in text
    assert "man-7 + dog-3, series beach-plain" in text
    assert "CNC off" in text
    assert "ours minus the rival" not in text
    assert "figure-8a-multi.webp" in {path.name for path in written.figures}


def test_a_grid_shows_the_same_shot_of_every_method(folder):
    grid = choose_grid(read_results(folder), folder, "multi")
    assert grid.methods == ("ISP + DisLoRA", "LoRA merge", "Mix-of-Show")
    for block in grid.blocks:
        assert [len(own) for own in block.references] == [4, 4]
        assert len(block.rows) == 3
        assert len({row.seed for row in block.rows}) == 1
        for row in block.rows:
            names = {path.parent.name for path in row.pictures if path != "failed"}
            assert len(names) == 1
    assert grid.blocks[1].rows[0].pictures[2] == "failed"
    assert grid.title == "Figure 6: several concepts, a series in each block"
    assert [block.title for block in grid.blocks][0] == "man-7 + dog-3, series beach-plain"
    assert "in what the instances wear and do" in grid.note


def test_a_picture_that_is_missing_says_why(folder):
    results = read_results(folder)
    mix = results.methods[2]
    (shown,) = {path.parent.name for path in choose_grid(results, folder, "multi").blocks[0].rows[0].pictures}
    cut = mix.model_copy(update={"pictures": tuple(one for one in mix.pictures if one.shot != shown)})
    gone = results.methods[1].model_copy(
        update={"pictures": tuple(one.model_copy(update={"image": "gone.png"}) for one in results.methods[1].pictures)}
    )
    half = results.model_copy(update={"methods": (results.methods[0], gone, cut)})
    grid = choose_grid(half, folder, "multi")
    assert grid.blocks[0].rows[0].pictures[1:] == ("file is gone", "not run yet")
    assert grid.blocks[1].rows[0].pictures[1:] == ("file is gone", "failed")
    whole = (folder / results.methods[1].pictures[0].image).read_bytes()
    (folder / "gone.png").write_bytes(whole[: len(whole) // 2])
    cells = choose_grid(half, folder, "multi").blocks[0].rows[0].pictures
    (folder / "gone.png").unlink()
    assert cells[1] == "file is damaged"


def test_without_series_a_grid_says_that_each_row_has_another_prompt(folder):
    results = read_results(folder)
    shots = tuple(shot.model_copy(update={"series": None}) for shot in results.suite.shots)
    plain = results.model_copy(update={"suite": results.suite.model_copy(update={"shots": shots})})
    grid = choose_grid(plain, folder, "multi")
    assert grid.title == "Figure 6: several concepts, another prompt and noise in each row"
    assert grid.blocks[0].title == "man-7 + dog-3"
    assert "series" not in grid.note


def test_a_grid_shows_other_prompts_for_other_concepts(folder):
    grid = choose_grid(read_results(folder), folder, "single")
    prompts = [row.prompt.split(" on ")[-1] + row.prompt[-1] for block in grid.blocks for row in block.rows]
    assert len(set(prompts)) == 3


def test_a_grid_is_shown_where_references_are_gone(folder):
    results = read_results(folder)
    concepts = tuple(one.model_copy(update={"folder": "gone"}) for one in results.suite.concepts)
    moved = results.model_copy(update={"suite": results.suite.model_copy(update={"concepts": concepts})})
    grid = choose_grid(moved, folder, "single")
    assert grid.blocks[0].references == ((),)
    assert Image.open(io.BytesIO(draw_sheet(grid))).width == 8 + 4 * 120


def test_a_thumbnail_is_small_and_keeps_its_shape(tmp_path):
    Image.new("RGB", (600, 300), (9, 99, 199)).save(tmp_path / "a.png")
    assert Image.open(io.BytesIO(read_thumbnail(tmp_path / "a.png", 192))).size == (192, 96)
    Image.new("RGB", (64, 64)).save(tmp_path / "b.png")
    assert Image.open(io.BytesIO(read_thumbnail(tmp_path / "b.png", 192))).size == (64, 64)


def test_other_files_are_refused_in_words(tmp_path):
    with pytest.raises(FileError, match="d2plan bench"):
        write_report(tmp_path)
    (tmp_path / RESULTS).write_text(json.dumps({"format": 99}), encoding="utf-8")
    with pytest.raises(InputError, match="its format is 99"):
        write_report(tmp_path)


@pytest.fixture
def halves(tmp_path):
    """Two folders with other methods each, and what one benchmark of both would have been."""
    whole = make_results(tmp_path / "whole", FEW)
    for name, methods in (("a", whole.methods[:1]), ("b", whole.methods[1:])):
        missing = [one.name for one in whole.methods if one not in methods]
        notes = (f"of {name}", f"{WAITING}{', '.join(missing)}.")
        part = whole.model_copy(update={"methods": methods, "commit": f"{name}0", "notes": notes, "finished": False})
        write_record(tmp_path / name / RESULTS, part)
        for method in methods:
            shutil.copytree(tmp_path / "whole" / "methods" / method.name, tmp_path / name / "methods" / method.name)
    shutil.copytree(tmp_path / "whole" / "concepts", tmp_path / "a" / "concepts")
    return tmp_path, whole


def test_folders_with_other_methods_make_one_report(halves):
    root, whole = halves
    written = write_report(root / "a", root / "both", [root / "b" / RESULTS])
    joined = read_results(root / "both")
    assert [one.name for one in joined.methods] == list(FEW)
    # The rival's identity is held against plain LoRA's, which stands in the other folder.
    assert joined.plain == "lora-merge" and all(one.validated is not None for one in joined.methods)
    # What each folder lacks stands in the other one.
    assert (joined.commit, joined.notes, joined.finished) == ("a0, b0", ("of a", "of b"), True)
    part = read_results(root / "b").model_copy(update={"notes": (f"{WAITING}{joined.methods[0].name}, omg.",)})
    write_record(root / "b" / RESULTS, part)
    write_report(root / "a", root / "less", [root / "b"])
    less = read_results(root / "less")
    assert (less.notes, less.finished) == (("of a", f"{WAITING}omg."), False)
    page = written.page.read_text(encoding="utf-8")
    assert page.count("data:image/webp") == write_report(root / "whole").page.read_text().count("data:image/webp")
    assert "file is gone" not in page
    assert [one.values for one in joined.methods[1].pictures] == [one.values for one in whole.methods[1].pictures]


def test_results_that_do_not_belong_together_are_not_joined(halves):
    root, whole = halves
    with pytest.raises(InputError, match=r"b: lora-merge stands in .*whole, too"):
        write_report(root / "whole", root / "both", [root / "b"])
    with pytest.raises(InputError, match="--out: several results need a folder"):
        write_report(root / "a", None, [root / "b"])
    (root / "a" / PLAN).write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="--out: several results need a folder"):
        write_report(root / "b", root / "a", [root / "whole"])
    for field, value, said in (
        ("drawing", whole.drawing.model_copy(update={"steps": 9}), "another way of drawing than in"),
        ("base", whole.base.model_copy(update={"fingerprint": "f00d"}), "another base than in"),
        ("suite", whole.suite.model_copy(update={"digest": "f00d"}), "another suite than in"),
        ("encoders", {"clip": "another"}, "other encoders than in"),
        ("kind", "ablation", "another kind of benchmark than in"),
    ):
        write_record(root / "c" / RESULTS, whole.model_copy(update={field: value, "methods": whole.methods[1:]}))
        with pytest.raises(InputError, match=said):
            write_report(root / "a", root / "both", [root / "c"])
    assert not (root / "both").exists()
