"""A prompt in, pictures of the plain model out."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict, Unpack

from d2plan.backbone.load import load_backbone, read_precision
from d2plan.documents import Scene, parse_document
from d2plan.errors import InputError
from d2plan.isp.loop import compose_steps
from d2plan.isp.prepare import prepare_scene
from d2plan.media.images import check_output, make_folder, write_png
from d2plan.media.png_text import write_texts
from d2plan.workflows.composing.compose import drain
from d2plan.workflows.composing.provenance import record_run

MOST_PICTURES = 1000


class GenerateOptions(TypedDict, total=False):
    """What else may be asked of ``generate``; what is left out or None is the base's own.

    Attributes:
        steps: denoising steps.
        guidance_scale: the factor w.
        device: such as "cpu", which it is without it, or "cuda".
        precision: number format of U-Net and encoders, "fp32", "bf16" or "fp16"; the device decides without it.
        on_note: is told what the person should know, such as a word that the base has never seen.
    """

    steps: int | None
    guidance_scale: float | None
    device: str
    precision: str | None
    on_note: Callable[[str], None]


def generate(
    prompt: str,
    out: str | Path,
    base: str = "mini",
    seed: int = 0,
    count: int = 1,
    overwrite: bool = False,
    on_progress: Callable[[str, int, int], None] | None = None,
    **options: Unpack[GenerateOptions],
) -> list[Path]:
    """Make pictures from a prompt with the base alone, bit for bit those of the stock SDXL pipeline.

    Args:
        prompt: what to draw.
        out: a PNG file; of several pictures each gets its seed in its name, as in ``dog-7.png``.
        base: "mini", a folder in the diffusers layout, or a model's name on the hub.
        seed: of the first picture; each next one has the next seed.
        count: how many pictures.
        overwrite: replace files that are there.
        on_progress: called with (what is happening, steps done, steps in all).
        **options: see ``GenerateOptions``.

    Returns:
        The files.

    Raises:
        InputError: an argument cannot be used.
        FileError: a file is there already or cannot be written; nothing was drawn.
    """
    unknown = sorted(options.keys() - GenerateOptions.__annotations__)
    if unknown:
        raise InputError(f"{unknown[0]} is no option; use {', '.join(GenerateOptions.__annotations__)}.")
    asked = options.get("precision")
    dtype = read_precision(asked, "precision") if asked else None
    target = Path(os.path.expanduser(out))
    if target.suffix.lower() != ".png":
        raise InputError(f"out: {target} is no name for a PNG file; end it in .png.")
    if not 1 <= count <= MOST_PICTURES:
        raise InputError(f"count is {count}, but must be 1..{MOST_PICTURES}.")
    scale = options.get("guidance_scale")
    numbers = {"steps": options.get("steps"), "guidance_scale": None if scale is None else float(scale)}
    request = {"base": base, "global_prompt": prompt, **numbers}
    scenes = [parse_document(Scene, {**request, "seed": seed + index}, "generate") for index in range(count)]
    paths = [target if count == 1 else target.with_stem(f"{target.stem}-{scene.seed}") for scene in scenes]
    for path in paths:
        check_output(path, overwrite)
    make_folder(target.parent)
    report = on_progress or (lambda what, done, total: None)
    report("opening the base", 0, 1)
    backbone = load_backbone(base, options.get("device", "cpu"), dtype)
    report("opening the base", 1, 1)
    for index, (scene, path) in enumerate(zip(scenes, paths, strict=True)):
        what = "drawing" if count == 1 else f"drawing {index + 1} of {count}"
        prepared = prepare_scene(backbone, scene)
        for warning in prepared.warnings if index == 0 else ():
            options.get("on_note", _keep_silent)(warning)
        (composition,) = drain(compose_steps(backbone, [prepared]), report, what)
        write_png(path, composition.image, write_texts(record_run(composition, backbone)))
    return paths


def _keep_silent(_: str) -> None:
    """Nobody asked to be told."""
