"""What ``scripts/measure_leak.py`` and ``scripts/measure_video.py`` compare."""

import numpy as np
import pytest

from d2plan.config import DisLoRASettings
from d2plan.documents import InstanceScore
from tests.scripts.test_measure_concepts import IDENTIFIERS, _load, plan, table

leak, video, concepts_script = (_load(name) for name in ("measure_leak", "measure_video", "measure_concepts"))


@pytest.mark.parametrize("title", list(leak.ROWS))
def test_each_row_changes_settings_that_training_takes(title):
    known = list(concepts_script.training_options(DisLoRASettings()))
    changed = table.change_settings(DisLoRASettings(), leak.ROWS[title], known)
    assert (changed == DisLoRASettings()) == (title == "with both")
    assert (changed.prior_weight > 0) == ("prior" in title)


def test_rows_differ():
    made = [table.change_settings(DisLoRASettings(), changes) for changes in leak.ROWS.values()]
    assert all(one != other for number, one in enumerate(made) for other in made[number + 1 :])


def test_a_prompt_that_shows_a_leak_names_the_class_and_nobody():
    who = plan.choose_concepts("development", 2, IDENTIFIERS)[:1]
    (shot,) = plan.plan_shots(who, 1)
    assert who[0].class_word in shot.prompt(plan.LEAK)
    assert who[0].identifier not in shot.prompt(plan.LEAK)
    assert who[0].identifier in shot.prompt(plan.MERGED)
    assert shot.prompt(plan.LEAK) == shot.prompt(plan.BASE)


class ByBrightness:
    """An encoder of one number, beside one that is always there."""

    source = "by brightness"

    def embed_images(self, images):
        return np.array([[1.0, float(image.mean()) / 255] for image in images])


def test_a_jump_shows_in_the_least_like_pair_and_in_the_largest_step():
    steady = np.stack([np.full((8, 8, 3), 10 * number, np.uint8) for number in range(16)])
    jumping = np.stack([np.full((8, 8, 3), 150 * (number > 7), np.uint8) for number in range(16)])
    smooth, broken = (video.measure_steps(frames, ByBrightness()) for frames in (steady, jumping))
    assert smooth["worst"][0] > broken["worst"][0]
    assert smooth["jump"] == [pytest.approx(10 / 255)]
    assert broken["jump"] == [pytest.approx(150 / 255)]
    row = video.summarise([smooth, broken])
    assert row["jump"].mean == pytest.approx(80 / 255)


def test_a_fault_counts_only_where_something_can_be_said():
    right = InstanceScore(class_word="dog", present=True, rank=1, rank_far=1, action_misbinding=False)
    gone = InstanceScore(class_word="man", present=False, rank=20, rank_far=10, attribute_misbinding=True)
    mixed = InstanceScore(class_word="man", present=True, rank=3, rank_far=1, visual_confusion=True)
    found = video.count_faults([right, gone, mixed])
    assert found == {
        "first": [1, 0, 0],
        "far": [1, 0, 1],
        "missing": [0, 1, 0],
        "confused": [1],
        "worn": [1],
        "done": [0],
    }
    assert set(found) <= set(video.COLUMNS)
