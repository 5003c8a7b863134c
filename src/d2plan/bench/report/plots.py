"""Plots of a benchmark as SVG text: each row is a method, so names can be read at any width.

Colours are the demo page's two, which colour-blind people tell apart; what they say is said by shape as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from typing import Any

from d2plan.bench.records import METRICS, TABLE_METRICS, MethodRecord, Part, Results
from d2plan.bench.report.comparison import (
    AIMED,
    OURS,
    PARTS,
    Difference,
    compare_methods,
    estimate_part,
    find_method,
    has_numbers,
    list_rivals,
    tell_absence,
)
from d2plan.bench.report.cost_tables import list_costs, mean_seconds
from d2plan.bench.report.score_tables import PART_TITLES, name_method, name_metric
from d2plan.errors import MissingExtraError
from d2plan.eval.metrics import Estimate

INK, SOFT, LINE, PAPER, ONE, TWO, BAD = "#20242b", "#5d6470", "#e2dfd6", "#ffffff", "#0068a3", "#9a6400", "#b3261e"
# What the page calls these colours, so that plots follow its light and dark.
_NAMES = {INK: "ink", SOFT: "soft", LINE: "line", PAPER: "card", ONE: "one", TWO: "two", BAD: "no"}
_WIDTH, _ROW, _HEAD, _FOOT, _LETTER = 430.0, 25.0, 34.0, 40.0, 6.6
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 11.0,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "axes.unicode_minus": True,
}

Axes = Any  # matplotlib is an optional extra, opened when it is there


@dataclass(frozen=True)
class Plot:
    """A plot.

    Attributes:
        key: its file's stem.
        title: what it shows.
        svg: the picture, on white, with nothing outside of itself.
    """

    key: str
    title: str
    svg: str

    @property
    def inline(self) -> str:
        """The same for a page that names its colours ``--ink``, ``--one`` and so on."""
        text = self.svg
        for colour, name in _NAMES.items():
            text = text.replace(colour, f"var(--{name})")
        return text


def check_plots() -> None:
    """Say whether plots can be drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError("plots need matplotlib; install it with `pip install 'd2plan[plots]'`.")


def draw_scores(results: Results) -> list[Plot]:
    """Draw Table 2: for each of its metrics the means with one and with several concepts and their intervals.

    Args:
        results: of the benchmark.

    Returns:
        A plot for each metric that has numbers.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    plots = []
    for metric in TABLE_METRICS:
        shown = [PART_TITLES[part] for part in PARTS if has_numbers(results, metric, part)]
        if shown:
            draw = partial(_draw_parts, results=results, metric=metric)
            title = f"{name_metric(metric)}: {' and '.join(shown)}"
            plots.append(_draw_panel(results, f"scores-{metric}", title, draw))
    return plots


def _draw_parts(axes: Axes, results: Results, metric: str) -> None:
    single, multi = ([estimate_part(results, one, metric, part) for one in results.methods] for part in PARTS)
    _draw_estimates(axes, single, -0.17, {"color": ONE, "marker": "o", "markerfacecolor": PAPER}, PART_TITLES["single"])
    _draw_estimates(axes, multi, 0.17, {"color": TWO, "marker": "s", "markerfacecolor": TWO}, PART_TITLES["multi"])
    _tell_absent(axes, [_join_absences(results, method, metric) for method in results.methods])
    _add_legend(axes)


def draw_differences(results: Results) -> list[Plot]:
    """Draw the paired differences of ISP + DisLoRA against each rival, several concepts.

    Args:
        results: of the benchmark.

    Returns:
        A plot for each metric of the aim; none where ours or rivals are missing.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    ours, rivals = find_method(results, OURS), list_rivals(results)
    if ours is None or not rivals:
        return []
    plots = []
    for metric in AIMED:
        found = [compare_methods(results, ours, rival, metric, "multi") for rival in rivals]
        if all(one.estimate is None for one in found):
            continue

        def draw(axes: Axes, found: Sequence[Difference] = found) -> None:
            _draw_verdicts(axes, found)
            _tell_absent(axes, [one.verdict if one.estimate is None else "" for one in found])
            low, high = axes.get_xlim()
            axes.set_xlim(min(low, -0.08 * high), max(high, -0.08 * low))
            axes.axvline(0, color=SOFT, linewidth=1)
            _add_legend(axes)

        names = [name_method(results, rival).text for rival in rivals]
        title = f"{METRICS[metric].title}: ours minus the rival"
        plots.append(_draw_panel(results, f"differences-{metric}", title, draw, names))
    return plots


def draw_costs(results: Results) -> list[Plot]:
    """Draw what a picture with several concepts, or else with one, costs, and what a concept costs.

    Args:
        results: of the benchmark.

    Returns:
        The plots; one without numbers is left out.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    part: Part = "multi" if any(shot.part == "multi" for shot in results.suite.shots) else "single"
    costs = [list_costs(results, method, part) for method in results.methods]
    what = f"a picture with {PART_TITLES[part]}"
    bars: list[tuple[str, str, list[float | None], str]] = [
        ("cost-rows", f"U-Net rows of {what}", [_mean([one.unet_rows for one in own]) for own in costs], "{:.0f}"),
        ("cost-seconds", f"Seconds of {what}", [_mean([one.seconds for one in own]) for own in costs], "{:.2f}"),
        (
            "cost-learning",
            "Seconds of learning a concept",
            [mean_seconds(one.learned) for one in results.methods],
            "{:.0f}",
        ),
    ]
    plots = []
    for key, title, values, form in bars:
        if all(value is None for value in values):
            continue
        parts: Sequence[Part] = PARTS if key == "cost-learning" else (part,)
        absent = [
            tell_absence(results, method, parts) if value is None else ""
            for method, value in zip(results.methods, values, strict=True)
        ]
        plots.append(_draw_panel(results, key, title, partial(_draw_bars, values=values, form=form, absent=absent)))
    return plots


def _draw_bars(axes: Axes, values: Sequence[float | None], form: str, absent: Sequence[str]) -> None:
    top = max(value for value in values if value is not None)
    for place, value in enumerate(values):
        if value is not None:
            axes.barh(place, value, height=0.55, color=ONE)
            axes.text(value + 0.015 * top, place, form.format(value), va="center", color=INK, fontsize=10)
    axes.set_xlim(0, 1.16 * top or 1)
    _tell_absent(axes, absent)


def _draw_estimates(
    axes: Axes, estimates: Sequence[Estimate | None], shift: float, look: Mapping[str, object], label: str
) -> None:
    for place, one in enumerate(estimates):
        if one is not None:
            spread = [[max(0.0, one.mean - one.low)], [max(0.0, one.high - one.mean)]]
            axes.errorbar(
                one.mean,
                place + shift,
                xerr=spread,
                markersize=6,
                markeredgewidth=1.5,
                linewidth=1.4,
                label=label,
                **look,
            )
            label = "_"


def _draw_verdicts(axes: Axes, found: Sequence[Difference]) -> None:
    looks = {
        "ahead": {"color": ONE, "marker": "o", "markerfacecolor": ONE},
        "behind": {"color": BAD, "marker": "D", "markerfacecolor": BAD},
        "not told apart": {"color": SOFT, "marker": "o", "markerfacecolor": PAPER},
        "not validated": {"color": SOFT, "marker": "x", "markerfacecolor": SOFT},
        "not checked": {"color": SOFT, "marker": "s", "markerfacecolor": PAPER},
    }
    for verdict, look in looks.items():
        shown = [one.estimate if one.verdict == verdict else None for one in found]
        _draw_estimates(axes, shown, 0.0, look, verdict)


def _join_absences(results: Results, method: MethodRecord, metric: str) -> str:
    found = {part: tell_absence(results, method, (part,), metric) for part in PARTS}
    if found["single"] == found["multi"]:
        return found["single"]
    return ", ".join(f"{PART_TITLES[part]}: {why}" for part, why in found.items() if why)


def _tell_absent(axes: Axes, absent: Sequence[str]) -> None:
    """Write at a row's beginning why it has no number."""
    for place, why in enumerate(absent):
        axes.text(0.01, place, why, transform=axes.get_yaxis_transform(), va="center", color=SOFT, fontsize=9)


def _draw_panel(
    results: Results, key: str, title: str, draw: Callable[[Axes], None], names: Sequence[str] | None = None
) -> Plot:
    """Draw one panel: names on the left in the order of the results, values to the right."""
    check_plots()
    labels = list(names) if names is not None else [name_method(results, method).text for method in results.methods]
    foot = _FOOT if key.startswith(("scores", "differences")) else _FOOT - 16
    height = _HEAD + _ROW * len(labels) + foot
    left = min(0.5, (14 + _LETTER * max(map(len, labels))) / _WIDTH)
    with import_module("matplotlib").rc_context({**_STYLE, "svg.hashsalt": key}):
        figure = import_module("matplotlib.figure").Figure(figsize=(_WIDTH / 72, height / 72), facecolor=PAPER)
        axes = figure.add_axes((left, foot / height, 0.97 - left, _ROW * len(labels) / height), facecolor="none")
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_yticks(range(len(labels)), labels, color=INK)
        axes.tick_params(length=0)
        axes.grid(axis="x", color=LINE, linewidth=1)
        axes.set_axisbelow(True)
        axes.locator_params(axis="x", nbins=5)
        for side in ("top", "left", "right"):
            axes.spines[side].set_visible(False)
        figure.text(0.01, 1 - 15 / height, title, fontsize=12, fontweight="bold", va="center")
        draw(axes)
        stream = StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Title": title})
    return Plot(key, title, _tidy(stream.getvalue(), title))


def _add_legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        axes.legend(
            handles,
            labels,
            loc="upper right",
            bbox_to_anchor=(1.02, -20 / (_ROW * (axes.get_ylim()[0] + 0.5))),
            ncols=len(labels),
            frameon=False,
            borderaxespad=0,
            fontsize=9.5,
            labelcolor=SOFT,
            handletextpad=0.2,
            columnspacing=1.0,
        )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _tidy(text: str, title: str) -> str:
    """Keep the picture alone: no XML head, no fixed size, the reader's own font, a name for those who cannot see it."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    # Several plots stand on one page: a name that nothing refers to is left out, the others are salted by the key.
    used = set(re.findall(r"#(\w+)[\")]", text))
    text = re.sub(r' id="([^"]+)"', lambda found: found.group(0) if found.group(1) in used else "", text)
    text = text.replace("'DejaVu Sans'", "system-ui, sans-serif")
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    width, height = (found.group(1), found.group(2)) if found else (str(_WIDTH), "")
    named = re.sub(r"[<>&\"]", " ", title)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{named}" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    )
    return head + text[text.index(">") + 1 :]
