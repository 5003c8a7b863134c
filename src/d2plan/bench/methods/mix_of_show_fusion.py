"""Mix-of-Show's gradient fusion: one linear map that says to each concept's inputs what its own tuned map says."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from d2plan.shapes import check_shape

_HISTORY, _STRETCH = 25, 20
_TOLERANCE = 1e-16
_LEAST_GAIN = 1e-10


class Answers:
    """What a linear map was seen to answer, as the sums that a squared error needs, so that nothing grows with it.

    Args:
        width: d of the inputs.
        answer_width: o of the outputs.
    """

    def __init__(self, width: int, answer_width: int) -> None:
        self.count = 0
        self._gram = torch.zeros(width, width, dtype=torch.float64)
        self._cross = torch.zeros(answer_width, width, dtype=torch.float64)
        self._squares = 0.0

    def add(self, inputs: Tensor, outputs: Tensor) -> None:
        """See some more.

        Args:
            inputs: ``[... d]``.
            outputs: what the map made of them, without its bias, ``[... o]``.

        Raises:
            ShapeError: another width, or not as many.
        """
        sizes = {"d": self._gram.shape[0], "o": self._cross.shape[0]}
        given, told = inputs.detach().flatten(0, -2), outputs.detach().flatten(0, -2)
        check_shape(told, "n o", "outputs", check_shape(given, "n d", "inputs", sizes))
        given, told = given.to("cpu", torch.float64), told.to("cpu", torch.float64)
        self._gram.addmm_(given.T, given)
        self._cross.addmm_(told.T, given)
        self._squares += float(told.square().sum())
        self.count += len(given)

    def measure(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Measure how far another map's answers are from these.

        Args:
            weight: of that map, ``[o d]`` float64.

        Returns:
            The mean squared error over all outputs, a scalar, that of the features themselves but for rounding; and
            its gradient, ``[o d]``.
        """
        size = max(1, self.count * weight.shape[0])
        product = weight @ self._gram
        whole = (product * weight).sum() - 2 * (weight * self._cross).sum() + self._squares
        return whole / size, 2 * (product - self._cross) / size


def match_answers(weight: Tensor, answers: Answers, iterations: int) -> Generator[float, None, Tensor]:
    """Change a linear map until it answers as was seen, by L-BFGS from where it is.

    What lies outside the inputs' span stays as it was, since no gradient points there.

    Source: Gu et al. 2023 (Mix-of-Show), eq. (3), with the authors' ``update_quasi_newton``: strong Wolfe line search,
    rate 1, 25 remembered steps, the best map that was met. They compute the same error from stored features in float32,
    which sees no gain below a ten-millionth; here it is float64, and ends where a step gains less than 1e-10 of the
    first error.

    Args:
        weight: of the base, ``[o d]``; not changed.
        answers: what to match, of all concepts.
        iterations: of L-BFGS, at most.

    Returns:
        A generator that gives the part of the iterations that is done, 0..1, now and then, and at its end ``[o d]`` in
        the number format and on the device of ``weight``.
    """
    return _search(weight, answers, iterations)


def _search(weight: Tensor, answers: Answers, iterations: int) -> Generator[float, None, Tensor]:
    guess = weight.detach().to("cpu", torch.float64, copy=True).requires_grad_(True)
    best, least = guess.detach().clone(), float(answers.measure(guess.detach())[0])
    most = iterations * 5 // 4  # looks, as torch has it
    search = torch.optim.LBFGS(
        [guess],
        lr=1,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
        tolerance_grad=_TOLERANCE,
        tolerance_change=max(_TOLERANCE, _LEAST_GAIN * least),
    )

    def look() -> float:
        nonlocal best, least
        error, slope = answers.measure(guess.detach())
        if (now := float(error)) < least:
            best, least = guess.detach().clone(), now
        guess.grad = slope
        return now

    group, state = search.param_groups[0], search.state[guess]
    for number, done in enumerate(range(0, iterations, _STRETCH)):
        # A stretch goes on from what the last one remembers; that each looks anew at where it begins does not count.
        group["max_iter"] = min(_STRETCH, iterations - done)
        group["max_eval"] = most - state.get("func_evals", 0) + number
        search.step(look)
        if state["n_iter"] < done + group["max_iter"] or state["func_evals"] - number >= most:
            break
        yield (done + group["max_iter"]) / iterations
    return best.to(weight)


@contextmanager
def watch_answers(
    layers: Mapping[str, nn.Linear], into: dict[str, Answers], tokens: int | None = None
) -> Iterator[None]:
    """Let layers' answers be seen while the block runs.

    Args:
        layers: by name.
        into: what they answered, by the same names; made where it is missing.
        tokens: of each row, only the first so many are seen; all without it.

    Yields:
        Nothing; afterwards the layers are as before.
    """
    with ExitStack() as stack:
        for name, layer in layers.items():
            seen = into.setdefault(name, Answers(layer.in_features, layer.out_features))
            stack.callback(layer.register_forward_hook(partial(_see, seen, tokens)).remove)
        yield


def _see(seen: Answers, tokens: int | None, layer: nn.Linear, given: Sequence[Tensor], told: Tensor) -> None:
    plain = told if layer.bias is None else told - layer.bias
    seen.add(given[0][..., :tokens, :], plain[..., :tokens, :])
