"""The gradient fusion on maps whose fusion is known."""

import pytest
import torch
from torch import nn

from d2plan.bench.methods import mix_of_show_fusion
from d2plan.bench.methods.mix_of_show_fusion import Answers, match_answers, watch_answers
from d2plan.errors import ShapeError
from tests.bench.small import finish


def _draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


BASE = _draw(5, 8, seed=1)
FIRST = _draw(5, 2, seed=2) @ _draw(2, 8, seed=3)
SECOND = _draw(5, 2, seed=4) @ _draw(2, 8, seed=5)


def _answers(*pairs):
    answers = Answers(8, 5)
    for weight, inputs in pairs:
        answers.add(inputs, inputs @ weight.T)
    return answers


def test_the_error_is_that_of_the_features_themselves():
    inputs = _draw(30, 8, seed=6)
    answers = _answers((BASE + FIRST, inputs))
    expected = torch.nn.functional.mse_loss(inputs @ BASE.T, inputs @ (BASE + FIRST).T)
    assert answers.count == 30
    weight = BASE.clone().requires_grad_(True)
    torch.nn.functional.mse_loss(inputs @ weight.T, inputs @ (BASE + FIRST).T).backward()
    assert torch.allclose(answers.measure(BASE)[1], weight.grad, rtol=0, atol=1e-12)
    assert float(answers.measure(BASE)[0]) == pytest.approx(float(expected), rel=1e-12)


def _match(answers, iterations):
    return finish(match_answers(BASE, answers, iterations))[1]


def test_a_search_in_stretches_ends_where_one_without_a_pause_ends(monkeypatch):
    one, other = _draw(40, 8, seed=8), _draw(40, 8, seed=9)
    answers = _answers((BASE + FIRST, one), (BASE + SECOND, other))
    for iterations in (7, 20, 60):
        found = []
        for stretch in (1000, 3):
            monkeypatch.setattr(mix_of_show_fusion, "_STRETCH", stretch)
            found.append(finish(match_answers(BASE, answers, iterations)))
        (_, whole), (shares, parts) = found
        assert torch.equal(whole, parts)
        assert shares == sorted(shares)
        assert shares
        assert shares[-1] <= 1


def test_one_lora_is_given_back():
    fused = _match(_answers((BASE + FIRST, _draw(60, 8, seed=6))), 50)
    assert torch.allclose(fused, BASE + FIRST, rtol=0, atol=1e-3)


def test_two_loras_that_see_different_directions_are_both_kept():
    basis = torch.linalg.qr(_draw(8, 8, seed=7))[0]
    one, other = _draw(20, 3, seed=8) @ basis[:3], _draw(20, 3, seed=9) @ basis[3:6]
    fused = _match(_answers((BASE + FIRST, one), (BASE + SECOND, other)), 100)
    assert torch.allclose(one @ fused.T, one @ (BASE + FIRST).T, rtol=0, atol=1e-3)
    assert torch.allclose(other @ fused.T, other @ (BASE + SECOND).T, rtol=0, atol=1e-3)
    # What neither has seen is the base's.
    assert torch.allclose(basis[6:] @ fused.T, basis[6:] @ BASE.T, rtol=0, atol=1e-9)


def test_two_loras_that_see_the_same_are_met_by_least_squares():
    one, other = _draw(40, 8, seed=8), _draw(40, 8, seed=9)
    fused = _match(_answers((BASE + FIRST, one), (BASE + SECOND, other)), 100)
    told = torch.cat([one @ (BASE + FIRST).T, other @ (BASE + SECOND).T])
    expected = torch.linalg.lstsq(torch.cat([one, other]), told).solution.T
    assert torch.allclose(fused, expected, rtol=0, atol=1e-3)


def test_a_layer_that_is_watched_answers_as_before_and_its_bias_is_left_out():
    layer = nn.Linear(8, 5).double()
    inputs, seen = _draw(2, 7, 8, seed=6), {}
    plain = layer(inputs)
    with watch_answers({"here": layer}, seen):
        assert torch.equal(layer(inputs), plain)
    layer(inputs)
    assert seen["here"].count == 14
    assert float(seen["here"].measure(layer.weight.detach())[0]) == pytest.approx(0, abs=1e-12)
    assert not layer._forward_hooks


def test_inputs_of_another_width_are_refused():
    with pytest.raises(ShapeError, match="inputs"):
        Answers(8, 5).add(_draw(3, 7), _draw(3, 5))
