import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2plan.errors import FileError, InputError, MissingExtraError
from d2plan.eval.encoders import MINI_VIT, open_encoder
from d2plan.eval.judge import load_judge
from d2plan.eval.panel import Panel
from d2plan.eval.score import Expectation, Expected
from d2plan.workflows.scoring.checks import check_distances, check_readable, note_foreign_classes
from d2plan.workflows.scoring.items import Item, Known
from d2plan.workflows.scoring.sources import Sources


def make_sources(*paths, word="dog"):
    expected = Expectation((Expected(word),))
    return Sources({"mine": tuple(Item(path.name, path, None, expected, (), "") for path in paths)}, {}, {})


@pytest.fixture(scope="module")
def judging():
    return Panel(judge=load_judge())


def test_a_class_that_the_judge_does_not_know_is_told_with_the_nearest_one(judging):
    assert note_foreign_classes(judging, make_sources(Path("0.png"))) == ()
    (told,) = note_foreign_classes(judging, make_sources(Path("0.png"), word="dgo"))
    assert 'does not know what a dgo is, so no dgo is looked for; did you mean "dog"?' in told
    (told,) = note_foreign_classes(judging, make_sources(Path("0.png"), word="dragon"))
    assert "it knows man, woman, " in told and told.endswith("name another --detector")


def test_a_foreign_class_is_told_of_a_concept_that_no_picture_shows_too(judging):
    sources = Sources({"mine": ()}, {"rex": Known("rex", "dgo", None, Path("rex"))}, {})
    assert len(note_foreign_classes(judging, sources)) == 1
    assert note_foreign_classes(Panel(), sources) == ()


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_picture_that_was_cut_off_is_found(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 255, (64, 48, 3), np.uint8)
    whole, cut = tmp_path / f"whole.{ending}", tmp_path / f"cut.{ending}"
    Image.fromarray(noise).save(whole)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    seen = []
    check_readable(make_sources(whole), None, lambda what, done, total: seen.append((done, total)))
    assert seen == [(0, 1), (1, 1)]
    with pytest.raises(FileError, match=rf"^\S+cut\.{ending}: is damaged or cut off"):
        check_readable(make_sources(whole, cut), None, lambda *_: None)


def test_sets_that_have_no_distance_are_told_before_anybody_looks(tmp_path, monkeypatch):
    looking = Panel(dino=open_encoder(MINI_VIT))
    (tmp_path / "0.png").touch()
    with pytest.raises(InputError, match=r"--real \S+: a distance of sets needs an encoder; name a --clip or a --dino"):
        check_distances(Panel(), make_sources(), tmp_path)
    with pytest.raises(InputError, match=r"--real \S+: a distance of sets needs 2 pictures or more, and here is 1"):
        check_distances(looking, make_sources(), tmp_path)
    (tmp_path / "1.png").touch()
    with pytest.raises(InputError, match="mine: a distance of sets needs 2 pictures or more, and here is 1"):
        check_distances(looking, make_sources(Path("0.png")), tmp_path)
    check_distances(looking, make_sources(Path("0.png"), Path("1.png")), tmp_path)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(MissingExtraError, match="d2plan.metrics"):
        check_distances(looking, make_sources(Path("0.png"), Path("1.png")), tmp_path)


def test_pictures_of_the_true_kind_are_opened_too(tmp_path):
    (tmp_path / "0.png").write_text("no picture")
    with pytest.raises(FileError, match="is not a PNG"):
        check_readable(Sources({}, {}, {}), tmp_path, lambda *_: None)
