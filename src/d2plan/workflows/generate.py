"""A prompt in, pictures of the plain model out."""

from collections.abc import Callable
from pathlib import Path

from d2plan.backbone.load import load_backbone
from d2plan.documents import Scene, parse_document
from d2plan.errors import FileError, InputError
from d2plan.isp.loop import compose_steps
from d2plan.isp.prepare import prepare_scene
from d2plan.media.images import write_png
from d2plan.workflows.compose import drain
from d2plan.workflows.run_folder import record_run, write_texts

MOST_PICTURES = 1000


def generate(
    prompt: str,
    out: str | Path,
    base: str = "mini",
    seed: int = 0,
    steps: int | None = None,
    guidance_scale: float | None = None,
    count: int = 1,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> list[Path]:
    """Make pictures from a prompt with the base alone, bit for bit those of the stock SDXL pipeline.

    Args:
        prompt: what to draw.
        out: a PNG file; of several pictures each gets its seed in its name, as in ``dog-7.png``.
        base: "mini", a folder in the diffusers layout, or a model's name on the hub.
        seed: of the first picture; each next one has the next seed.
        steps: denoising steps; None takes the base's own.
        guidance_scale: w; None takes the base's own.
        count: how many pictures.
        on_progress: called with (what is happening, steps done, steps in all).

    Returns:
        The files, replaced if they were there.

    Raises:
        InputError: an argument cannot be used.
        FileError: a file cannot be written.
    """
    target = Path(out).expanduser()
    if target.suffix.lower() != ".png":
        raise InputError(f"out: {target} is no name for a PNG file; end it in .png.")
    if not 1 <= count <= MOST_PICTURES:
        raise InputError(f"count is {count}, but must be 1..{MOST_PICTURES}.")
    numbers = {"steps": steps, "guidance_scale": None if guidance_scale is None else float(guidance_scale)}
    request = {"base": base, "global_prompt": prompt, **numbers}
    scenes = [parse_document(Scene, {**request, "seed": seed + index}, "generate") for index in range(count)]
    paths = [target if count == 1 else target.with_stem(f"{target.stem}-{scene.seed}") for scene in scenes]
    _make_folder(target)
    report = on_progress or (lambda what, done, total: None)
    report("opening the base", 0, 1)
    backbone = load_backbone(base)
    report("opening the base", 1, 1)
    for index, (scene, path) in enumerate(zip(scenes, paths, strict=True)):
        what = "drawing" if count == 1 else f"drawing {index + 1} of {count}"
        (composition,) = drain(compose_steps(backbone, [prepare_scene(backbone, scene)]), report, what)
        write_png(path, composition.image, write_texts(record_run(composition, backbone)))
    return paths


def _make_folder(target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{target.parent}: cannot be made ({error.strerror or error}); choose another.") from error
    if target.is_dir():
        raise FileError(f"{target}: is a folder; name a PNG file.")
