"""Published video models that take the first and the last frame: Wan FLF2V and LTX, driven through diffusers."""

import queue
import re
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKLWan, DiffusionPipeline, LTXConditionPipeline, WanImageToVideoPipeline
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from huggingface_hub import snapshot_download
from PIL import Image
from safetensors import SafetensorError

from d2plan.backbone.load import choose_dtype
from d2plan.errors import FileError, InputError, MissingExtraError
from d2plan.etp.interpolate import Frames, InterpolatorOptions, Limits, Segment, SegmentStep

EXAMPLES = {"wan": "Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers", "ltx": "Lightricks/LTX-Video-0.9.5"}

# Called after each denoising step, with the number of steps done.
Watch = Callable[[int], None]


class Stopped(Exception):  # noqa: N818  (it is no error: nobody waits for the frames any longer)
    """Ends a pipeline's loop from within."""


class Clips:
    """Makes frames with a published model that is given the first and the last frame.

    Args:
        pipeline: of diffusers, on its device.
        options: steps and guidance where they are to differ from the model's own.
        model: what the model is like.
    """

    def __init__(self, pipeline: DiffusionPipeline, options: InterpolatorOptions, model: "_Model") -> None:
        self.name, self.limits, self.pipeline = model.name, model.limits, pipeline
        self._ask = model.ask
        self._count = options.steps or model.steps
        self._scale = model.guidance_scale if options.guidance_scale is None else options.guidance_scale
        self.record = {
            "interpolator": model.name,
            "weights": options.weights.name if options.weights else "",
            "steps": str(self._count),
            "guidance_scale": str(self._scale),
        }

    def steps(self, segment: Segment) -> Iterator[SegmentStep]:
        """Make a segment's frames.

        Args:
            segment: within the limits.

        Yields:
            Each step; the last one holds the frames.
        """
        height, width = segment.first.shape[:2]

        def make(watch: Watch) -> object:
            return self.pipeline(
                prompt=segment.text,
                height=height,
                width=width,
                num_frames=segment.frames,
                num_inference_steps=self._count,
                guidance_scale=self._scale,
                generator=torch.Generator("cpu").manual_seed(segment.seed),
                output_type="np",
                callback_on_step_end=_call_back(watch),
                **self._ask(segment),
            ).frames[0]

        yield from follow(make, self._count)


class _Model(NamedTuple):
    """What a model is like: its name, limits, own numbers, and how its pipeline is told of a segment's keyframes."""

    name: str
    limits: Limits
    steps: int
    guidance_scale: float
    ask: Callable[[Segment], dict[str, object]]


def _describe_wan(pipeline: WanImageToVideoPipeline, options: InterpolatorOptions) -> _Model:
    transformer = pipeline.transformer.config
    if pipeline.config.expand_timesteps or (transformer.image_dim is not None and not transformer.pos_embed_seq_len):
        raise InputError(
            f"weights: {options.weights} is a Wan model that takes no last frame; "
            f"use one made for first and last frames, such as {EXAMPLES['wan']}."
        )
    unit = int(pipeline.vae_scale_factor_spatial * transformer.patch_size[1])
    stride = int(pipeline.vae_scale_factor_temporal)

    def ask(segment: Segment) -> dict[str, object]:
        return {"image": Image.fromarray(segment.first), "last_image": Image.fromarray(segment.last)}

    return _Model("wan", Limits(stride + 1, 81, stride, unit, largest=1280 * 720), 50, 5.0, ask)


def _describe_ltx(pipeline: LTXConditionPipeline, options: InterpolatorOptions) -> _Model:
    del options
    stride = int(pipeline.vae_temporal_compression_ratio)
    unit = max(32, int(pipeline.vae_spatial_compression_ratio))
    # The VAEs that decode at a noise level of their own; the numbers are their authors'.
    noisy = bool(pipeline.vae.config.timestep_conditioning)
    decoding = {"decode_timestep": 0.05 if noisy else 0.0, "decode_noise_scale": 0.025 if noisy else None}

    def ask(segment: Segment) -> dict[str, object]:
        keyframes = ((segment.first, 0), (segment.last, segment.frames - 1))
        return {
            "conditions": [LTXVideoCondition(image=Image.fromarray(one), frame_index=at) for one, at in keyframes],
            **decoding,
        }

    return _Model("ltx", Limits(stride + 1, 257, stride, unit, largest=1216 * 704), 40, 3.0, ask)


def follow(make: Callable[[Watch], object], total: int) -> Iterator[SegmentStep]:
    """Run something long that calls back, and turn its calls into steps; it ends early when nobody reads on.

    Args:
        make: gives the frames, floats 0..1 ``[f, h, w, 3]``; calls what it is given after each step.
        total: steps that it will make.

    Yields:
        Each step; the last one holds the frames.
    """
    said: queue.Queue[int | object | BaseException] = queue.Queue()
    stop = threading.Event()

    def watch(done: int) -> None:
        if stop.is_set():
            raise Stopped
        said.put(done)

    def work() -> None:
        try:
            said.put(("frames", make(watch)))
        except BaseException as error:  # noqa: BLE001  (it is raised again where somebody waits)
            said.put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            word = said.get()
            if isinstance(word, BaseException):
                raise word
            if isinstance(word, tuple):
                yield SegmentStep(total - 1, total, to_frames(np.asarray(word[1])))
                return
            # The step that decodes is the last one, so the last of denoising is kept back.
            if isinstance(word, int) and word < total:
                yield SegmentStep(word - 1, total)
    finally:
        stop.set()
        thread.join()


def to_frames(pixels: np.ndarray) -> Frames:
    """Turn a pipeline's floats into pictures.

    Args:
        pixels: ``[f, h, w, 3]``, 0..1.

    Returns:
        uint8 of the same shape.

    Raises:
        InputError: values are no numbers.
    """
    if not np.isfinite(pixels).all():
        raise InputError("The frames hold values that are no numbers; use dtype float32 or bfloat16.")
    return (pixels.clip(0, 1) * 255).round().astype(np.uint8)


def open_interpolator(name: str, options: InterpolatorOptions) -> Clips:
    """Open a published video model.

    Args:
        name: "wan" or "ltx".
        options: ``weights`` is a folder in the diffusers layout, or the hub id of one that was downloaded before.

    Returns:
        The interpolator.

    Raises:
        InputError: no such folder or download, or another kind of model.
        FileError: a file of the model cannot be read.
        MissingExtraError: a package that the model's text encoder needs is not installed.
    """
    folder = find_model(name, options.weights)
    if name == "wan" and find_spec("ftfy") is None:
        # diffusers would find out only when it reads the prompt, with an error that names nothing.
        raise MissingExtraError("wan needs ftfy to read prompts; install it with `pip install 'd2plan[video]'`.")
    dtype = options.dtype or choose_dtype(options.device)
    try:
        pipeline = _open_wan(folder, dtype) if name == "wan" else _open_ltx(folder, dtype)
    except ImportError as error:
        raise MissingExtraError(f"{name} needs a package that is not installed: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise FileError(f"{folder} cannot be opened as a {name} model: {first[0]}; download it anew.") from error
    pipeline.set_progress_bar_config(disable=True)
    if torch.device(options.device).type == "cuda":
        # These models are larger than most cards when all their parts are there at once.
        pipeline.enable_model_cpu_offload(device=options.device)
    else:
        pipeline.to(options.device)
    describe = _describe_wan if name == "wan" else _describe_ltx
    return Clips(pipeline, options, describe(pipeline, options))


def find_model(name: str, weights: Path | None) -> Path:
    """Find a video model's folder on this machine.

    Args:
        name: "wan" or "ltx".
        weights: a folder, or a hub id.

    Returns:
        A folder that holds ``model_index.json``.

    Raises:
        InputError: there is none.
    """
    if weights is None:
        raise InputError(f"weights is missing; {name} needs a folder or a downloaded hub id: {EXAMPLES[name]}.")
    folder = weights
    if not folder.is_dir() and re.fullmatch(r"[\w.-]+/[\w.-]+", weights.as_posix()):
        try:
            folder = Path(snapshot_download(weights.as_posix(), local_files_only=True))
        except (OSError, ValueError) as error:
            raise InputError(
                f"weights: {weights} is neither a folder nor downloaded; get it with `hf download {weights}`."
            ) from error
    if not (folder / "model_index.json").is_file():
        raise InputError(f"weights: {folder} holds no model_index.json; name a folder in the diffusers layout.")
    return folder


def _open_wan(folder: Path, dtype: torch.dtype) -> DiffusionPipeline:
    # Wan's VAE decodes well in float32 only.
    vae = AutoencoderKLWan.from_pretrained(
        folder / "vae", dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    return WanImageToVideoPipeline.from_pretrained(
        folder, vae=vae, torch_dtype=dtype, use_safetensors=True, local_files_only=True
    )


def _open_ltx(folder: Path, dtype: torch.dtype) -> DiffusionPipeline:
    return LTXConditionPipeline.from_pretrained(folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True)


def _call_back(watch: Watch) -> Callable[[object, int, object, dict[str, object]], dict[str, object]]:
    def call(pipeline: object, index: int, timestep: object, state: dict[str, object]) -> dict[str, object]:
        watch(index + 1)
        return state

    return call
