"""What OMG's two stages share: masks from the first picture, and attention that follows that picture.

Source: Kong et al. 2024 and its program (see ``omg``); Prompt-to-Prompt (Hertz et al. 2022) for the attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional

from d2plan.backbone.attention import ColumnRead, ColumnTap, TapPlan, level_size, tap_columns
from d2plan.backbone.load import Backbone
from d2plan.backbone.sampling import latent_size
from d2plan.backbone.sdxl import TextStates, decode_latents, join_states
from d2plan.backbone.text import find_span
from d2plan.bench.protocol import Drawing, Shot
from d2plan.bench.shared.drawing import Moment, denoise_shots, encode_null, guide_plainly
from d2plan.config import IspSettings
from d2plan.isp.affinity import tap_affinity
from d2plan.isp.engine import choose_level
from d2plan.isp.masks import find_masks
from d2plan.isp.overrides import Region
from d2plan.isp.segment import Detector, detect_regions


class Following:
    """Whether self-attention follows the layout rows now; cross-attention always does."""

    def __init__(self) -> None:
        self.self_maps = False


@contextmanager
def follow_layout(unet: UNet2DConditionModel, count: int, most_pixels: int) -> Iterator[Following]:
    """Let the edit rows with the prompt attend as the layout rows do, while the block runs.

    A map is softmax(q k^T): with the layout's queries and keys in place of its own a row has the layout's maps, and
    keeps its own values. This is Prompt-to-Prompt's replacement for one prompt twice, on any attention kernel.

    Args:
        unet: the denoiser; its batches begin with [no prompt: layout, edit | prompt: layout, edit], ``count`` each.
        count: of the shots.
        most_pixels: self-attention of more pixels than that stays as it is.

    Yields:
        The switch for self-attention.
    """
    following = Following()
    source, target = slice(2 * count, 3 * count), slice(3 * count, 4 * count)

    def make_hook(crosses: bool) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def follow(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if crosses or (following.self_maps and output.shape[1] <= most_pixels):
                output[target] = output[source]

        return follow

    with ExitStack() as hooks:
        for module in unet.modules():
            if isinstance(module, Attention):
                for layer in (module.to_q, module.to_k):
                    handle = layer.register_forward_hook(make_hook(module.is_cross_attention))
                    hooks.callback(handle.remove)
        yield following


def pair_up(shots: Sequence[Shot], drawing: Drawing) -> tuple[list[Shot], Drawing]:
    """Write each shot twice, all layouts before all edits, and let them go in one batch.

    Args:
        shots: of one group.
        drawing: how to draw.

    Returns:
        The pairs, and how to draw them with one "row" each.
    """
    return [*shots, *shots], replace(drawing, most_rows=2 * len(shots))


def find_layout(
    backbone: Backbone,
    shots: Sequence[Shot],
    drawing: Drawing,
    text: TextStates,
    class_words: Sequence[str],
    detector: Detector | None,
) -> Tensor:
    """Draw the global prompts with the bare base, and find in the pictures where each instance is.

    Args:
        backbone: the base.
        shots: of one group.
        drawing: how to draw.
        text: of the global prompts, one row a shot.
        class_words: of the instances, in their order.
        detector: what looks at the pictures; what it does not find, or all without one, is taken from the attention
            of the class words, as ISP does.

    Returns:
        Which instance each latent cell belongs to, one-hot, the background first, ``[shots, m + 1, h, w]``.

    Raises:
        InputError: a global prompt does not name a class word.
    """
    settings = backbone.defaults.composing()
    pairs, paired = pair_up(shots, drawing)
    # Rows without the prompt come first; without guidance there are none.
    first = 2 * len(shots) if drawing.guidance_scale > 1 else 0
    with _watching(backbone, shots, class_words, settings, range(first, first + len(shots))) as watch:
        plain = guide_plainly(backbone, join_states([text, text]), encode_null(backbone))

        def predict(moment: Moment) -> Tensor:
            with watch.at(moment):
                return plain(moment)

        latents = denoise_shots(backbone, pairs, paired, predict=predict, rows=1)
    images = decode_latents(backbone, latents[: len(shots)])
    regions = [Region(word) for word in class_words]
    size = latent_size(backbone, (drawing.height, drawing.width))
    found = []
    for place, image in enumerate(images):
        result = find_masks(
            watch.maps(place, size),
            regions,
            size,
            detections=detect_regions(detector, image, regions) if detector else None,
            missing="mark",
            affinity=watch.affinity(place),
            margin=backbone.defaults.mask_margin,
        )
        owner = result.partition.masks.argmax(dim=0)
        found.append(functional.one_hot(owner, len(regions) + 1).permute(2, 0, 1).float())
    return torch.stack(found).to(backbone.device, backbone.dtype)


class _Watch:
    """Collects the layout rows' maps at the steps before the blend, where ISP collects its own."""

    def __init__(self, backbone: Backbone, tap: ColumnTap, settings: IspSettings, rows: range, level: int) -> None:
        self._backbone = backbone
        self._tap = tap
        self._settings = settings
        self._rows = rows
        self._level = level
        self._affinities: list[Tensor] = []
        self._watched = 0

    @contextmanager
    def at(self, moment: Moment) -> Iterator[None]:
        last = max(1, int(self._settings.warmup_fraction * moment.total + 0.5))
        reading = last - self._settings.map_steps <= moment.index < last
        self._tap.choose(None, reading=reading)
        refining = reading and self._settings.refine
        with tap_affinity(self._backbone.unet, self._rows, self._level) if refining else nullcontext() as tap:
            yield
        if tap is not None:
            found = [tap.affinity(place) for place in range(len(self._rows))]
            old = self._affinities or [torch.zeros_like(one) for one in found]
            self._affinities = [one + other for one, other in zip(old, found, strict=True)]
            self._watched += 1

    def maps(self, place: int, size: tuple[int, int]) -> Tensor:
        each = self._tap.maps(self._level)
        count = len(each) // len(self._rows)
        return each[place * count : (place + 1) * count].unflatten(1, level_size(size, self._level))

    def affinity(self, place: int) -> Tensor | None:
        return self._affinities[place] / self._watched if self._affinities else None


@contextmanager
def _watching(
    backbone: Backbone, shots: Sequence[Shot], class_words: Sequence[str], settings: IspSettings, rows: range
) -> Iterator[_Watch]:
    level = choose_level(backbone, settings)
    reads = []
    for row, shot in zip(rows, shots, strict=True):
        for number, word in enumerate(class_words):
            before = sum(other.casefold() == word.casefold() for other in class_words[:number])
            positions = find_span(backbone.tokenizers, shot.global_prompt, word, before)
            reads.append(ColumnRead(row, positions))
    with tap_columns(backbone.unet, TapPlan(reads=tuple(reads), levels=frozenset({level}))) as tap:
        yield _Watch(backbone, tap, settings, rows, level)
