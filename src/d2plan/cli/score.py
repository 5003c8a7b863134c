"""``d2plan score``: measure the pictures of run folders, or of any folders."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from d2plan.cli.progress import show_progress
from d2plan.cli.tell import tell
from d2plan.errors import InputError

if TYPE_CHECKING:
    from d2plan.workflows.scoring.folders import Scored


def command(  # noqa: PLR0913  (a command's options are its parameters)
    paths: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Run folders, folders that hold some, or pictures.")
    ],
    references: Annotated[
        list[str] | None,
        typer.Option("--references", "-r", help="CONCEPT=FOLDER or CONCEPT:CLASS=FOLDER: a concept's own pictures."),
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option("--against", help="The same of another method, to compare with.")
    ] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="The prompt of all pictures.")] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="A line a picture, or .jsonl; captions without it.")
    ] = None,
    series: Annotated[bool, typer.Option("--series", help="Each folder of pictures is one series.")] = False,
    real: Annotated[Path | None, typer.Option("--real", help="True pictures, for FID and KID.")] = None,
    clip: Annotated[str | None, typer.Option("--clip", help="mini-clip, clip:FOLDER_OR_ID, or none.")] = None,
    dino: Annotated[str | None, typer.Option("--dino", help="mini-vit, dino:FOLDER_OR_ID, or none.")] = None,
    face: Annotated[str | None, typer.Option("--face", help="face:sface:FOLDER or face:arcface:FILE.")] = None,
    detector: Annotated[
        str | None, typer.Option("--detector", help="Who finds instances: judge, grounded, a folder, or none.")
    ] = None,
    lineups: Annotated[bool, typer.Option(help="Rank figures of the small world among 20 of their class.")] = True,
    out: Annotated[Path, typer.Option("--out", "-o", help="A .json or .csv file for the scores.")] = Path(
        "scores.json"
    ),
    base: Annotated[str, typer.Option("--base", help="Only pictures made with this base (all without).")] = "",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the intervals and of the line-ups.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Measure pictures: how they go with their prompts and references, who is there, and what each wears and does."""
    from d2plan.workflows.scoring.folders import score_folders
    from d2plan.workflows.scoring.report import check_scores, write_scores
    from d2plan.workflows.scoring.sources import ScoreRequest, find_sources

    if prompt is not None and prompts is not None:
        raise InputError("--prompt and --prompts: give one of them.")
    request = ScoreRequest(
        paths=tuple(paths),
        against=tuple(against or ()),
        references=parse_references(references or []),
        prompts=prompt if prompt is not None else prompts,
        series=series,
        real=real,
        clip=clip,
        dino=dino,
        face=face,
        detector=detector,
        lineups=lineups,
        base=base,
        seed=seed,
    )
    # What is to be scored comes before where the scores go: a wrong folder is told as such.
    sources = find_sources(request)
    check_scores(out, request, overwrite)
    with show_progress() as report:
        scored = score_folders(request, report, sources)
    write_scores(out, request, scored)
    _show(scored, seed)
    tell(f"Scores: {out}")


def parse_references(pairs: list[str]) -> dict[str, Path]:
    """Read ``CONCEPT=FOLDER`` pairs.

    Args:
        pairs: as typed.

    Returns:
        Concept to folder.

    Raises:
        InputError: a pair has no ``=``, a side is empty, or a concept is given twice.
    """
    folders = {}
    for pair in pairs:
        name, found, folder = pair.partition("=")
        if not (found and name.strip() and folder.strip()):
            raise InputError(f'--references "{pair}": write CONCEPT=FOLDER, such as rex=photos/rex.')
        if name.strip() in folders:
            raise InputError(f'--references: "{name.strip()}" is given twice; give each concept one folder.')
        folders[name.strip()] = Path(folder.strip()).expanduser()
    return folders


def _show(scored: "Scored", seed: int) -> None:
    from rich.console import Console

    from d2plan.cli.score_tables import alignment_table, film_table, judged_table, summary_table

    console = Console(width=None if Console().is_terminal else 120 + 40 * (len(scored.sets) - 1))
    for one in scored.sets:
        if one.judged:
            console.print(judged_table(one.judged, f"{one.title}: what the judge sees"))
        if scored.encoders.keys() & {"clip", "dino"}:
            console.print(alignment_table(one))
    console.print(summary_table(scored.sets, seed))
    for one in scored.films:
        console.print(film_table(one))
    if scored.films:
        console.print(summary_table(scored.films, seed))
    for kind, source in scored.encoders.items():
        tell(f"{kind}: {source}")
    for note in dict.fromkeys(scored.notes):
        tell(f"note: {note}")
