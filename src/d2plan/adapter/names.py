"""Kohya's names for the layers of SDXL, and where those layers are in a loaded model."""

import contextlib
import re

from torch import nn

from d2plan.errors import AdapterError

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
_UNET_PATH = re.compile(
    r"(?:(?:down|up)_blocks\.\d+|mid_block)\.attentions\.\d+\.transformer_blocks\.\d+\.attn[12]\.to_(?:q|k|v|out\.0)"
)
_UNET_NAME = re.compile(
    r"((?:down|up)_blocks_\d+|mid_block)_attentions_(\d+)_transformer_blocks_(\d+)_(attn[12])_to_(q|k|v|out_0)"
)
_TEXT_PATH = re.compile(r"(?:text_model\.)?(encoder\.layers\.\d+\.self_attn\.(?:q|k|v|out)_proj)")
_TEXT_NAME = re.compile(r"text_model_encoder_layers_(\d+)_self_attn_(q|k|v|out)_proj")
_PREFIXES = {"lora_unet_": "unet", "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2"}


def write_name(path: str) -> str:
    """Write a module path as Kohya's name.

    >>> write_name("unet.mid_block.attentions.0.transformer_blocks.1.attn2.to_out.0")
    'lora_unet_mid_block_attentions_0_transformer_blocks_1_attn2_to_out_0'

    Args:
        path: of an attention layer, with its component; ``text_model`` may be left out.

    Returns:
        The name without the tensor's kind.

    Raises:
        AdapterError: the path is no attention layer's.
    """
    component, _, rest = path.partition(".")
    prefix = next((name for name, part in _PREFIXES.items() if part == component), None)
    if prefix == "lora_unet_" and _UNET_PATH.fullmatch(rest):
        return prefix + rest.replace(".", "_")
    if prefix not in (None, "lora_unet_") and (match := _TEXT_PATH.fullmatch(rest)):
        return f"{prefix}text_model_{match[1].replace('.', '_')}"
    raise AdapterError(f"{path} is no attention layer of U-Net or text encoders, so no program could read it back.")


def read_name(name: str) -> str | None:
    """Read Kohya's name as a module path.

    >>> read_name("lora_te2_text_model_encoder_layers_11_self_attn_q_proj")
    'text_encoder_2.text_model.encoder.layers.11.self_attn.q_proj'

    Args:
        name: without the tensor's kind.

    Returns:
        The path with its component, or None for any other name.
    """
    for prefix, component in _PREFIXES.items():
        if not name.startswith(prefix):
            continue
        rest = name.removeprefix(prefix)
        if component == "unet":
            match = _UNET_NAME.fullmatch(rest)
            if match is None:
                return None
            block, attention, layer, kind, linear = match.groups()
            place = re.sub(r"_(\d+)$", r".\1", block)
            return (
                f"unet.{place}.attentions.{attention}.transformer_blocks.{layer}.{kind}."
                f"to_{linear.replace('out_0', 'out.0')}"
            )
        match = _TEXT_NAME.fullmatch(rest)
        return f"{component}.text_model.encoder.layers.{match[1]}.self_attn.{match[2]}_proj" if match else None
    return None


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
