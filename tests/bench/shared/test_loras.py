import pytest
import torch

from d2plan.adapter.rows import Weighted
from d2plan.bench.job import make_entry
from d2plan.bench.methods.isp import ISP_LORA
from d2plan.bench.registry import open_method
from d2plan.bench.shared.adapters import read_adapter
from d2plan.bench.shared.loras import LoraMethod, merge_loads, read_prompts
from d2plan.bench.shared.settings import write_setting
from tests.bench.concepts import learnt
from tests.bench.small import ALONE, DRAWING, halve, learn, small_concept

NAMES = ["lora-merge", "lora-switch", "lora-composite", "omg"]


def test_a_concept_is_learnt_as_isp_s_plain_lora_and_drawn_from_its_file(tiny, tmp_path):
    base, concept = halve(tiny), small_concept(tmp_path)
    own = learn(open_method("lora-merge"), base, concept, tmp_path)
    other = learn(ISP_LORA, base, concept, tmp_path)
    assert own.state.keys() == other.state.keys()
    assert all(torch.equal(own.state[name], other.state[name]) for name in own.state)
    (picture,) = open_method("lora-merge").draw(base, [own], {}, [ALONE], DRAWING)
    assert picture.shape == (64, 64, 3)


@pytest.mark.parametrize("name", NAMES)
def test_states_are_shared_with_isp_s_plain_lora_that_learns_alike(name):
    method = open_method(name)
    for setting in method.settings:
        theirs = {"rate": setting.get("rate", 1.0)} | {key: setting[key] for key in ("joint",) if key in setting}
        assert theirs in [dict(one) for one in ISP_LORA.settings]
        own, other = make_entry(name, method, setting), make_entry("isp-lora", ISP_LORA, theirs)
        assert (own.family, own.learning) == (other.family, other.learning)


class Spy(LoraMethod):
    """Draws nothing, and keeps what it was to draw with."""

    settings = ({"strength": 0.8},)

    def draw_loads(self, backbone, loads, setting, shots, drawing):
        self.given = (loads, setting)
        return []


def test_loads_have_the_setting_s_strength(tiny):
    spy, learned = Spy(), [learnt(tiny, 1), learnt(tiny, 2)]
    spy.draw(tiny, learned, write_setting({"strength": 0.6}), [ALONE], DRAWING)
    loads, setting = spy.given
    assert setting == {"strength": 0.6}
    assert [item.strength for item in merge_loads(loads)] == [0.6, 0.6]
    assert [item.adapter.name for item in merge_loads(loads)] == ["man-1", "man-2"]
    spy.draw(tiny, learned, {}, [ALONE], DRAWING)
    assert spy.given[1] == {"strength": 0.8}


def test_a_reader_that_stands_there_twice_reads_once(tiny):
    loads = tuple((Weighted(read_adapter(tiny, learnt(tiny, number))),) for number in (1, 2))
    first, again, second = read_prompts(tiny, ["a photo of a cat"], [loads[0], loads[0], loads[1]])
    assert first[1] is again[1]
    assert not torch.equal(first[1].states, second[1].states)
