"""Which methods are good enough to be compared with: those that draw one concept nearly as well as plain LoRA does."""

from __future__ import annotations

from collections.abc import Container, Sequence

from d2plan.bench.records import Kind, MethodRecord, Part, SuiteRecord
from d2plan.eval.statistics import collect_cells, mean_of_cells

# What draws one concept by plain sampling with its LoRA, at the strength that was tuned; the best of them is what every
# rival's single-concept identity is held against, so that none of ours is counted ahead of a rival on too low a bar.
# Without them it is ISP that draws one concept with a plain LoRA.
PLAIN_LORAS = ("lora-merge", "lora-switch", "lora-composite")
ELSE_PLAIN = "isp-lora"
VALID_SHARE = 0.8


def judge_methods(
    kind: Kind, suite: SuiteRecord, records: Sequence[MethodRecord]
) -> tuple[str | None, tuple[MethodRecord, ...]]:
    """Say of each method whether it is validated.

    Args:
        kind: an ablation holds nobody against plain LoRA.
        suite: what was asked.
        records: of all methods that are compared.

    Returns:
        The method that is plain LoRA here, None without one; and the records with ``validated``.
    """
    plain = None if kind == "ablation" else _find_plain(suite, records)
    judged = (one.model_copy(update={"validated": _is_valid(suite, one, plain)}) for one in records)
    return plain.name if plain else None, tuple(judged)


def mean_of(
    suite: SuiteRecord, record: MethodRecord, metric: str, part: Part, among: Container[str] | None = None
) -> float | None:
    """Average a metric over a method's pictures as all tables do: each concept or group weighs the same.

    Args:
        suite: what was asked.
        record: the method.
        metric: its name.
        part: one concept or several.
        among: names of the shots that count; None counts all.

    Returns:
        The mean; None where nothing was measured.
    """
    shots = {shot.name: shot for shot in suite.shots if shot.part == part and (among is None or shot.name in among)}
    cells = collect_cells(
        ("+".join(shots[one.shot].concepts), shots[one.shot].prompt, one.values.get(metric))
        for one in record.pictures
        if one.shot in shots
    )
    return mean_of_cells(cells) if cells else None


def _find_plain(suite: SuiteRecord, records: Sequence[MethodRecord]) -> MethodRecord | None:
    """Find who drew plain LoRA with one concept best."""
    known = {one.name: value for one in records if (value := mean_of(suite, one, "identity", "single")) is not None}
    plain = [name for name in PLAIN_LORAS if name in known] or [name for name in (ELSE_PLAIN,) if name in known]
    name = max(plain, key=lambda one: known[one], default=None)
    return next((one for one in records if one.name == name), None)


def _is_valid(suite: SuiteRecord, record: MethodRecord, plain: MethodRecord | None) -> bool | None:
    """Hold a method against plain LoRA on the pictures that both have."""
    if plain is None:
        return None
    both = {one.shot for one in record.pictures} & {one.shot for one in plain.pictures}
    own, bar = (mean_of(suite, one, "identity", "single", both) for one in (record, plain))
    # Where plain LoRA shows nobody, nothing can be measured by it.
    return None if not bar or own is None else own >= VALID_SHARE * bar
