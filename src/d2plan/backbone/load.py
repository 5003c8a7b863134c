"""Open a base model: an SDXL folder in the diffusers layout, from the disk alone, as one frozen ``Backbone``.

Nothing here reaches for the network: a base that is not on this machine is an error that says how to get it.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKL, ControlNetModel, SchedulerMixin, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from d2plan.backbone.schedulers import read_scheduler
from d2plan.config import BaseDefaults, load_defaults
from d2plan.errors import FileError, InputError

MINI = "mini"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
WORDS_FILE = "words.txt"
_ASSETS = Path(__file__).resolve().parent.parent / "assets"
_FINGERPRINTED = ("unet", "text_encoder", "text_encoder_2")
_SAMPLES = 4096
_Model = TypeVar(
    "_Model", UNet2DConditionModel, AutoencoderKL, CLIPTextModel, CLIPTextModelWithProjection, ControlNetModel
)


@dataclass(frozen=True, eq=False)
class Backbone:
    """A base model's components; the verbs that use them live in ``d2plan.backbone.sdxl``.

    Attributes:
        unet: the denoiser, with SDXL's text and time conditioning.
        text_encoders: the CLIP encoder, and the one with the projection that gives the pooled vector.
        tokenizers: one for each encoder.
        vae: pictures to latents and back.
        scheduler: the sampler that the base names; only its configuration is used, each batch of pictures has a
            ``Sampling`` of its own.
        folder: where it was loaded from.
        name: the folder's name.
        fingerprint: 16 hexadecimal digits that tell this base's weights from another's.
        defaults: what this base works best with.
        words: those it was trained on, lower case; empty when the base brings no list.
        zero_null: the prompt-free row has states of zeros (``force_zeros_for_empty_prompt``).
    """

    unet: UNet2DConditionModel
    text_encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection]
    tokenizers: tuple[CLIPTokenizer, CLIPTokenizer]
    vae: AutoencoderKL
    scheduler: SchedulerMixin
    folder: Path | None
    name: str
    fingerprint: str
    defaults: BaseDefaults
    words: tuple[str, ...] = ()
    zero_null: bool = True

    @property
    def device(self) -> torch.device:
        """Where the U-Net's weights lie."""
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The U-Net's number format."""
        return next(self.unet.parameters()).dtype

    @property
    def dtype_name(self) -> str:
        """The U-Net's number format in words, such as "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def latent_scale(self) -> int:
        """Pixels of a picture along one side of a latent cell."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a picture where nobody asks for others, pixels."""
        return self.defaults.height, self.defaults.width


def load_backbone(base: str | Path = MINI, device: str = "cpu", dtype: torch.dtype | None = None) -> Backbone:
    """Open a base model from this machine's disk.

    Args:
        base: "mini" for the embedded model, a folder in the diffusers SDXL layout, or the hub id of one that was
            downloaded before.
        device: where to put it, such as "cpu" or "cuda".
        dtype: number format of U-Net and encoders; None takes ``choose_dtype``. A VAE that overflows in half
            precision stays in float32.

    Returns:
        The components in evaluation mode.

    Raises:
        InputError: no such folder or download, the folder is not in the SDXL layout, or there is no such device.
        FileError: the embedded model is not there, or a file of the base cannot be read.
    """
    folder = find_base(base)
    _check_device(device)
    form = dtype or choose_dtype(device)
    defaults = load_defaults(folder)
    try:
        with _quiet():
            backbone = _read(folder, device, form, defaults)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        if isinstance(error, (InputError, FileError)):
            raise
        raise FileError(f"{folder} cannot be opened as a base: {_first_line(error)}; copy the base anew.") from error
    return backbone


def choose_dtype(device: str) -> torch.dtype:
    """Say which number format a device computes fastest in without harm.

    Args:
        device: such as "cpu", "mps" or "cuda:0".

    Returns:
        bfloat16 on a CUDA device that has it, else float16 there; float32 everywhere else.
    """
    if torch.device(device).type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def open_base(base: str | Path | Backbone, device: str = "cpu", precision: str | None = None) -> Backbone:
    """Open a base in the number format that is asked for, or take one that is open.

    Args:
        base: as for ``load_backbone``, or one that is open already.
        device: where to put one that is not open.
        precision: "fp32", "bf16" or "fp16"; None leaves the choice to the device, or to who opened it.

    Returns:
        The base.

    Raises:
        InputError: the precision is none, or an open base has another; as ``load_backbone``.
        FileError: as ``load_backbone``.
    """
    dtype = None if precision is None else read_precision(precision, "precision")
    if not isinstance(base, Backbone):
        return load_backbone(base, device, dtype)
    if dtype is not None and base.dtype != dtype:
        raise InputError(f"precision is {precision}, but the base that was given is open in {base.dtype}; open it so.")
    return base


def read_precision(text: str, field: str) -> torch.dtype:
    """Read the name of a number format.

    Args:
        text: "fp32", "bf16" or "fp16".
        field: how the error calls it.

    Returns:
        The format.

    Raises:
        InputError: another name.
    """
    if text not in PRECISIONS:
        raise InputError(f"{field} is {text!r}, but must be one of {', '.join(PRECISIONS)}.")
    return PRECISIONS[text]


def find_base(base: str | Path = MINI) -> Path:
    """Find a base's folder without reading its weights.

    Args:
        base: as for ``load_backbone``.

    Returns:
        A folder that holds ``model_index.json``.

    Raises:
        InputError: no such folder or download, or the folder is not in the SDXL layout.
        FileError: the embedded model is not there.
    """
    if str(base) == MINI:
        if not (_ASSETS / MINI / "model_index.json").is_file():
            raise FileError(
                f"The embedded base is missing from {_ASSETS / MINI}; install d2plan with its assets, "
                "or make it with the programs in scripts/mini (train_vae.py, train_unet.py, then export.py)."
            )
        return _ASSETS / MINI
    folder = find_folder(base, "base")
    if not (folder / "model_index.json").is_file():
        raise InputError(f"base: {folder} holds no model_index.json; name a folder in the diffusers SDXL layout.")
    for part in (*_FINGERPRINTED, "tokenizer", "tokenizer_2", "vae", "scheduler"):
        if not (folder / part).is_dir():
            raise InputError(f"base: {folder} has no folder {part}; name a base in the diffusers SDXL layout.")
    return folder


def find_folder(source: str | Path, field: str) -> Path:
    """Find a model's folder.

    Args:
        source: the folder, or the hub id of a model that was downloaded before.
        field: how errors call what names it.

    Returns:
        The folder.

    Raises:
        InputError: there is no such folder or download.
    """
    folder = Path(os.path.expanduser(source))
    if folder.is_dir():
        return folder
    instead = f", or use {MINI}" if field == "base" else ""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise InputError(f"{field}: {source} is not a folder; name one in the diffusers SDXL layout{instead}.")
    try:
        return Path(snapshot_download(str(source), local_files_only=True))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{field}: {source} is neither a folder nor downloaded; get it with `hf download {source}`{instead}."
        ) from error


def fingerprint_base(folder: Path) -> str:
    """Tell a base's weights from another's.

    Taken from U-Net and text encoders: each tensor's name, shape, and up to 4096 values spread evenly over it,
    rounded to float16, so that float16 and float32 copies of one base agree and a large base costs no long reading.

    Args:
        folder: a base in the diffusers layout, with safetensors weights.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.

    Raises:
        InputError: a component has no safetensors weights.
    """
    digest = hashlib.sha256()
    for part in _FINGERPRINTED:
        files = _weight_files(folder / part)
        entries: dict[str, bytes] = {}
        for file in files:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  (safe_open is no mapping)
                    entries[name] = _sample(tensors.get_tensor(name))
        for name in sorted(entries):
            digest.update(f"{part}.{name}".encode())
            digest.update(entries[name])
    return digest.hexdigest()[:16]


def _check_device(device: str) -> None:
    try:
        # A device without memory of its own, such as torch's "meta", gives no value back.
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f'device: "{device}" does not work here; `d2plan doctor` names one that does, cpu always does.'
        ) from error


def _sample(tensor: torch.Tensor) -> bytes:
    flat = tensor.reshape(-1)
    values = flat[:: max(1, flat.numel() // _SAMPLES)].to(torch.float16)
    return str(tuple(tensor.shape)).encode() + values.numpy().tobytes()


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    plain = [file for file in files if ".fp16" not in file.name]
    if not files:
        raise InputError(f"base: {folder} holds no safetensors weights; other formats are not read.")
    return plain or files


def _read(folder: Path, device: str, dtype: torch.dtype, defaults: BaseDefaults) -> Backbone:
    unet = open_component(UNet2DConditionModel, folder / "unet", device, dtype)
    if unet.config.addition_embed_type != "text_time":
        raise InputError(f"base: {folder} is no SDXL model (its U-Net takes no text_time conditioning); name another.")
    vae = open_component(AutoencoderKL, folder / "vae", device, dtype)
    if vae.config.force_upcast and dtype == torch.float16:
        vae = vae.to(torch.float32)
    return Backbone(
        unet=unet,
        text_encoders=(
            open_component(CLIPTextModel, folder / "text_encoder", device, dtype),
            open_component(CLIPTextModelWithProjection, folder / "text_encoder_2", device, dtype),
        ),
        tokenizers=(
            CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            CLIPTokenizer.from_pretrained(folder / "tokenizer_2", local_files_only=True),
        ),
        vae=vae,
        scheduler=read_scheduler(folder / "scheduler"),
        folder=folder,
        name=folder.name,
        fingerprint=fingerprint_base(folder),
        defaults=defaults,
        words=read_words(folder),
        zero_null=_read_zero_null(folder / "model_index.json"),
    )


def open_component(kind: type[_Model], folder: Path, device: str, dtype: torch.dtype) -> _Model:
    """Open one network of a base, or one that goes with it, frozen and in evaluation mode.

    Args:
        kind: its class.
        folder: holds its settings and safetensors weights.
        device: where to put it.
        dtype: its number format.

    Returns:
        The network.

    Raises:
        InputError: the folder has no safetensors weights.
    """
    variant = "fp16" if all(".fp16" in file.name for file in _weight_files(folder)) else None
    opened = kind.from_pretrained(folder, dtype=dtype, variant=variant, use_safetensors=True, local_files_only=True)
    model: _Model = opened.to(device).eval().requires_grad_(False)
    if model.device.type == "cpu":
        # Weights that are mapped from their file would change with it, and end the program when it is cut.
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
    return model


def read_words(folder: Path) -> tuple[str, ...]:
    """Read the words that a base was trained on.

    Args:
        folder: of the base.

    Returns:
        Each once, lower case; none where the base brings no list.
    """
    path = folder / WORDS_FILE
    return tuple(dict.fromkeys(path.read_text(encoding="utf-8").lower().split())) if path.is_file() else ()


def _read_zero_null(path: Path) -> bool:
    return bool(json.loads(path.read_text(encoding="utf-8")).get("force_zeros_for_empty_prompt", True))


@contextmanager
def _quiet() -> Iterator[None]:
    # transformers reports harmless differences in buffers at length, and both libraries show a bar for each component.
    level = transformers_logging.get_verbosity()
    libraries = (transformers_logging, diffusers_logging)
    shown = [library for library in libraries if library.is_progress_bar_enabled()]
    transformers_logging.set_verbosity_error()
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        for library in shown:
            library.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
