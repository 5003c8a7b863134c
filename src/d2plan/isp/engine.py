"""The rows of a batch and how they go through the U-Net: all in one call, one after the other, or on merged copies."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from d2plan.adapter.merged import merged_rows
from d2plan.adapter.rows import RowChoice, Weighted, adapter_rows
from d2plan.backbone.attention import (
    ColumnRead,
    ColumnSwap,
    ColumnTap,
    TapPlan,
    TextKeys,
    attention_levels,
    read_text,
    tap_columns,
)
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import TextStates, join_states, predict, time_ids
from d2plan.backbone.spatial import ControlUse, add_controls
from d2plan.config import IspSettings
from d2plan.errors import InputError
from d2plan.isp.affinity import tap_affinity
from d2plan.isp.prepare import PreparedScene


@dataclass(frozen=True)
class EngineOptions:
    """How the U-Net is run; the picture stays the same but for rounding.

    Attributes:
        memory: "rows" puts all rows through in one call, adapters beside the weights; "low" one row after the other,
            for the least memory (latents equal within 1e-5 of their range in float32); "merged" all in one call on
            one merged copy of the attention weights a concept, for speed (within 1e-4 in float32).
    """

    memory: Literal["rows", "low", "merged"] = "rows"

    def __post_init__(self) -> None:
        """Refuse a word that means nothing."""
        if self.memory not in ("rows", "low", "merged"):
            raise InputError(f"memory is {self.memory!r}, but must be rows, low or merged.")


class Row(NamedTuple):
    """One row of a batch.

    Attributes:
        scene: whose, by its place in the batch.
        kind: "null" has no prompt, "global" the global one, "sub" an instance's.
    """

    scene: int
    kind: Literal["null", "global", "sub"]


@dataclass(frozen=True, eq=False)
class Layout:
    """The rows [no prompt | global | sub 1..m] of every scene of a batch.

    Attributes:
        rows: in order.
        spans: each scene's part of them.
        text: what they read.
        loads: the adapters that they carry.
        plan: all columns that are read or replaced in them.
        asking: the global rows of scenes whose masks have to be found.
    """

    rows: tuple[Row, ...]
    spans: tuple[slice, ...]
    text: TextStates
    loads: tuple[tuple[Weighted, ...], ...]
    plan: TapPlan
    asking: tuple[int, ...]

    @property
    def base_rows(self) -> tuple[int, ...]:
        """The rows of the bare base, which alone run in the warm-up."""
        return tuple(index for index, row in enumerate(self.rows) if row.kind != "sub")


def lay_rows(scenes: Sequence[PreparedScene], settings: IspSettings, level: int) -> Layout:
    """Lay out the rows of scenes that go through the loop together.

    Args:
        scenes: of one size.
        settings: whether and how maps are calibrated.
        level: where maps are collected.

    Returns:
        The layout.
    """
    rows: list[Row] = []
    spans, texts, swaps, reads, asking = [], [], [], [], []
    loads: list[tuple[Weighted, ...]] = []
    for place, scene in enumerate(scenes):
        first, skipped = len(rows), 0 if scene.guided else 1
        kinds: list[Literal["null", "global", "sub"]] = ["null", "global", *["sub"] * len(scene.adapters)]  # type: ignore[list-item]
        rows += [Row(place, kind) for kind in kinds[skipped:]]
        loads += scene.loads[skipped:]
        texts.append(scene.text[skipped:])
        spans.append(slice(first, len(rows)))
        row = first + 1 - skipped
        if scene.asks:
            asking.append(row)
        for number, (k, j) in enumerate(scene.columns):
            reads.append(ColumnRead(row, k))
            swaps.append(ColumnSwap(row, k, row + 1 + number, j))
    plan = TapPlan(
        swaps=tuple(swaps) if settings.calibrate else (),
        reads=tuple(reads),
        levels=frozenset({level}),
        values=settings.values,
    )
    return Layout(tuple(rows), tuple(spans), join_states(texts), tuple(loads), plan, tuple(asking))


class Engine:
    """Runs the rows of a batch through the U-Net; made by ``open_engine``.

    Args:
        backbone: the base, adapters and tap being on.
        layout: the rows.
        tap: of the cross-attention.
        keys: what its layers made of the prompts.
        adapters: the choice of rows that carry any; None where no row does.
        options: how to run.
        level: where self-attention is collected together with the maps; None leaves it.
    """

    def __init__(
        self,
        backbone: Backbone,
        layout: Layout,
        tap: ColumnTap,
        keys: TextKeys,
        adapters: RowChoice | None,
        options: EngineOptions,
        level: int | None,
    ) -> None:
        self.layout = layout
        self.tap = tap
        self.backbone = backbone
        self._keys = keys
        self._adapters = adapters
        self._low = options.memory == "low"
        self._level = level
        self._owners = torch.tensor([row.scene for row in layout.rows], device=backbone.device)
        self._affinities: dict[int, Tensor] = {}
        self._watched = 0

    def calls(self, rows: int) -> int:
        """Say how many U-Net calls some rows of one scene take.

        Args:
            rows: how many.

        Returns:
            One, or one a row.
        """
        return rows if self._low else 1

    def affinity(self, row: int) -> Tensor | None:
        """Give the self-attention of a global row, collected with its maps.

        Args:
            row: of the layout.

        Returns:
            ``[q, q]``, mean over what was collected; None where nothing was.
        """
        return self._affinities[row] / self._watched if row in self._affinities else None

    def clear(self) -> None:
        """Forget what was collected."""
        self.tap.clear()
        self._affinities.clear()
        self._watched = 0

    def predict(
        self,
        latents: Tensor,
        timestep: Tensor,
        ids: Tensor,
        rows: Sequence[int],
        *,
        uses: Sequence[ControlUse] = (),
        calibrate: bool = False,
        watch: bool = False,
    ) -> Tensor:
        """Predict for some rows.

        Args:
            latents: x_t of every scene, scaled for the U-Net, ``[scenes, c, h, w]``.
            timestep: one for all.
            ids: of the picture's size, ``[1, 6]``.
            rows: of the layout, ascending; all sub rows of a scene together with its global row.
            uses: ControlNets, by row of the layout.
            calibrate: replace columns, eq. (7).
            watch: collect the global rows' maps and self-attention.

        Returns:
            In the order of ``rows``, ``[len(rows), c, h, w]``.
        """
        call = self._make_call(latents, timestep, ids, uses, calibrate, watch)
        if watch:
            self._watched += 1
        if not self._low:
            return call(tuple(rows))
        # Sub rows come first, because the global row takes columns of theirs.
        found = {row: call((row,)) for row in reversed(rows)}
        return torch.cat([found[row] for row in rows])

    def _make_call(
        self,
        latents: Tensor,
        timestep: Tensor,
        ids: Tensor,
        uses: Sequence[ControlUse],
        calibrate: bool,
        watch: bool,
    ) -> Callable[[tuple[int, ...]], Tensor]:
        def call(rows: tuple[int, ...]) -> Tensor:
            if self._adapters is not None:
                self._adapters.choose(rows)
            self.tap.choose(rows, reading=watch, swapping=calibrate)
            text = TextStates(self._keys.pick(rows), self.layout.text.pooled[list(rows)])
            states = latents[self._owners[list(rows)]]
            row_ids = ids.expand(len(rows), -1)
            own = [use._replace(row=rows.index(use.row)) for use in uses if use.row in rows]
            residuals = add_controls(own, states, timestep, text, row_ids) if own else None
            with self._watching(rows, watch):
                return predict(self.backbone, states, timestep, text, row_ids, residuals)

        return call

    @contextmanager
    def _watching(self, rows: tuple[int, ...], watch: bool) -> Iterator[None]:
        places = [rows.index(row) for row in self.layout.asking if row in rows]
        if not watch or self._level is None or not places:
            yield
            return
        with tap_affinity(self.backbone.unet, places, self._level) as tap:
            yield
        for number, place in enumerate(places):
            row, found = rows[place], tap.affinity(number)
            self._affinities[row] = self._affinities[row] + found if row in self._affinities else found


@contextmanager
def open_engine(
    backbone: Backbone, layout: Layout, options: EngineOptions, level: int | None = None
) -> Iterator[Engine]:
    """Put adapters and tap on the U-Net while the block runs; afterwards it is as before, bit for bit.

    Args:
        backbone: the base.
        layout: the rows of the batch.
        options: how to run.
        level: where self-attention is collected together with the maps; None leaves it.

    Yields:
        What runs them.
    """
    unet, carries = backbone.unet, any(layout.loads)
    with ExitStack() as stack:
        # A prompt's keys and values stay the same in all steps, so the adapters of their layers leave the loop.
        with torch.no_grad(), ExitStack() as reading:
            if carries:
                reading.enter_context(adapter_rows(unet, "unet", layout.loads, only=_reads_text))
            keys = read_text(unet, layout.text.states)
        adapters = None
        if carries:
            put = merged_rows if options.memory == "merged" else adapter_rows
            adapters = stack.enter_context(put(unet, "unet", layout.loads, only=lambda path: not _reads_text(path)))
        tap = stack.enter_context(tap_columns(unet, layout.plan, keys))
        yield Engine(backbone, layout, tap, keys, adapters, options, level)


def choose_level(backbone: Backbone, settings: IspSettings) -> int:
    """Choose where maps are collected: the level with cross-attention that is nearest to the one asked for.

    Args:
        backbone: the base.
        settings: ``map_level``.

    Returns:
        0 is the latent's own size, each next one half of it.
    """
    return min(attention_levels(backbone.unet), key=lambda level: abs(level - settings.map_level))


def size_ids(backbone: Backbone, scene: PreparedScene) -> Tensor:
    """Give the U-Net's view of a picture's size.

    Args:
        backbone: the base.
        scene: the scene.

    Returns:
        ``[1, 6]``.
    """
    return time_ids(backbone, 1, scene.size)


def _reads_text(path: str) -> bool:
    return path.endswith((".attn2.to_k", ".attn2.to_v"))
