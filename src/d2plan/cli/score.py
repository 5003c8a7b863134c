"""``d2plan score``: judge the pictures of run folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from d2plan.cli.progress import show_progress
from d2plan.cli.tell import spell_out, tell
from d2plan.documents import InstanceScore, Score
from d2plan.errors import FileError, InputError
from d2plan.media.images import check_output

YES, NO, UNSAID = "yes", "NO", "-"


def command(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold some.")],
    references: Annotated[
        list[str] | None,
        typer.Option(
            "--references", "-r", help="CONCEPT=FOLDER: a concept's name or class word, and its own pictures."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file for all scores.")] = Path("scores.json"),
    base: Annotated[str, typer.Option("--base", help="Only pictures made with this base (all without).")] = "",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the intervals and of the line-ups.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Judge pictures: who is there, what each wears and does, where, and whether each is itself."""
    from d2plan.workflows.score import score_runs

    folders = parse_references(references or [])
    check_output(out, overwrite)
    if not out.parent.is_dir():
        raise FileError(f"{out}: its folder does not exist; make it or give another --out.")
    with show_progress() as report:
        table = score_runs(runs, folders, out=out, report=report, base=base, seed=seed)
    console = Console(width=None if Console().is_terminal else 120)
    console.print(pictures_table(table.scores))
    summary = Table("score", "mean", "95 % interval", "values", title="Summary")
    for name, value in table.summary.items():
        summary.add_row(name, f"{value.mean:.3f}", f"{value.low:.3f} .. {value.high:.3f}", str(value.count))
    console.print(summary)
    tell(f"Scores: {out}")


def parse_references(pairs: list[str]) -> dict[str, Path]:
    """Read ``CONCEPT=FOLDER`` pairs.

    Args:
        pairs: as typed.

    Returns:
        Concept to folder.

    Raises:
        InputError: a pair has no ``=``, or a side is empty.
    """
    folders = {}
    for pair in pairs:
        name, found, folder = pair.partition("=")
        if not (found and name.strip() and folder.strip()):
            raise InputError(f'--references "{pair}": write CONCEPT=FOLDER, such as rex=photos/rex.')
        folders[name.strip()] = Path(folder.strip()).expanduser()
    return folders


def pictures_table(scores: Sequence[Score]) -> Table:
    """Lay out the scores, one line an instance.

    Args:
        scores: of pictures.

    Returns:
        The table.
    """
    columns = ("picture", "place", "count", "instance", "present", "attributes", "swapped", "similar", "rank of 20")
    table = Table(*columns, title="Pictures")
    for score in scores:
        first = (spell_out(score.picture), _say(score.place), f"{score.seen_count} of {score.expected_count}")
        if not score.instances:
            table.add_row(*first, *[UNSAID] * 6)
        for one in score.instances:
            table.add_row(*first, *_write_instance(one))
            first = ("", "", "")
    return table


def _write_instance(one: InstanceScore) -> tuple[str, ...]:
    similar = UNSAID if one.similarity is None else f"{one.similarity:.2f}"
    name = spell_out(f"{one.concept} ({one.class_word})" if one.concept else one.class_word)
    rank = UNSAID if one.rank is None else str(one.rank)
    return name, _say(one.present), _say(one.attributes), _say(one.swapped), similar, rank


def _say(value: bool | None) -> str:
    return UNSAID if value is None else YES if value else NO
