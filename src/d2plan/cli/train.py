"""``d2plan train``: learn a concept from a folder of images."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from d2plan.cli.progress import show_progress
from d2plan.cli.tell import spell_out, tell

if TYPE_CHECKING:
    from d2plan.dislora.train import StepReport
    from d2plan.workflows.train import TrainOptions

_LINES = 10


def command(  # noqa: PLR0913  (a command's options are its parameters)
    folder: Annotated[Path, typer.Argument(help="The pictures; captions and masks may lie beside them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The adapter's file, ending in .safetensors.")],
    class_word: Annotated[str | None, typer.Option("--class", help="What it is, such as dog.")] = None,
    identifier: Annotated[str | None, typer.Option("--identifier", help="The word that shall name it.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call it; the file's name without this.")] = None,
    base: Annotated[str, typer.Option("--base", help="mini, or a folder in the diffusers SDXL layout.")] = "mini",
    seed: Annotated[int, typer.Option("--seed", help="Of all that is random.")] = 0,
    steps: Annotated[int | None, typer.Option("--steps", help="Training steps; the base's own without this.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Pictures a step.")] = None,
    rank: Annotated[int | None, typer.Option("--rank", help="Of the adapter.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Learning rate of the U-Net's part.")] = None,
    text_rate: Annotated[float | None, typer.Option("--text-rate", help="Learning rate of the text part.")] = None,
    masks: Annotated[bool, typer.Option("--masks/--no-masks", help="Use the masks beside the pictures.")] = True,
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Show mirrored pictures too.")] = True,
    preview: Annotated[bool, typer.Option("--preview", help="Also draw four pictures with the result.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    device: Annotated[str, typer.Option("--device", help="Such as cpu or cuda.")] = "cpu",
) -> None:
    """Learn a concept from a folder of images and write its adapter."""
    from d2plan.workflows.train import train_concept

    told = LossLines()
    options: TrainOptions = {
        "masked": masks,
        "flip": flip,
        "preview": preview,
        "overwrite": overwrite,
        "device": device,
        "on_step": told.take,
        "on_note": _write_line,
    }
    asked = {
        "name": name, "steps": steps, "batch_size": batch_size, "rank": rank, "unet_rate": rate, "text_rate": text_rate
    }  # fmt: skip
    options.update({key: value for key, value in asked.items() if value is not None})  # type: ignore[typeddict-item]
    with show_progress() as report:
        path = train_concept(folder, out, class_word, identifier, base, seed, report, **options)
    tell(f"Adapter: {path}")


class LossLines:
    """Writes the losses about ten times in a training, above the bar that shows steps and the time left."""

    def __init__(self) -> None:
        self._sums = [0.0, 0.0, 0.0, 0.0]
        self._count = 0

    def take(self, report: "StepReport") -> None:
        """Take note of a step; the lines tell means since the line before.

        Args:
            report: how it went.
        """
        for index, value in enumerate((report.loss, report.ldm, report.token, report.attention)):
            self._sums[index] += value
        self._count += 1
        every = max(1, report.total // _LINES)
        if report.step % every and report.step != report.total:
            return
        loss, ldm, token, attention = (value / self._count for value in self._sums)
        self._sums, self._count = [0.0] * 4, 0
        _write_line(
            f"step {report.step}/{report.total}: loss {loss:.4f} (denoising {ldm:.4f}, token {token:.4f}, "
            f"attention {attention:.4f}), {report.images_per_second:.1f} images/s"
        )


def _write_line(text: str) -> None:
    # A terminal's bars take over sys.stderr while they show, so that lines land above them.
    sys.stderr.write(f"{spell_out(text)}\n")
    sys.stderr.flush()
