"""How sure a mean and a difference are: bootstrap over concepts first, then over prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from d2plan.errors import InputError
from d2plan.eval.metrics import Estimate

REPEATS = 2000
_AT_ONCE = 4_000_000

# Concept (or group of concepts) to prompt to the values of its pictures.
Cells = Mapping[str, Mapping[str, Sequence[float]]]


def collect_cells(rows: Iterable[tuple[str, str, float | None]]) -> dict[str, dict[str, list[float]]]:
    """Sort values by concept and prompt.

    Args:
        rows: concept, prompt and value of each picture or instance; None where there is no value.

    Returns:
        The values that are there; a concept or prompt without one is left out.
    """
    cells: dict[str, dict[str, list[float]]] = {}
    for concept, prompt, value in rows:
        if value is not None:
            cells.setdefault(concept, {}).setdefault(prompt, []).append(float(value))
    return cells


def mean_of_cells(cells: Cells) -> float:
    """Average over pictures, then over prompts, then over concepts, so that each concept weighs the same.

    It is the plain mean where all concepts have as many prompts and all prompts as many pictures.

    Args:
        cells: at least one value.

    Returns:
        The mean.

    Raises:
        InputError: there is no value.
    """
    table, sizes = _lay_out(cells)
    inside = np.arange(table.shape[1]) < sizes[:, None]
    return float((np.where(inside, table, 0).sum(1) / sizes).mean())


def estimate_cells(cells: Cells, seed: int = 0, repeats: int = REPEATS) -> Estimate | None:
    """Estimate a mean and its 95 % interval: concepts are drawn with replacement, and for each of them prompts.

    Source: the bootstrap of nested data (Davison and Hinkley 1997, section 3.8; Efron 1979 for the percentiles).
    Pictures of one prompt are averaged, not drawn; with one concept and one prompt in all they are drawn, because
    nothing else is there. A single value has an interval of no width.

    Args:
        cells: concept to prompt to values.
        seed: of the draws.
        repeats: how many draws.

    Returns:
        The mean of `mean_of_cells` with its percentile interval, and the number of values; None without a value.
    """
    filled = _drop_empty(cells)
    if not filled:
        return None
    count = sum(len(values) for prompts in filled.values() for values in prompts.values())
    means = _draw_means(_spread_single(filled), seed, repeats)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(mean_of_cells(filled), float(low), float(high), count)


def paired_difference(first: Cells, second: Cells, seed: int = 0, repeats: int = REPEATS) -> Estimate | None:
    """Estimate how much one method is above another, both asked the same.

    The difference is taken prompt by prompt of each concept before anything is drawn, so what makes a concept or a
    prompt hard for both does not widen the interval. Above 0 as a whole, it says that the first is better.

    Args:
        first: of the one method.
        second: of the other, with the same concepts and prompts; see ``common_cells``.
        seed: of the draws.
        repeats: how many draws.

    Returns:
        First minus second with its 95 % interval, bootstrapped over concepts first, then prompts; ``count`` is that
        of the pairs. None where there is none.

    Raises:
        InputError: a concept or prompt is there on one side only.
    """
    first, second = _drop_empty(first), _drop_empty(second)
    odd = sorted(_keys(first) ^ _keys(second))
    if odd:
        raise InputError(
            f"{_say_cell(odd[0])} was measured for one of the two methods only"
            + (f", as {len(odd) - 1} more" if len(odd) > 1 else "")
            + "; compare what both have (common_cells)."
        )
    pairs = {
        concept: {
            prompt: [float(np.mean(values)) - float(np.mean(second[concept][prompt]))]
            if len(values) != len(second[concept][prompt])
            else [one - other for one, other in zip(values, second[concept][prompt], strict=True)]
            for prompt, values in prompts.items()
        }
        for concept, prompts in first.items()
    }
    return estimate_cells(pairs, seed, repeats)


def common_cells(first: Cells, second: Cells) -> tuple[Cells, Cells, tuple[str, ...]]:
    """Keep what two methods have both, and say what is left out or uneven.

    Args:
        first: of the one method.
        second: of the other.

    Returns:
        Both, with the same concepts and prompts, and one sentence for each thing that a reader should know.
    """
    first, second = _drop_empty(first), _drop_empty(second)
    both = _keys(first) & _keys(second)
    notes = [
        f"{_say_cell(cell)} is there for {'the first' if cell in _keys(first) else 'the second'} only"
        for cell in sorted(_keys(first) ^ _keys(second))
    ]
    for concept, prompt in sorted(both):
        one, other = len(first[concept][prompt]), len(second[concept][prompt])
        if one != other:
            notes.append(f"{_say_cell((concept, prompt))} has {one} values in the first and {other} in the second")
    return _keep(first, both), _keep(second, both), tuple(notes)


def _keep(cells: Cells, wanted: set[tuple[str, str]]) -> dict[str, dict[str, Sequence[float]]]:
    kept: dict[str, dict[str, Sequence[float]]] = {}
    for concept, prompt in sorted(wanted):
        kept.setdefault(concept, {})[prompt] = cells[concept][prompt]
    return kept


def _keys(cells: Cells) -> set[tuple[str, str]]:
    return {(concept, prompt) for concept, prompts in cells.items() for prompt in prompts}


def _say_cell(cell: tuple[str, str]) -> str:
    return " / ".join(f'"{part}"' for part in cell if part) or "the only group"


def _drop_empty(cells: Cells) -> dict[str, dict[str, Sequence[float]]]:
    filled = {
        concept: {prompt: values for prompt, values in prompts.items() if len(values)}
        for concept, prompts in cells.items()
    }
    return {concept: prompts for concept, prompts in filled.items() if prompts}


def _spread_single(cells: Cells) -> Cells:
    """Make each picture a group of its own where one prompt of one concept is all there is."""
    if len(_keys(cells)) > 1:
        return cells
    ((concept, prompts),) = cells.items()
    ((_, values),) = prompts.items()
    return {concept: {str(number): [value] for number, value in enumerate(values)}}


def _lay_out(cells: Cells) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Lay the means of the prompts out, ``[concepts prompts]`` padded with zeros, and how many there are."""
    rows = [[float(np.mean(values)) for values in prompts.values()] for prompts in _drop_empty(cells).values()]
    if not rows:
        raise InputError("there is no value to average.")
    sizes = np.array([len(row) for row in rows])
    table = np.zeros((len(rows), int(sizes.max())))
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table, sizes


def _draw_means(cells: Cells, seed: int, repeats: int) -> NDArray[np.float64]:
    """Draw concepts, then prompts of each, and average; ``[repeats]``."""
    table, sizes = _lay_out(cells)
    concepts, prompts = table.shape
    rng = np.random.default_rng(seed)
    picked = rng.integers(concepts, size=(repeats, concepts))
    means = np.empty(repeats)
    step = max(1, _AT_ONCE // (concepts * prompts))
    for start in range(0, repeats, step):
        chosen = picked[start : start + step]
        limits = sizes[chosen][..., None]
        places = (rng.random((*chosen.shape, prompts)) * limits).astype(np.int64)
        values = table[chosen[..., None], places]
        inside = np.arange(prompts) < limits
        means[start : start + step] = (np.where(inside, values, 0).sum(-1) / sizes[chosen]).mean(-1)
    return means
