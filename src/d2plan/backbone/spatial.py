"""ControlNets: networks that hold a picture to a drawing (a skeleton, a depth map) by what they add to the U-Net.

Source: Zhang et al. 2023; the same bits as diffusers' StableDiffusionXLControlNetPipeline.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from diffusers import ControlNetModel
from diffusers.image_processor import VaeImageProcessor
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional

from d2plan.backbone.load import Backbone, find_folder, open_component
from d2plan.backbone.sdxl import Residuals, TextStates
from d2plan.errors import FileError, InputError
from d2plan.shapes import check_shape

_SHARED = ("in_channels", "cross_attention_dim", "block_out_channels", "layers_per_block", "addition_embed_type")


@dataclass(frozen=True, eq=False)
class SpatialControl:
    """A ControlNet at work on one picture.

    Attributes:
        model: the network.
        image: the drawing, ``[1, 3, height, width]``, 0..1, the picture's size in pixels.
        strength: what its additions are multiplied by.
        start: the part of the steps after which it begins, 0..1.
        end: the part of the steps after which it stops, 0..1.
        rows: "global" for the rows of the bare base, "all" for every row.
    """

    model: ControlNetModel
    image: Tensor
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    rows: Literal["global", "all"] = "global"

    def acts(self, index: int, total: int) -> bool:
        """Say whether it takes part in a step, as the stock pipeline decides.

        Args:
            index: of the step, from 0.
            total: steps.

        Returns:
            True within start..end.
        """
        return self.strength != 0 and not (index / total < self.start or (index + 1) / total > self.end)


class ControlUse(NamedTuple):
    """A control on one row of a batch.

    Attributes:
        control: the control.
        row: of the batch.
        weight: how much its additions count at each place, ``[h, w]``, 0..1; None is 1.
    """

    control: SpatialControl
    row: int
    weight: Tensor | None = None


def load_control(source: str | Path, backbone: Backbone) -> ControlNetModel:
    """Open a ControlNet from this machine's disk.

    Args:
        source: its folder in the diffusers layout, or the hub id of one that was downloaded before.
        backbone: the base that it is for.

    Returns:
        The network, frozen, on the base's device and in its number format.

    Raises:
        InputError: there is no such folder or download, or it is a ControlNet of another kind of base.
        FileError: it cannot be read.
    """
    folder = find_folder(source, "controls: model")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"controls: {folder} holds no config.json of a ControlNet; name another folder.") from error
    if kind != "ControlNetModel":
        raise InputError(f"controls: {folder} is a {kind}, not a ControlNetModel; name a ControlNet for SDXL.")
    base = backbone.unet.config
    for name in _SHARED:
        if name in config and _plain(config[name]) != _plain(base[name]):
            raise InputError(
                f"controls: {folder} was made for another kind of base: its {name} is {config[name]}, "
                f"that of {backbone.name} is {base[name]}."
            )
    _check_scale(folder, config, backbone)
    try:
        return open_component(ControlNetModel, folder, str(backbone.device), backbone.dtype)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise FileError(f"{folder} cannot be opened as a ControlNet: {error}; copy it anew.") from error


def prepare_image(image: NDArray[np.uint8], size: tuple[int, int], backbone: Backbone) -> Tensor:
    """Bring a drawing to the size and form that a ControlNet reads.

    Args:
        image: uint8 ``[h, w, 3]``.
        size: height and width of the picture, pixels.
        backbone: the base.

    Returns:
        ``[1, 3, height, width]``, 0..1, on the base's device.

    Raises:
        ShapeError: another shape.
    """
    check_shape(image, "h w 3", "image")
    processor = VaeImageProcessor(vae_scale_factor=backbone.latent_scale, do_convert_rgb=True, do_normalize=False)
    pixels = processor.preprocess(Image.fromarray(np.ascontiguousarray(image)), height=size[0], width=size[1])
    return pixels.to(backbone.device, backbone.dtype)


def add_controls(
    uses: Sequence[ControlUse], latents: Tensor, timestep: Tensor, text: TextStates, ids: Tensor
) -> Residuals | None:
    """Compute what ControlNets add to the U-Net in one call; rows without a control get zeros.

    Args:
        uses: which control acts on which row; of several on one row the additions are summed in this order.
        latents: x_t as the U-Net sees it, ``[b, c, h, w]``.
        timestep: of the call.
        text: b rows.
        ids: ``[b, 6]``.

    Returns:
        The additions for all rows; None when no control acts.
    """
    groups: dict[tuple[int, float], list[ControlUse]] = {}
    for use in uses:
        groups.setdefault((id(use.control.model), use.control.strength), []).append(use)
    total: list[Tensor] = []
    for group in groups.values():
        for part in _split_rounds(group):
            added = _run(part, latents, timestep, text, ids)
            total = added if not total else [one.add_(other) for one, other in zip(total, added, strict=True)]
    return Residuals(tuple(total[:-1]), total[-1]) if total else None


def _split_rounds(group: list[ControlUse]) -> list[list[ControlUse]]:
    """One network may act twice on a row, with two drawings: no row twice in one call."""
    rounds: list[list[ControlUse]] = []
    for use in group:
        free = next((part for part in rounds if all(other.row != use.row for other in part)), None)
        if free is None:
            rounds.append([use])
        else:
            free.append(use)
    return rounds


@torch.no_grad()
def _run(group: list[ControlUse], latents: Tensor, timestep: Tensor, text: TextStates, ids: Tensor) -> list[Tensor]:
    rows = [use.row for use in group]
    whole = rows == list(range(len(latents)))
    picked = slice(None) if whole else rows
    down, middle = group[0].control.model(
        latents[picked],
        timestep,
        encoder_hidden_states=text.states[picked],
        controlnet_cond=torch.cat([use.control.image for use in group]),
        conditioning_scale=group[0].control.strength,
        added_cond_kwargs={"text_embeds": text.pooled[picked], "time_ids": ids[picked]},
        return_dict=False,
    )
    added = [*down, middle]
    if any(use.weight is not None for use in group):
        added = [_weigh(part, group) for part in added]
    if whole:
        return added
    return [part.new_zeros(len(latents), *part.shape[1:]).index_copy_(0, _index(rows, part), part) for part in added]


def _weigh(part: Tensor, group: list[ControlUse]) -> Tensor:
    size = (part.shape[-2], part.shape[-1])
    weights = [
        part.new_ones(1, 1, *size)
        if use.weight is None
        else functional.interpolate(use.weight[None, None].to(part.device, torch.float32), size=size, mode="area")
        for use in group
    ]
    return part * torch.cat([weight.to(part.dtype) for weight in weights])


def _index(rows: list[int], like: Tensor) -> Tensor:
    return torch.tensor(rows, dtype=torch.long, device=like.device)


def _check_scale(folder: Path, config: Mapping[str, object], backbone: Backbone) -> None:
    """Its first layers halve the drawing once for each width but the first, and must end at the latents' size."""
    widths = config.get("conditioning_embedding_out_channels")
    if not isinstance(widths, list):
        return
    scale = 2 ** (len(widths) - 1)
    if scale != backbone.latent_scale:
        raise InputError(
            f"controls: {folder} was made for another kind of base: it makes drawings {scale} times smaller, the "
            f"latents of {backbone.name} are {backbone.latent_scale} times smaller than a picture; name one with "
            f"{backbone.latent_scale.bit_length()} conditioning_embedding_out_channels instead of {len(widths)}."
        )


def _plain(value: object) -> object:
    return list(value) if isinstance(value, (list, tuple)) else value
