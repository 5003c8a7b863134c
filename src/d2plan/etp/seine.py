"""The embedded SEINE: a base's own spatial layers, with temporal layers trained on the world's clips.

Its weights file holds only what was learnt beside the base. The published weights are opened by
``d2plan.etp.seine_official``; network and sampling are the same.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import (
    decode_latents,
    encode_images,
    encode_prompts,
    join_states,
    make_scheduler,
    null_states,
    time_ids,
)
from d2plan.errors import FileError, InputError
from d2plan.etp.interpolate import Interpolator, InterpolatorOptions, Limits, Segment, SegmentStep, need_base
from d2plan.etp.seine_official import open_official
from d2plan.etp.seine_sampling import fill_clip, report_steps, sample_clip_steps
from d2plan.etp.seine_unet import EMBEDDED, ClipUnet, FrameText, SeineDesign, make_clip_unet, widen_input

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
_ASSETS = Path(__file__).resolve().parent.parent / "assets" / "seine"


@dataclass(frozen=True)
class SeineConfig:
    """What is written beside the learnt weights.

    Attributes:
        base: the fingerprint of the base that they belong to.
        frames: fewest and most frames of a clip that they were trained on.
        steps: denoising steps that they work best with.
        guidance_scale: w of eq. (2).
        design: which configuration of the network.
    """

    base: str
    frames: tuple[int, int] = (8, 16)
    steps: int = 20
    guidance_scale: float = 1.0
    design: SeineDesign = field(default=EMBEDDED)


class EmbeddedSeine:
    """Makes frames with a base and the temporal layers that were trained for it.

    Args:
        base: which also encodes the keyframes and decodes the frames.
        network: the video U-Net.
        config: of its weights.
        options: steps and guidance where they are to differ.
        fingerprint: of the weights, for the record.
    """

    name = "seine"

    def __init__(
        self,
        base: Backbone,
        network: ClipUnet,
        config: SeineConfig,
        options: InterpolatorOptions,
        fingerprint: str = "",
    ) -> None:
        self.base, self.network, self.config = base, network, config
        self._count = options.steps or config.steps
        self._scale = config.guidance_scale if options.guidance_scale is None else options.guidance_scale
        fewest, most = config.frames
        self.limits = Limits(fewest, most, unit=base.latent_scale)
        self.record = {
            "interpolator": self.name,
            "base": base.fingerprint,
            "weights": fingerprint,
            "steps": str(self._count),
            "guidance_scale": str(self._scale),
        }

    def steps(self, segment: Segment) -> Iterator[SegmentStep]:
        """Make a segment's frames.

        Args:
            segment: within the limits.

        Yields:
            Each step; the last one holds the frames as the network made them, the first and the last one too.
        """
        ends = encode_images(self.base, np.stack([segment.first, segment.last]))
        middle = None
        if self.network.design.fill == "grey":
            middle = encode_images(self.base, torch.zeros(1, 3, *segment.first.shape[:2]))
        steps = sample_clip_steps(
            self.network,
            make_scheduler(self.base, self._count),
            fill_clip(ends[:1], ends[1:], segment.frames, middle),
            self._read(segment.text, segment.first.shape[:2]),
            self._scale,
            torch.Generator("cpu").manual_seed(segment.seed),
        )
        yield from report_steps(steps, lambda latents: decode_latents(self.base, latents))

    def _read(self, text: str, size: tuple[int, ...]) -> FrameText:
        with torch.no_grad():
            states = encode_prompts(self.base, [text])
            if self._scale != 1:
                states = join_states([null_states(self.base, 1), states])
        ids = time_ids(self.base, len(states), (int(size[0]), int(size[1])))
        return FrameText(states.states, {"text_embeds": states.pooled, "time_ids": ids})


def open_interpolator(name: str, options: InterpolatorOptions) -> Interpolator:
    """Open SEINE: the published weights where a file is given, else the embedded ones or a folder like them.

    Args:
        name: "seine".
        options: ``weights`` is a file such as seine.pt, a folder written by ``scripts/seine``, or None.

    Returns:
        The interpolator.

    Raises:
        InputError: the weights belong to another base, or an option is missing.
        FileError: the weights are missing or damaged.
    """
    if options.weights is not None and options.weights.is_file():
        return open_official(options)
    base = need_base(options, name)
    folder = options.weights or _ASSETS
    config = read_config(folder)
    if config.base != base.fingerprint:
        raise InputError(
            f'{folder} was trained for the base {config.base}, but this one is "{base.name}" ({base.fingerprint}); '
            "give weights for it, a seine.pt, or use the interpolator wan, ltx or blend."
        )
    network, fingerprint = load_network(base, folder, config)
    return EmbeddedSeine(base, network, config, options, fingerprint)


def read_config(folder: Path) -> SeineConfig:
    """Read what stands beside learnt weights.

    Args:
        folder: with config.json and model.safetensors.

    Returns:
        The configuration.

    Raises:
        FileError: it is missing or damaged.
    """
    path = folder / CONFIG_FILE
    if not folder.exists():
        raise FileError(f"{folder}: is not there; give a seine.pt or a folder of an interpolator, or leave it out.")
    if not path.is_file() or not (folder / WEIGHTS_FILE).is_file():
        raise FileError(
            f"{folder} holds no interpolator ({CONFIG_FILE}, {WEIGHTS_FILE}); make one with scripts/seine "
            "(render_clips.py, then train.py), or use the interpolator blend."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        design = SeineDesign(**content.pop("design"))
        fewest, most = content.pop("frames")
        return SeineConfig(design=design, frames=(int(fewest), int(most)), **content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileError(f"{path}: is damaged ({error}); copy it anew.") from error


def write_config(config: SeineConfig) -> str:
    """Write a configuration as ``read_config`` reads it.

    Args:
        config: what to write.

    Returns:
        JSON.
    """
    return json.dumps(asdict(config), indent=2) + "\n"


def start_network(base: Backbone, design: SeineDesign = EMBEDDED) -> ClipUnet:
    """Make the network that training starts from: the base on every frame, with temporal layers that add nothing yet.

    Args:
        base: whose spatial layers it copies.
        design: which configuration.

    Returns:
        The network on the base's device, in evaluation mode.
    """
    network = make_clip_unet(dict(base.unet.config), design)
    state = {name: tensor.clone() for name, tensor in base.unet.state_dict().items()}
    state["conv_in.weight"] = widen_input(state["conv_in.weight"])
    _, unexpected = network.unet.load_state_dict(state, strict=False)
    if unexpected:
        raise InputError(f"base: {base.name} has layers that no video model knows ({unexpected[0]}); use mini.")
    return network.to(base.device, base.dtype)


def load_network(base: Backbone, folder: Path, config: SeineConfig) -> tuple[ClipUnet, str]:
    """Put learnt weights onto a base's spatial layers.

    Args:
        base: that they were trained for.
        folder: with model.safetensors.
        config: read from there.

    Returns:
        The network in evaluation mode without gradients, and 16 hexadecimal digits that tell its weights from others.

    Raises:
        FileError: the weights are damaged, or do not fit.
    """
    path = folder / WEIGHTS_FILE
    try:
        learnt = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise FileError(f"{path}: is damaged and cannot be read; copy it anew.") from error
    network = start_network(base, config.design)
    own = network.unet.state_dict()
    wrong = [name for name, tensor in learnt.items() if name not in own or own[name].shape != tensor.shape]
    absent = [name for name in own if name not in learnt and name not in base.unet.state_dict()]
    if wrong or absent:
        raise FileError(f"{path}: does not fit its base ({(wrong or absent)[0]}); make it anew with scripts/seine.")
    network.unet.load_state_dict(learnt, strict=False)
    return network.requires_grad_(False).eval(), fingerprint_weights(learnt)


def fingerprint_weights(tensors: Mapping[str, Tensor]) -> str:
    """Tell learnt weights from others.

    Args:
        tensors: by name.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().to(torch.float32).numpy().tobytes())
    return digest.hexdigest()[:16]
