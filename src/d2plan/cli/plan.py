"""``d2plan plan``: turn a story into a plan, or check a plan, and show it as a storyboard."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from d2plan.cli.options import OtherBase
from d2plan.cli.tell import spell_out, tell

if TYPE_CHECKING:
    from d2plan.etp.plan import EventPlan
    from d2plan.etp.planner import Planner
    from d2plan.workflows.filming.planners import PlannerKind

_PLAIN_WIDTH = 120


def command(  # noqa: PLR0913  (a command's options are its parameters)
    story: Annotated[str, typer.Argument(help="The story in plain words, or a plan's file to check.")],
    concepts: Annotated[
        Path, typer.Option("--concepts", help="Folder with the adapters of all who may take part.")
    ] = Path(),
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the plan here (.yaml or .json).")] = None,
    planner: Annotated[str, typer.Option("--planner", help="grammar (embedded), server or local.")] = "grammar",
    llm_url: Annotated[str, typer.Option("--llm-url", help="Server, up to /v1; else D2PLAN_LLM_URL.")] = "",
    llm_model: Annotated[str, typer.Option("--llm-model", help="Model's name or folder; else D2PLAN_LLM_MODEL.")] = "",
    llm_seconds: Annotated[float, typer.Option("--llm-seconds", help="Longest wait for one answer.")] = 120.0,
    frames: Annotated[
        int, typer.Option("--frames", help="From beat to beat, both ends counted; seine makes 4 to 22.")
    ] = 16,
    base: Annotated[str, typer.Option("--base", help="Base model that the plan is for.")] = "mini",
    other_base: OtherBase = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the noise.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a plan that is there.")] = False,
) -> None:
    """Turn a story into a plan of moments, and show it as a storyboard."""
    from d2plan.errors import InputError
    from d2plan.workflows.filming.plan import (
        check_plan_file,
        check_plan_name,
        is_plan_file,
        plan_story,
        save_plan,
        tell_doubts,
    )

    if out is not None:
        check_plan_name(out, overwrite)
    if is_plan_file(story):
        plan = check_plan_file(story, other_base)
    else:
        opened = None
        if planner == "server":
            opened = _open("server", llm_url, llm_model, llm_seconds)
        elif planner == "local":
            opened = _open("local", llm_url, llm_model, llm_seconds)
        elif planner != "grammar":
            raise InputError(f"--planner {planner} is unknown; choose grammar, server or local.")
        plan = plan_story(story, concepts, opened, base, frames, seed, other_base)
    console = Console(width=None if Console().is_terminal else _PLAIN_WIDTH)
    console.print(Text(spell_out(f"Scene: {plan.global_prompt}")))
    console.print(make_storyboard(plan))
    for note in (*plan.notes, *tell_doubts(plan)):
        tell(f"Note: {note}", err=True)
    if out is not None:
        tell(f"Plan: {save_plan(plan, out, overwrite)}")


def _open(kind: "PlannerKind", url: str, model: str, seconds: float) -> "Planner":
    # Only who asks for a language model waits for its libraries.
    from d2plan.workflows.filming.planners import PlannerChoice, open_planner

    return open_planner(PlannerChoice(kind, url, model, seconds))


def make_storyboard(plan: "EventPlan") -> Table:
    """Lay a plan out as a table: a row for each beat, a column for each instance.

    Args:
        plan: the plan.

    Returns:
        The table. What all sub-prompts of an instance begin with stands in the column's head.
    """
    scenes = any(beat.global_prompt for beat in plan.beats)
    heads = [
        " ".join(word for word in (item.name, item.identifier and f"({item.identifier})") if word)
        for item in plan.instances
    ]
    columns = ["beat", *(spell_out(head) for head in heads), *(["scene"] if scenes else [])]
    table = Table(*(Column(Text(name), overflow="fold") for name in columns), show_lines=True)
    for index, beat in enumerate(plan.beats):
        cells = [str(index + 1), *(_shorten(plan, item.name, beat.sub_prompts[item.name]) for item in plan.instances)]
        cells += [plan.prompt_at(index)] if scenes else []
        # As plain text: square brackets of a story are no marks of rich.
        table.add_row(*(Text(spell_out(cell)) for cell in cells))
    return table


def _shorten(plan: "EventPlan", name: str, prompt: str) -> str:
    item = next(item for item in plan.instances if item.name == name)
    start = f"a photo of a {item.identifier} {item.class_word}"
    return prompt.removeprefix(start).strip() or "-" if prompt.startswith(start) else prompt
