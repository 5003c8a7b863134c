import torch

from d2plan.bench.shared.settings import read_setting, write_setting


def test_a_setting_comes_back_beside_other_tensors():
    setting = {"strength": 0.65, "turn": 5.0}
    state = {**write_setting(setting), "weight": torch.zeros(2)}
    assert read_setting(state, ({"strength": 0.8, "turn": 2, "own_text": 1},)) == {**setting, "own_text": 1}


def test_a_state_that_tells_nothing_means_the_first_setting():
    assert read_setting({}, ({"strength": 0.8}, {"strength": 1.0})) == {"strength": 0.8}
