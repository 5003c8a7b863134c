"""How programs name the layers of SDXL in LoRA files, and where those layers are in a loaded model.

One grammar reads them all: dots and underscores are the same to it, so that Kohya's
``lora_unet_down_blocks_1_attentions_0_proj_in`` and diffusers' ``unet.down_blocks.1.attentions.0.proj_in`` meet.
"""

import contextlib
import re
from typing import Literal, NamedTuple

from torch import nn

from d2plan.errors import AdapterError

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
Naming = Literal["kohya", "sgm", "diffusers", "peft"]
Half = Literal["down", "up", "alpha"]
NAMINGS: tuple[Naming, ...] = ("kohya", "sgm", "diffusers", "peft")

# Prefix in a file (with underscores for dots) -> component. Longer ones first where one begins another.
_PREFIXES = (
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("text_encoder_2_", "text_encoder_2"),
    ("text_encoder_", "text_encoder"),
    ("unet_", "unet"),
    ("clip_l_", "text_encoder"),
    ("clip_g_", "text_encoder_2"),
    ("te1_", "text_encoder"),
    ("te2_", "text_encoder_2"),
    ("down_blocks_", "unet"),
    ("mid_block_", "unet"),
    ("up_blocks_", "unet"),
)
_ENDINGS = (
    (re.compile(r"\.lora_(down|up)\.weight"), "kohya"),
    (re.compile(r"\.lora(?:_linear_layer)?\.(down|up)\.weight"), "diffusers"),
    (re.compile(r"_lora\.(down|up)\.weight"), "diffusers"),
    (re.compile(r"\.lora_([AB])(?:\.[A-Za-z0-9_-]+)?\.weight"), "peft"),
    (re.compile(r"\.(alpha)"), ""),
)
_HALVES: dict[str, Half] = {"down": "down", "up": "up", "A": "down", "B": "up", "alpha": "alpha"}
_BLOCK = re.compile(r"(down|up)_blocks_([0-9]{1,3})_attentions_([0-9]{1,3})_(.+)|mid_block_attentions_0_(.+)")
_SGM_BLOCK = re.compile(r"(input|output)_blocks_([0-9]{1,3})_1_(.+)|middle_block_1_(.+)")
_IN_BLOCK = re.compile(
    r"proj_(?:in|out)|transformer_blocks_([0-9]{1,3})_(?:(attn[12])_(?:processor_)?to_(q|k|v|out)(?:_0)?|ff_net_(0_proj|2))"
)
_TEXT = re.compile(
    r"(?:text_model_)?encoder_layers_([0-9]{1,3})_(?:self_attn_(?:(q|k|v|out)_proj|to_(q|k|v|out))|mlp_(fc[12]))"
)
# SDXL has two layers in each block on the way down and three on the way up; sgm counts them through.
_SGM_STRIDE = 3


class Key(NamedTuple):
    """What a tensor's name says.

    Attributes:
        path: of the layer it updates, with the component.
        half: which tensor of the update it is.
        naming: which program's endings it has: "kohya", "diffusers", "peft", or empty for an alpha.
        blocks: "sgm" or "diffusers" by the names of the U-Net's blocks, empty in a text encoder.
    """

    path: str
    half: Half
    naming: str
    blocks: str


def read_key(name: str) -> Key | None:
    """Read a tensor's name in any naming.

    >>> read_key("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_out_0.lora_up.weight").path
    'unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0'
    >>> read_key("text_encoder.text_model.encoder.layers.3.self_attn.q_proj.lora_linear_layer.down.weight").path
    'text_encoder.text_model.encoder.layers.3.self_attn.q_proj'

    Args:
        name: of a tensor in a file.

    Returns:
        The layer and the half, or None when no linear layer of SDXL's attention blocks or encoders is meant.
    """
    for ending, naming in _ENDINGS:
        match = ending.search(name)
        if match is not None and match.end() == len(name):
            place = read_stem(name[: match.start()])
            return Key(place[0], _HALVES[match[1]], naming, place[1]) if place else None
    return None


def read_stem(stem: str) -> tuple[str, str] | None:
    """Read a layer's name in any naming.

    Args:
        stem: a tensor's name without its ending.

    Returns:
        The path with its component, and whose block names these are ("sgm", "diffusers", or empty); None for any
        other name.
    """
    flat = stem.removeprefix("base_model.model.").replace(".", "_")
    for prefix, component in _PREFIXES:
        if flat.startswith(prefix):
            rest = flat if prefix.endswith(("blocks_", "block_")) else flat.removeprefix(prefix)
            if component == "unet":
                return _read_unet(rest)
            path = _read_text(rest)
            return (f"{component}.{path}", "") if path else None
    return None


def write_keys(path: str, naming: Naming) -> tuple[str, str, str]:
    """Name the tensors of an update.

    >>> write_keys("unet.mid_block.attentions.0.transformer_blocks.1.attn2.to_out.0", "sgm")[0]
    'lora_unet_middle_block_1_transformer_blocks_1_attn2_to_out_0.lora_down.weight'

    Args:
        path: of the layer, with its component; ``text_model`` may be left out.
        naming: "kohya" (with diffusers' block names), "sgm" (Kohya's with SDXL's own), "diffusers" or "peft".

    Returns:
        Names of down, up and alpha; diffusers and PEFT keep alphas in the header, so that theirs is empty.

    Raises:
        AdapterError: the path is no layer that a file can name, or not in this naming.
    """
    place = read_stem(path)
    if place is None:
        raise AdapterError(f"{path} is no linear layer of attention blocks or encoders; no program could read it back.")
    component, _, rest = place[0].partition(".")
    if naming == "diffusers":
        middle = ".lora" if component == "unet" else ".lora_linear_layer"
        return f"{place[0]}{middle}.down.weight", f"{place[0]}{middle}.up.weight", ""
    if naming == "peft":
        return f"{place[0]}.lora_A.weight", f"{place[0]}.lora_B.weight", ""
    flat = rest.replace(".", "_")
    if component == "unet" and naming == "sgm":
        flat = _write_sgm(place[0], flat)
    prefix = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}[component]
    return tuple(f"{prefix}_{flat}.{end}" for end in ("lora_down.weight", "lora_up.weight", "alpha"))  # type: ignore[return-value]


def find_layer(model: nn.Module, path: str) -> nn.Module | None:
    """Find a layer by its path inside one component.

    transformers 5 has no ``text_model`` level in the first encoder and has one in the second; files always name it.

    Args:
        model: U-Net or encoder.
        path: without the component's prefix.

    Returns:
        The layer, or None.
    """
    for spelling in (path, path.removeprefix("text_model."), f"text_model.{path}"):
        with contextlib.suppress(AttributeError):
            return model.get_submodule(spelling)
    return None


def _read_unet(flat: str) -> tuple[str, str] | None:
    if match := _BLOCK.fullmatch(flat):
        block = (
            f"{match[1]}_blocks.{int(match[2])}.attentions.{int(match[3])}" if match[1] else "mid_block.attentions.0"
        )
        blocks, inner = "diffusers", match[4] or match[5]
    elif match := _SGM_BLOCK.fullmatch(flat):
        blocks, inner = "sgm", match[3] or match[4]
        number = int(match[2] or 0) - (match[1] == "input")
        side = {"input": "down_blocks", "output": "up_blocks"}.get(match[1] or "")
        if number < 0:
            return None
        block = (
            f"{side}.{number // _SGM_STRIDE}.attentions.{number % _SGM_STRIDE}" if side else "mid_block.attentions.0"
        )
    else:
        return None
    path = _read_inner(inner)
    return (f"unet.{block}.{path}", blocks) if path else None


def _read_inner(flat: str) -> str | None:
    match = _IN_BLOCK.fullmatch(flat)
    if match is None:
        return None
    number, attention, linear, forward = match.groups()
    if number is None:
        return flat
    if attention is None:
        return f"transformer_blocks.{int(number)}.ff.net.{forward.replace('_', '.', 1)}"
    return f"transformer_blocks.{int(number)}.{attention}.to_{'out.0' if linear == 'out' else linear}"


def _read_text(flat: str) -> str | None:
    match = _TEXT.fullmatch(flat)
    if match is None:
        return None
    number, linear, former, forward = match.groups()
    layer = f"mlp.{forward}" if forward else f"self_attn.{linear or former}_proj"
    return f"text_model.encoder.layers.{int(number)}.{layer}"


def _write_sgm(path: str, flat: str) -> str:
    match = _BLOCK.fullmatch(flat)
    if match is None or match[1] is None:
        return flat.replace("mid_block_attentions_0", "middle_block_1", 1)
    block, attention = int(match[2]), int(match[3])
    if attention >= _SGM_STRIDE - (match[1] == "down"):
        raise AdapterError(f"{path} has no name in sgm's counting, which knows SDXL's blocks alone; use kohya.")
    number = _SGM_STRIDE * block + attention + (match[1] == "down")
    return f"{'input' if match[1] == 'down' else 'output'}_blocks_{number}_1_{match[4]}"
