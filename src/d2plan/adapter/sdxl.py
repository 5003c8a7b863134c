"""The linear layers of full-size SDXL, so that a file can be judged without a base at hand."""

import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from d2plan.adapter.adapter import Delta

TEXT_WIDTH = 2048
# Block -> attention blocks in it, transformer layers in each, width.
_BLOCKS = (
    ("down_blocks.1", 2, 2, 640),
    ("down_blocks.2", 2, 10, 1280),
    ("mid_block", 1, 10, 1280),
    ("up_blocks.0", 3, 10, 1280),
    ("up_blocks.1", 3, 2, 640),
)
_ENCODERS = (("text_encoder", 12, 768), ("text_encoder_2", 32, 1280))
_NUMBERED = re.compile(r"unet\.(down|up)_blocks\.[0-9]+\.attentions\.([0-9]+)\.")
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")


@cache
def sdxl_layers() -> Mapping[str, tuple[int, int]]:
    """List the linear layers of SDXL's attention blocks and text encoders.

    Returns:
        Path, with its component, to input and output width: 560 attention and 162 other layers of the U-Net, and 72
        and 192 of the encoders.
    """
    layers: dict[str, tuple[int, int]] = {}
    for block, count, depth, width in _BLOCKS:
        for index in range(count):
            place = f"unet.{block}.attentions.{index}"
            layers |= {f"{place}.proj_{end}": (width, width) for end in ("in", "out")}
            for number in range(depth):
                layers |= _transformer(f"{place}.transformer_blocks.{number}", width)
    for component, depth, width in _ENCODERS:
        for number in range(depth):
            place = f"{component}.text_model.encoder.layers.{number}"
            layers |= {f"{place}.self_attn.{linear}_proj": (width, width) for linear in ("q", "k", "v", "out")}
            layers |= {f"{place}.mlp.fc1": (width, 4 * width), f"{place}.mlp.fc2": (4 * width, width)}
    return MappingProxyType(layers)


def is_sdxl(deltas: Mapping[str, Delta]) -> bool:
    """Whether every update fits full-size SDXL, by names and widths.

    Args:
        deltas: module path to update; at least one is of the U-Net in an adapter that counts.

    Returns:
        True for SDXL and what was made from it, False for any other size.
    """
    layers = sdxl_layers()
    return any(path.startswith("unet.") for path in deltas) and all(
        layers.get(path) == (delta.down.shape[1], delta.up.shape[0]) for path, delta in deltas.items()
    )


def has_sdxl_blocks(deltas: Mapping[str, Delta]) -> bool:
    """Whether sgm's block numbers, which suppose two layers in each block, mean the same layers in every program.

    Stock diffusers divides them by the U-Net's own ``layers_per_block`` + 1 (its
    ``_maybe_map_sgm_blocks_to_diffusers``), and so takes them for other layers where that is not two. An adapter shows
    two by an attention block that needs the second layer: the second on the way down, the third on the way up.

    Args:
        deltas: module path to update.

    Returns:
        True for SDXL's size, for two layers a block, and where no block is numbered.
    """
    numbered = [(match[1], int(match[2])) for path in deltas if (match := _NUMBERED.match(path))]
    return is_sdxl(deltas) or max((number + (side == "down") for side, number in numbered), default=2) == 2


def _transformer(place: str, width: int) -> dict[str, tuple[int, int]]:
    layers = {f"{place}.attn{kind}.{linear}": (width, width) for kind in (1, 2) for linear in ATTENTION[:4]}
    layers |= {f"{place}.attn2.{linear}": (TEXT_WIDTH, width) for linear in ("to_k", "to_v")}
    # The gate doubles what the first layer of the feed-forward part gives.
    return layers | {f"{place}.ff.net.0.proj": (width, 8 * width), f"{place}.ff.net.2": (4 * width, width)}
