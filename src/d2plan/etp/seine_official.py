"""The published SEINE: its ``seine.pt``, with the VAE and the text encoder of the SD 1.x model it was built on.

Facts of the publication that are kept: noisy latents, mask, masked latents in this order; frames to be made are grey
before the VAE; betas 0.0001..0.02 linear, DDPM with the large variance, 250 steps evenly over 1000, guidance 8;
the text encoder's last hidden states; 16 frames of 512 x 512 or 320 x 512.
"""

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from d2plan.backbone.load import choose_dtype
from d2plan.backbone.sdxl import tokenize
from d2plan.errors import FileError, InputError
from d2plan.etp.interpolate import Frames, InterpolatorOptions, Limits, Segment, SegmentStep
from d2plan.etp.seine_sampling import fill_clip, report_steps, sample_clip_steps
from d2plan.etp.seine_unet import OFFICIAL, ClipUnet, FrameText, make_clip_unet

STEPS, GUIDANCE_SCALE, TRAIN_STEPS = 250, 8.0, 1000
MOTION_TEXT = "smooth transition."
# The U-Net of SD 1.4, on which the published weights rest.
UNET_CONFIG = MappingProxyType(
    {
        "sample_size": 64,
        "in_channels": 9,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "layers_per_block": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
        "norm_num_groups": 32,
        "norm_eps": 1e-5,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
    }
)


@dataclass(frozen=True, eq=False)
class Companions:
    """What the network needs of its SD 1.x model.

    Attributes:
        vae: pictures to latents and back.
        tokenizer: of the text encoder.
        text_encoder: reads prompts.
    """

    vae: AutoencoderKL
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel


class OfficialSeine:
    """Makes frames with the published weights.

    Args:
        network: the video U-Net.
        companions: its VAE and text encoder.
        options: steps and guidance where they are to differ.
        fingerprint: of the weights, for the record.
    """

    name = "seine"
    limits = Limits(fewest=3, most=32, unit=8, largest=512 * 512)

    def __init__(
        self, network: ClipUnet, companions: Companions, options: InterpolatorOptions, fingerprint: str = ""
    ) -> None:
        self.network, self.companions = network, companions
        self._count = options.steps or STEPS
        self._scale = GUIDANCE_SCALE if options.guidance_scale is None else options.guidance_scale
        self.record = {
            "interpolator": "seine, published weights",
            "weights": fingerprint,
            "steps": str(self._count),
            "guidance_scale": str(self._scale),
        }

    def steps(self, segment: Segment) -> Iterator[SegmentStep]:
        """Make a segment's frames.

        Args:
            segment: within the limits.

        Yields:
            Each step; the last one holds the frames as the network made them.
        """
        generator = torch.Generator("cpu").manual_seed(segment.seed)
        grey = torch.zeros(1, 3, *segment.first.shape[:2])
        pixels = torch.cat([*(_to_pixels(picture) for picture in (segment.first, segment.last)), grey])
        latents = self._encode(pixels, generator)
        steps = sample_clip_steps(
            self.network,
            make_official_scheduler(self._count),
            fill_clip(latents[:1], latents[1:2], segment.frames, latents[2:]),
            self._read(segment.text),
            self._scale,
            generator,
        )
        yield from report_steps(steps, self._decode)

    def _encode(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        vae = self.companions.vae
        with torch.no_grad():
            spread = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
            # Drawn, not the mode, as published.
            return (spread.sample(generator) * vae.config.scaling_factor).to(self.network.unet.dtype)

    def _decode(self, latents: Tensor) -> Frames:
        vae = self.companions.vae
        pictures = []
        for cell in (latents.to(vae.dtype) / vae.config.scaling_factor).split(1):
            with torch.no_grad():
                pixels = vae.decode(cell, return_dict=False)[0]
            if not torch.isfinite(pixels).all():
                raise InputError("A frame holds values that are no numbers; use dtype float32, or a lower guidance.")
            shown = (pixels * 0.5 + 0.5).clamp(0, 1).float().cpu().permute(0, 2, 3, 1).numpy()
            pictures.append((shown * 255).round().astype(np.uint8))
        return np.concatenate(pictures)

    def _read(self, text: str) -> FrameText:
        prompt = f"{text.rstrip(' .,')}, {MOTION_TEXT}" if text.strip(" .,") else MOTION_TEXT
        prompts = [prompt] if self._scale == 1 else ["", prompt]
        encoder = self.companions.text_encoder
        with torch.no_grad():
            states = encoder(tokenize(self.companions.tokenizer, prompts).to(encoder.device)).last_hidden_state
        return FrameText(states.to(self.network.unet.dtype))


def make_official_scheduler(steps: int) -> DDPMScheduler:
    """Make the published sampler: DDPM on evenly spaced steps.

    Args:
        steps: 1..1000.

    Returns:
        A scheduler that is set to them.
    """
    scheduler = DDPMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_start=0.0001,
        beta_end=0.02,
        beta_schedule="linear",
        variance_type="fixed_large",
        clip_sample=False,
    )
    places = [round(index * (TRAIN_STEPS - 1) / (steps - 1)) for index in range(steps)] if steps > 1 else [0]
    scheduler.set_timesteps(timesteps=places[::-1])
    return scheduler


def open_official(options: InterpolatorOptions, config: Mapping[str, object] = UNET_CONFIG) -> OfficialSeine:
    """Open the published weights.

    Args:
        options: ``weights`` is the file, ``text_model`` the folder of the SD 1.x model.
        config: of the picture U-Net that the weights rest on.

    Returns:
        The interpolator.

    Raises:
        InputError: the folder is missing or no SD 1.x model.
        FileError: a file is missing, damaged or of another network.
    """
    companions = _open_companions(options)
    dtype = options.dtype or choose_dtype(options.device)
    path = Path(options.weights) if options.weights else Path()
    state = read_official(path)
    with torch.device("meta"):
        network = make_clip_unet(config, OFFICIAL)
    check_names(network, state, path)
    network.unet.load_state_dict(dict(state), assign=True)
    network = network.to(options.device, dtype).requires_grad_(False).eval()
    return OfficialSeine(network, companions, options, _fingerprint(path))


def read_official(path: Path) -> dict[str, Tensor]:
    """Read a published checkpoint without running anything in it.

    Args:
        path: a ``.pt`` whose entry "ema" holds the weights, or a safetensors file with the weights alone.

    Returns:
        Tensors by name; buffers that the rotary library kept beside its frequencies are left out.

    Raises:
        FileError: it is missing, or no such file.
    """
    try:
        if path.suffix == ".safetensors":
            state: object = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
        raise FileError(f"{path}: cannot be read as weights of SEINE; download seine.pt anew.") from error
    if isinstance(state, Mapping) and isinstance(state.get("ema"), Mapping):
        state = state["ema"]
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise FileError(f'{path}: holds no weights under "ema"; download seine.pt anew.')
    return {
        name: tensor
        for name, tensor in state.items()
        if ".rotary_emb." not in name or name.endswith(".rotary_emb.freqs")
    }


def check_names(network: ClipUnet, state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that are not exactly a network's.

    Args:
        network: what they are for.
        state: tensors by name.
        path: where they come from.

    Raises:
        FileError: a name is missing or too many, or a shape differs.
    """
    own = network.unet.state_dict()
    for name in sorted(own.keys() | state.keys()):
        if name not in state:
            raise FileError(f"{path}: lacks {name}; it is not a whole seine.pt, download it anew.")
        if name not in own:
            raise FileError(f"{path}: holds {name}, which SEINE does not have; give seine.pt.")
        if own[name].shape != state[name].shape:
            raise FileError(f"{path}: {name} has shape {list(state[name].shape)} instead of {list(own[name].shape)}.")


def _open_companions(options: InterpolatorOptions) -> Companions:
    folder = options.text_model
    if folder is None or not all((folder / part).is_dir() for part in ("vae", "text_encoder", "tokenizer")):
        raise InputError(
            f"text_model is {folder}; name a folder of Stable Diffusion 1.4 in the diffusers layout "
            "(with vae, text_encoder and tokenizer), which the published SEINE needs beside its weights."
        )
    dtype = options.dtype or choose_dtype(options.device)
    try:
        vae = AutoencoderKL.from_pretrained(folder / "vae", dtype=dtype, use_safetensors=True, local_files_only=True)
        encoder = CLIPTextModel.from_pretrained(
            folder / "text_encoder", dtype=dtype, use_safetensors=True, local_files_only=True
        )
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise FileError(f"{folder}: cannot be opened as Stable Diffusion 1.x; copy it anew.") from error
    models = [model.to(options.device).eval().requires_grad_(False) for model in (vae, encoder)]
    return Companions(models[0], tokenizer, models[1])


def _to_pixels(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def _fingerprint(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
