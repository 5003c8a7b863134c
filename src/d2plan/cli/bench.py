"""``d2plan bench``: methods side by side, the ablation of ours, and the report of both."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from d2plan.cli.main import INTERRUPTED
from d2plan.cli.options import Device, Precision
from d2plan.cli.progress import LINE_EVERY_SECONDS, Report, write_duration
from d2plan.cli.tell import spell_out, tell
from d2plan.errors import FileError, InputError

if TYPE_CHECKING:
    from d2plan.bench.records import Results
    from d2plan.workflows.benching.bench import BenchRequest

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; an unfinished one is gone on with.")]
SuiteName = Annotated[str, typer.Option("--suite", help="quick, paper, or a YAML file.")]
Methods = Annotated[
    list[str] | None,
    typer.Option("--methods", "-m", help="Names, with commas or one after the other; all takes every one."),
]
Base = Annotated[str, typer.Option("--base", help="mini, or a folder in the diffusers SDXL layout.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of learning.")]
MostRows = Annotated[int, typer.Option("--most-rows", min=1, max=4096, help="Rows of one U-Net call.")]
Clip = Annotated[str, typer.Option("--clip", help="mini-clip, clip:FOLDER, or none.")]
Dino = Annotated[str, typer.Option("--dino", help="mini-vit, dino:FOLDER, or none.")]
Faces = Annotated[str, typer.Option("--faces", help="face:sface:FOLDER or face:arcface:FILE, for real people.")]
UseJudge = Annotated[
    bool | None,
    typer.Option("--judge/--no-judge", help="Let the small world's judge look; the suite decides without."),
]
DetectorName = Annotated[
    str, typer.Option("--detector", help="Who finds instances in real photographs: grounded, a folder, or none.")
]
Tune = Annotated[
    bool,
    typer.Option("--tune", help="First try each method's settings on two development concepts; not for an ablation."),
]
TuningSuite = Annotated[str, typer.Option("--tuning", help="A suite of other development concepts.")]
Settings = Annotated[Path | None, typer.Option("--settings", help="A tuned.yaml that a --tune wrote before.")]
Processes = Annotated[
    int, typer.Option("--processes", min=1, max=64, help="That share the methods; a core and about 1 GB each.")
]
Redo = Annotated[list[str] | None, typer.Option("--redo", help="Throw this method's results away first.")]
Retry = Annotated[bool, typer.Option("--retry", help="Try again what failed before.")]


@app.command("ablation", help="Take parts of ISP and DisLoRA away and say what each of them does (Figure 8a).")
@app.command(
    "spatial",
    help="Let methods learn the same concepts and draw the same prompts, and say who does it how well (Table 2).",
)
def compare(  # noqa: PLR0913  (a command's options are its parameters)
    context: typer.Context,
    out: Out,
    suite: SuiteName = "quick",
    methods: Methods = None,
    base: Base = "mini",
    seed: Seed = 0,
    device: Device = "cpu",
    precision: Precision = None,
    most_rows: MostRows = 32,
    clip: Clip = "mini-clip",
    dino: Dino = "mini-vit",
    faces: Faces = "none",
    judge: UseJudge = None,
    detector: DetectorName = "none",
    tune: Tune = False,
    tuning: TuningSuite = "tuning",
    settings: Settings = None,
    redo: Redo = None,
    retry: Retry = False,
    processes: Processes = 1,
) -> None:
    """Run a benchmark of the kind that the command is called."""
    given = dict(locals())
    _run(_make_request(str(given.pop("context").info_name), given), out)


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="That `d2plan bench` wrote; several need --out.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Another folder for the report.")] = None,
    base: Annotated[str, typer.Option("--base", help="Taken by every command; the results name their own.")] = "",
    seed: Annotated[int, typer.Option("--seed", help="Taken by every command; nothing here is random.")] = 0,
) -> None:
    """Write the report of results anew, also while the benchmark runs; or one of several results with other methods."""
    del base, seed
    from d2plan.bench.report.page import write_report

    for folder in folders:
        if not folder.exists():
            raise FileError(f"{folder}: is not there; give a folder that `d2plan bench` wrote.")
    written = write_report(folders[0], out, folders[1:])
    tell(f"Report: {written.page}")


def _make_request(kind: str, given: dict[str, object]) -> "BenchRequest":
    from d2plan.workflows.benching.bench import BenchRequest
    from d2plan.workflows.benching.panel import PanelChoice

    choice = PanelChoice(**{name: given.pop(name) for name in ("clip", "dino", "faces", "judge", "detector")})  # type: ignore[arg-type]
    for name in ("methods", "redo"):
        given[name] = _split_names(f"--{name}", given[name])  # type: ignore[arg-type]
    settings = given.pop("settings")
    given.pop("out")
    return BenchRequest(kind=kind, panel=choice, settings=None if settings is None else str(settings), **given)  # type: ignore[arg-type]


def _split_names(option: str, values: list[str] | None) -> tuple[str, ...]:
    names = tuple(name.strip() for value in values or () for name in value.split(",") if name.strip())
    if values and not names:
        raise InputError(f"{option}: is empty; write names, or leave it out.")
    return names


def _run(request: "BenchRequest", out: Path) -> None:
    from d2plan.workflows.benching.bench import run_bench

    with _show_one_bar(sys.stderr) as report_progress:
        outcome = run_bench(request, out, report_progress)
    for line in _summarise(outcome.results):
        tell(line)
    for note in outcome.results.notes:
        tell(f"Note: {note}", err=True)
    tell(f"Results: {outcome.path}")
    tell(f"Report:  {outcome.page}")
    if outcome.stopped:
        tell(f"The same command{' without --redo' if request.redo else ''} goes on from here.", err=True)
        raise typer.Exit(INTERRUPTED)


def _summarise(results: "Results") -> Iterator[str]:
    """Write one line a method; the report has the tables."""
    from d2plan.bench.report.comparison import PARTS, count_missing, estimate_part

    width = max((len(method.title) for method in results.methods), default=0)
    for method in results.methods:
        missing = count_missing(results, method)
        told = [f"{len(method.pictures)} of {len(results.suite.shots)} pictures"]
        told += [f"{count} {what}" for count, what in zip(missing, ("failed", "not drawn yet"), strict=True) if count]
        for metric in ("identity", "text_scaled", "image"):
            means = [estimate_part(results, method, metric, part) for part in PARTS]
            if any(means):
                told.append(f"{metric} {' / '.join(f'{mean.mean:.3f}' if mean else '-' for mean in means)}")
        yield f"{method.title:<{width}}  {', '.join(told)}{' (not validated)' if method.validated is False else ''}"
        for failure in method.failures:
            yield f"{'':<{width}}  failed to {failure.stage} {' and '.join(failure.concepts)}: {failure.message}"
    if results.methods:
        yield "Two numbers: one concept / several. Intervals and everything else stand in the report."


@contextmanager
def _show_one_bar(stream: TextIO) -> Iterator[Report]:
    """Show one bar for the whole with the time left, and beside it what runs; on no terminal a line now and then."""
    from d2plan.workflows.benching.bench import TITLE

    if not stream.isatty():
        yield _Lines(stream, TITLE).take
        return
    columns = (
        BarColumn(24),
        TextColumn("{task.fields[left]}", markup=False),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(file=stream)) as bars:
        bar = bars.add_task("looking at what is there", total=None, left="")

        def take(what: str, done: int, total: int) -> None:
            if what == TITLE:
                left = f"{write_duration(total - done)} left" if total > done else f"took {write_duration(done)}"
                bars.update(bar, completed=done, total=total, left=left)
            else:
                share = f" {done / total:.0%}" if total else ""
                bars.update(bar, description=f"{spell_out(what)}{share}")

        yield take


class _Lines:
    """Writes a line when another stage begins, and now and then.

    Args:
        stream: where to.
        title: of the whole.
    """

    def __init__(self, stream: TextIO, title: str) -> None:
        self.stream = stream
        self.title = title
        self._left = ""
        self._stage = ""
        self._last = 0.0

    def take(self, what: str, done: int, total: int) -> None:
        """Take note of a step."""
        if what == self.title:
            self._left = f"{write_duration(done)} done, about {write_duration(max(0, total - done))} left"
            return
        now, stage = time.monotonic(), ":".join(what.split(":")[:2])
        if stage == self._stage and now - self._last < LINE_EVERY_SECONDS:
            return
        self._stage, self._last = stage, now
        share = f" {done / total:.0%}" if total else ""
        self.stream.write(f"{spell_out(what)}{share}; {self._left}\n")
        self.stream.flush()
