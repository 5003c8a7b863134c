"""``d2plan adapter``: look at adapter files, check them, and write them in other programs' namings."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from d2plan.cli.tell import spell_out, tell

if TYPE_CHECKING:
    from d2plan.adapter.adapter import Models
    from d2plan.adapter.report import Report
    from d2plan.workflows.shelf.adapters import OpenBase

NAMES = {"unet": "U-Net", "text_encoder": "text encoder 1", "text_encoder_2": "text encoder 2"}
_LONGEST = 200
_TRAINING = ("steps", "batch_size", "rank", "unet_rate", "text_rate", "token_weight", "attention_weight", "pictures")

app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="An adapter, ending in .safetensors.", show_default=False)]
Base = Annotated[str | None, typer.Option("--base", help="A base that it shall fit: mini, a folder or a hub id.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Also write the report here, as JSON.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write it as JSON, for programs.")]
Seed = Annotated[int, typer.Option("--seed", help="Taken by every command; nothing here is random.")]


@app.command()
def inspect(file: File, base: Base = None, out: Out = None, as_json: AsJson = False, seed: Seed = 0) -> None:
    """Say what an adapter file of any program holds, and why it cannot be used if it cannot."""
    del seed
    from d2plan.workflows.shelf.adapters import inspect_adapter, report_json

    report = inspect_adapter(file, _choose_base(base), out)
    for line in [report_json(report)] if as_json else describe(report):
        tell(line)


@app.command()
def verify(file: File, base: Base = None, out: Out = None, as_json: AsJson = False, seed: Seed = 0) -> None:
    """Make sure that an adapter file can be used, to its last number; ends with code 2 if it cannot."""
    del seed
    from d2plan.workflows.shelf.adapters import report_json, verify_adapter

    report = verify_adapter(file, _choose_base(base), out)
    if as_json:
        tell(report_json(report))
        return
    for line in _describe_parts(report):
        tell(line)
    for note in report.notes:
        tell(f"Note: {note}.")
    tell(f"{report.path} can be used" + (f" with {base}." if base else "."))


@app.command()
def convert(
    file: File,
    to: Annotated[str, typer.Option("--to", help="kohya (for ComfyUI, A1111, InvokeAI), sgm, diffusers or peft.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write; FILE's name with the naming without it.")
    ] = None,
    linear_only: Annotated[
        bool, typer.Option("--linear-only", help="Leave out convolutions, embeddings and learnt words of a LoCon.")
    ] = False,
    base: Base = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    seed: Seed = 0,
) -> None:
    """Write an adapter in another naming; the numbers stay as they are, and the way back gives the same file."""
    del seed
    from d2plan.workflows.shelf.adapters import convert_adapter

    done = convert_adapter(file, to, out, linear_only, overwrite, _choose_base(base))
    if done.left_out:
        tell(f"Left out: {done.left_out} convolutions, embeddings or learnt words.", err=True)
    tell(f"Adapter: {done.adapter.path} ({len(done.adapter.deltas)} layers)")
    for path in done.beside:
        tell(f"Beside it: {path}")


def _choose_base(base: str | None) -> "OpenBase | None":
    def open_base() -> "Models":
        from d2plan.backbone.load import load_backbone

        return load_backbone(str(base))

    return None if base is None else open_base


def describe(report: "Report") -> list[str]:
    """Lay a report out in lines.

    Args:
        report: of a file.

    Returns:
        Lines for a terminal; what a file says is cut short where it is long.
    """
    lines = [
        f"File: {report.path}",
        f"Size: {report.size / 1e6:.1f} MB, {report.tensors} tensors ({_count(report.formats)})",
        f"Naming: {report.naming}" + (f", written by {report.program}" if report.program else ""),
    ]
    lines += _describe_parts(report)
    if report.trouble:
        return [*lines, f"Cannot be used: {report.trouble}"]
    lines += [f"{name.capitalize()}: {_cut(text)}" for name, text in report.words.items()]
    training = ", ".join(f"{name} {report.settings[name]}" for name in _TRAINING if name in report.settings)
    if training:
        lines.append(f"Training: {_cut(training)}")
    lines.append(f"SHA-256: {report.sha256}")
    return lines + [f"Note: {note}." for note in report.notes]


def _describe_parts(report: "Report") -> list[str]:
    lines = []
    for part in report.parts:
        whole = f" of {part.whole}" if part.whole else ""
        others = f", {part.others} other linear layers" if part.others else ""
        lines.append(f"{NAMES[part.component]}: {part.attention}{whole} attention layers{others}")
    if report.ranks[1]:
        fits = f", for {report.architecture}" if report.architecture == "SDXL" else ""
        lines.append(f"Rank: {_span(*report.ranks)}, scale {_span(*report.scales)}{fits}")
    return lines


def _span(least: float, most: float) -> str:
    return f"{least:g}" if least == most else f"{least:g} to {most:g}"


def _count(formats: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in formats.items())


def _cut(text: str) -> str:
    plain = spell_out(text)
    return plain if len(plain) <= _LONGEST else plain[:_LONGEST] + "..."
