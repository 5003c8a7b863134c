"""``d2plan video``: from a story, or a plan, to a video."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from d2plan.cli.options import Device, OtherBase
from d2plan.cli.progress import show_progress
from d2plan.cli.tell import tell

if TYPE_CHECKING:
    from d2plan.etp.plan import EventPlan
    from d2plan.etp.planner import Planner
    from d2plan.workflows.filming.video import VideoResult


def command(  # noqa: PLR0913  (a command's options are its parameters)
    story: Annotated[str, typer.Argument(help="The story in plain words, or a plan's file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The video: .mp4, .gif, .webp or .png (animated).")],
    concepts: Annotated[
        Path, typer.Option("--concepts", help="Folder with the adapters of all who may take part.")
    ] = Path(),
    planner: Annotated[str, typer.Option("--planner", help="grammar (embedded), server or local.")] = "grammar",
    llm_url: Annotated[str, typer.Option("--llm-url", help="Server, up to /v1; else D2PLAN_LLM_URL.")] = "",
    llm_model: Annotated[str, typer.Option("--llm-model", help="Model's name or folder; else D2PLAN_LLM_MODEL.")] = "",
    llm_seconds: Annotated[float, typer.Option("--llm-seconds", help="Longest wait for one answer.")] = 120.0,
    base: Annotated[str, typer.Option("--base", help="Base model of a story; a plan names its own.")] = "mini",
    other_base: OtherBase = False,
    frames: Annotated[int | None, typer.Option("--frames", help="Beat to beat, with both; seine: 4 to 22.")] = None,
    fps: Annotated[float, typer.Option("--fps", help="Frames a second.")] = 8.0,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the noise.")] = None,
    interpolator: Annotated[str, typer.Option("--interpolator", help="seine, wan, ltx or blend.")] = "seine",
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Of the interpolator: seine.pt, a folder or a downloaded hub id.")
    ] = None,
    text_model: Annotated[
        Path | None, typer.Option("--text-model", help="Stable Diffusion 1.4 folder, for seine.pt.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Denoising steps of the interpolator.")] = None,
    keep_frames: Annotated[bool, typer.Option("--keep-frames", help="Write each frame as a picture too.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a video that is there.")] = False,
    device: Device = "cpu",
) -> None:
    """Make a video: plan the story, compose a keyframe for each moment, and make the frames between them."""
    from d2plan.workflows.filming.video import VideoOptions, make_video

    options = VideoOptions(
        concepts=concepts,
        planner=_open_planner(planner, llm_url, llm_model, llm_seconds),
        base=base,
        other_base=other_base,
        frames=frames,
        seed=seed,
        rate=fps,
        interpolator=interpolator,
        weights=weights,
        text_model=text_model,
        interpolation_steps=steps,
        keep_frames=keep_frames,
        overwrite=overwrite,
        device=device,
    )
    told: list[str] = []

    def note_early(note: str) -> None:
        # What is wrong with a plan is worth knowing before minutes are spent on it.
        told.append(note)
        tell(f"Note: {note}", err=True)

    with show_progress() as report:

        def show_plan(plan: "EventPlan", sheet: Path) -> None:
            report(f"storyboard of {len(plan.beats)} beats: {sheet}", 1, 1)

        result = make_video(story, out, options, report, show_plan, note_early)
    _tell_result(result, len(told))


def _tell_result(result: "VideoResult", told: int) -> None:
    for note in result.notes[told:]:
        tell(f"Note: {note}", err=True)
    if result.kept:
        tell(f"Segments: {result.made} made, {result.kept} kept")
    tell(f"Video: {result.video} ({result.frames} frames)")
    tell(f"Page: {result.page}")


def _open_planner(kind: str, url: str, model: str, seconds: float) -> "Planner | None":
    from d2plan.errors import InputError

    if kind == "grammar":
        return None
    # Only who asks for a language model waits for its libraries.
    from d2plan.workflows.filming.planners import PlannerChoice, open_planner

    if kind == "server":
        return open_planner(PlannerChoice("server", url, model, seconds))
    if kind == "local":
        return open_planner(PlannerChoice("local", url, model, seconds))
    raise InputError(f"--planner {kind} is unknown; choose grammar, server or local.")
