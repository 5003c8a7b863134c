import inspect
import re

import pytest
import torch

from d2plan.bench.registry import METHODS, open_method
from d2plan.bench.shared.settings import list_names, override, read_setting, write_setting
from d2plan.bench.suites import BUILT_IN, load_suite


def test_a_setting_comes_back_beside_other_tensors():
    setting = {"strength": 0.65, "turn": 5.0}
    state = {**write_setting(setting), "weight": torch.zeros(2)}
    assert read_setting(state, ({"strength": 0.8, "turn": 2, "own_text": 1},)) == {**setting, "own_text": 1}


def test_a_state_that_tells_nothing_means_the_first_setting():
    assert read_setting({}, ({"strength": 0.8}, {"strength": 1.0})) == {"strength": 0.8}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_tells_every_name_of_a_setting_that_its_code_reads(name):
    text = inspect.getsource(inspect.getmodule(type(open_method(name))))
    read = set(re.findall(r'setting(?:\.get\(|\[)"(\w+)"', text))
    read |= {"steps"} if "count_steps(" in text else set()
    assert read <= set(list_names(open_method(name)))


def test_other_numbers_are_put_into_a_setting_by_the_names_that_its_method_knows():
    merge = open_method("lora-merge")
    changed = override(merge, {"strength": 0.8}, {"strength": 0.5, "steps": 0.1, "turn": 2.0})
    assert changed == {"strength": 0.5, "steps": 0.1}


@pytest.mark.parametrize("suite", BUILT_IN)
@pytest.mark.parametrize("name", METHODS)
def test_no_two_settings_of_a_method_fall_together_in_a_suite(name, suite):
    method, numbers = open_method(name), load_suite(suite).suite.settings
    changed = [override(method, setting, numbers) for setting in method.settings]
    assert 1 <= len(changed) <= 4
    assert all(changed.count(one) == 1 for one in changed)


def test_steps_multiply_what_a_setting_says_of_them():
    plus = open_method("p-plus")
    assert override(plus, {"rate": 5e-3, "steps": 2.0}, {"steps": 0.7}) == {"rate": 5e-3, "steps": 1.4}
    assert override(plus, {"rate": 5e-3}, {"steps": 0.7}) == {"rate": 5e-3, "steps": 0.7}
