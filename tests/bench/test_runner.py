"""The runner: what it counts, how it goes on after a stop, and what it does with methods that fail."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from d2plan.bench.assemble import assemble
from d2plan.bench.entries import forget_failures
from d2plan.bench.guard import Stopped
from d2plan.bench.job import MOST_SHOTS, list_casts, make_entry
from d2plan.bench.meter import sample_weights
from d2plan.bench.runner import Runner, has_state
from d2plan.bench.store import PICTURE
from d2plan.bench.suites import list_shots, load_suite, name_concepts
from d2plan.documents import load_run
from tests.bench.toys import Toy, call_unet, toy_job
from tests.tiny import tiny_backbone


def run(job, entry):
    runner = Runner(job)
    return [*runner.learn(entry), *runner.draw(entry)], runner


def gather(job, entry):
    return assemble(job, [entry], None).methods[0]


def test_rows_are_counted_by_a_hook_in_learning_and_drawing(tmp_path):
    job, toy = toy_job(tmp_path), Toy()
    entry = make_entry("toy", toy)
    run(job, entry)
    record = gather(job, entry)
    assert [one.cost.unet_rows for one in record.learned] == [3, 3]
    assert {picture.cost.unet_rows for picture in record.pictures} == {2}
    assert len(record.pictures) == len(job.suite.shots) == 10
    assert all(one.cost.seconds > 0 for one in record.learned)
    assert assemble(job, [entry], None).finished


def test_a_picture_is_a_run_folder(tmp_path):
    job = toy_job(tmp_path)
    entry = make_entry("toy", Toy())
    run(job, entry)
    folder = job.store.run("toy", "tom+rex.more-snow.00.1")
    record = load_run(folder / "run.json")
    assert Image.open(folder / "image.png").size == (128, 128)
    assert record.scene.global_prompt == "a photo of a man wearing a red hat and a dog running in the snow"
    assert [instance.sub_prompt for instance in record.scene.instances][1] == "a photo of a <v1> dog running"
    assert record.settings["method"] == "toy"


def test_what_is_done_is_not_done_again(tmp_path):
    job, toy = toy_job(tmp_path), Toy()
    run(job, make_entry("toy", toy))
    again = Toy()
    steps, _ = run(job, make_entry("toy", again))
    assert steps == []
    assert (again.learnt, again.drawn) == ([], [])


class Asks:
    """Asks to stop from the n-th time on that somebody looks."""

    def __init__(self, patience):
        self.patience = patience

    def __call__(self):
        self.patience -= 1
        return self.patience <= 0


# They look at each call of the U-Net: one for each of two concepts, then one for each of three calls of draw.
@pytest.mark.parametrize("patience", [1, 2, 3, 5])
def test_a_run_that_was_stopped_anywhere_and_went_on_gives_what_one_without_a_stop_gives(tmp_path, patience):
    whole, parts = toy_job(tmp_path / "whole"), toy_job(tmp_path / "parts")
    run(whole, make_entry("toy", Toy()))
    first = Toy()
    with pytest.raises(Stopped):
        run(replace(parts, asked=Asks(patience)), make_entry("toy", first))
    learnt = [name for name in parts.concepts if has_state(parts, make_entry("toy", first), name)]
    drawn = sum((parts.store.run("toy", shot.name) / PICTURE).is_file() for shot in parts.suite.shots)
    assert not list(parts.store.root.rglob("failures"))
    second = Toy()
    run(parts, make_entry("toy", second))
    assert second.learnt == [name for name in parts.concepts if name not in learnt]
    assert len(second.drawn) == len(parts.suite.shots) - drawn
    for shot in whole.suite.shots:
        one, other = (job.store.run("toy", shot.name) / "image.png" for job in (whole, parts))
        assert one.read_bytes() == other.read_bytes()


def test_a_stop_in_the_middle_of_learning_leaves_nothing_half_done(tmp_path):
    job, toy = toy_job(tmp_path), Toy()
    entry = make_entry("toy", toy)
    steps = Runner(job).learn(entry)
    next(steps), next(steps)
    steps.close()
    assert not has_state(job, entry, "rex")
    assert not list(job.store.root.rglob("failures"))


def test_a_method_that_fails_on_one_concept_is_reported_and_the_rest_goes_on(tmp_path):
    job = toy_job(tmp_path)
    entry = make_entry("toy", Toy(learn="tom"))
    run(job, entry)
    record = gather(job, entry)
    assert [one.concepts for one in record.learned] == [("rex",)]
    assert len(record.pictures) == 4
    (failure,) = record.failures
    assert (failure.stage, failure.concepts, len(failure.shots)) == ("learn", ("tom",), 6)
    assert failure.message.startswith("ValueError: no luck today (toys.py, line ")
    assert "Traceback" in job.store.failure("toy", "learn-tom").with_suffix(".txt").read_text()
    assert assemble(job, [entry], None).finished


def test_a_stop_ends_a_call_of_draw_at_the_next_call_of_the_u_net(tmp_path):
    job, calls = toy_job(tmp_path), []

    class Slow(Toy):
        def draw(self, backbone, learned, joined, shots, drawing):
            for _ in range(100):
                call_unet(backbone, 1)
                calls.append(len(shots))
            return []

    job = replace(job, asked=lambda: len(calls) == 2)
    with pytest.raises(Stopped):
        run(job, make_entry("toy", Slow()))
    assert len(calls) == 2


def test_a_long_join_tells_how_far_it_is(tmp_path):
    class Joins(Toy):
        def join(self, backbone, learned, setting, seed):
            yield from (0.0, 0.4, 1.0)
            return {}

    steps, _ = run(toy_job(tmp_path), make_entry("toy", Joins()))
    told = [step.what for step in steps if step.what.startswith("tom+rex: joining")]
    assert told == [f"tom+rex: joining {share} %" for share in (0, 40, 100)]


def test_a_failure_is_not_tried_again_unless_asked_for(tmp_path):
    job = toy_job(tmp_path)
    run(job, make_entry("toy", Toy(learn="tom")))
    quiet = Toy()
    run(job, make_entry("toy", quiet))
    assert quiet.learnt == []
    forget_failures(job.store, "toy")
    run(job, make_entry("toy", quiet))
    assert quiet.learnt == ["tom"]
    assert gather(job, make_entry("toy", quiet)).failures == ()


def test_a_method_that_cannot_draw_groups_still_draws_its_concepts_alone(tmp_path):
    job = toy_job(tmp_path)
    entry = make_entry("toy", Toy(draw=2))
    run(job, entry)
    record = gather(job, entry)
    assert len(record.pictures) == 8
    assert [failure.shots for failure in record.failures] == [("tom+rex.more-snow.00.0", "tom+rex.more-snow.00.1")]


def test_a_method_that_leaves_the_base_changed_is_told_and_the_base_is_whole_again(tmp_path):
    job = toy_job(tmp_path, backbone=tiny_backbone())
    entry = make_entry("toy", Toy(dirt="rex"))
    _, runner = run(job, entry)
    assert sample_weights(runner.job.backbone) == sample_weights(tiny_backbone())
    record = gather(job, entry)
    assert [one.concepts for one in record.learned] == [("tom",)]
    assert record.failures[0].message == "it left the base changed; it must put back what it touches"


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ([], "it drew 0 pictures, but 4 were asked for"),
        ([np.zeros((8, 8, 3), np.uint8)] * 4, r"a picture must be uint8 \[128, 128, 3\]"),
        ([np.zeros((128, 128, 3))] * 4, r"a picture must be uint8 \[128, 128, 3\]"),
    ],
)
def test_what_is_no_picture_is_told(tmp_path, monkeypatch, pictures, message):
    job, toy = toy_job(tmp_path), Toy()
    monkeypatch.setattr(toy, "draw", lambda *_: pictures, raising=False)
    entry = make_entry("toy", toy)
    run(job, entry)
    failures = gather(job, entry).failures
    assert len(failures) == 3
    assert re.search(message, failures[0].message)


def test_a_method_learns_the_same_whatever_ran_before(tmp_path):
    one, other = toy_job(tmp_path / "one"), toy_job(tmp_path / "other")
    run(one, make_entry("toy", Toy()))
    torch.rand(100)
    run(other, make_entry("toy", Toy()))
    for name in ("rex", "tom"):
        entry = make_entry("toy", Toy())
        assert one.state_path(entry, name).read_bytes() == other.state_path(entry, name).read_bytes()


def cut_off(content):
    return content[: len(content) // 2]


def overwrite_head(content):
    return bytes(8) + content[8:]


def flip_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [cut_off, overwrite_head])
def test_a_damaged_state_is_learnt_again_and_what_is_missing_is_drawn(tmp_path, damage):
    job, entry = toy_job(tmp_path), make_entry("toy", Toy())
    run(job, entry)
    path = job.state_path(entry, "rex")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    (job.store.run("toy", "rex.one-beach.00") / "image.png").unlink()
    again = Toy()
    run(job, make_entry("toy", again))
    assert again.learnt == ["rex"]
    assert path.read_bytes() == whole
    assert len(gather(job, entry).pictures) == 10


@pytest.mark.parametrize("damage", [cut_off, overwrite_head, flip_bit])
def test_a_damaged_picture_counts_as_not_drawn_and_is_drawn_anew(tmp_path, damage):
    job, entry = toy_job(tmp_path), make_entry("toy", Toy())
    run(job, entry)
    path = job.store.run("toy", "tom+rex.more-snow.00.1") / "image.png"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert len(gather(job, entry).pictures) == 9
    again = Toy()
    run(job, make_entry("toy", again))
    assert len(again.drawn) == 2
    assert path.read_bytes() == whole


def test_costs_say_where_they_were_measured(tmp_path):
    job, entry = toy_job(tmp_path), make_entry("toy", Toy())
    run(job, entry)
    results = assemble(job, [entry], None)
    (record,) = results.methods
    costs = [one.cost for one in (*record.learned, *record.pictures)]
    assert {cost.machine for cost in costs} == {results.machine.place}
    assert results.machine.place.endswith(f"{torch.get_num_threads()} cores, cpu")


def test_calls_hold_few_pictures_and_never_split_a_series():
    loaded = load_suite("paper")
    shots = list_shots(loaded, name_concepts(loaded, [f"<v{number}>" for number in range(1, 33)]))
    casts = list_casts(shots)
    drawn = [shot.name for cast in casts for chunk in cast.chunks for shot in chunk]
    assert sorted(drawn) == sorted(shot.name for shot in shots)
    for cast in casts:
        series = [{shot.series for shot in chunk if shot.series} for chunk in cast.chunks]
        assert all(len(chunk) <= MOST_SHOTS for chunk in cast.chunks)
        assert sum(len(one) for one in series) == len(set().union(*series))
