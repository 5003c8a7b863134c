"""Which methods are good enough to be compared with: those that draw one concept nearly as well as plain LoRA does."""

from __future__ import annotations

from collections.abc import Sequence

from d2plan.bench.records import Kind, MethodRecord, Part, SuiteRecord

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
    plain, bar = (None, None) if kind == "ablation" else _find_plain(suite, records)
    return plain, tuple(one.model_copy(update={"validated": _is_valid(suite, one, bar)}) for one in records)


def mean_of(suite: SuiteRecord, record: MethodRecord, metric: str, part: Part) -> float | None:
    """Average a metric over a method's pictures.

    Args:
        suite: what was asked.
        record: the method.
        metric: its name.
        part: one concept or several.

    Returns:
        The mean; None where nothing was measured.
    """
    parts = {shot.name: shot.part for shot in suite.shots}
    known = [
        value
        for picture in record.pictures
        if parts[picture.shot] == part and (value := picture.values.get(metric)) is not None
    ]
    return sum(known) / len(known) if known else None


def _find_plain(suite: SuiteRecord, records: Sequence[MethodRecord]) -> tuple[str | None, float | None]:
    """Find plain LoRA with one concept: the method that drew it, and its identity."""
    known = {one.name: value for one in records if (value := mean_of(suite, one, "identity", "single")) is not None}
    plain = [name for name in PLAIN_LORAS if name in known] or [name for name in (ELSE_PLAIN,) if name in known]
    name = max(plain, key=lambda one: known[one], default=None)
    return name, known.get(name or "")


def _is_valid(suite: SuiteRecord, record: MethodRecord, plain: float | None) -> bool | None:
    # Where plain LoRA shows nobody, nothing can be measured by it.
    own = mean_of(suite, record, "identity", "single")
    return None if not plain or own is None else own >= VALID_SHARE * plain
