"""``d2plan train``: learn a concept from a folder of images, or several from a list."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from d2plan.cli.options import Device, Precision
from d2plan.cli.progress import show_progress, write_duration
from d2plan.cli.tell import spell_out, tell
from d2plan.errors import InputError

if TYPE_CHECKING:
    from d2plan.dislora.train import StepReport
    from d2plan.workflows.training.options import TrainOptions

_LINES = 10


Folder = Annotated[Path, typer.Argument(help="The pictures, or a YAML list of concepts.")]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="The adapter's file, ending in .safetensors; of a list, its folder.")
]
ClassWord = Annotated[str | None, typer.Option("--class", help="What it is, such as dog.")]
Identifier = Annotated[
    str | None, typer.Option("--identifier", help="The word that shall name it; the first free one without this.")
]
Name = Annotated[str | None, typer.Option("--name", help="What to call it; the file's name without this.")]
Base = Annotated[
    str | None, typer.Option("--base", help="mini (also without this), or an SDXL folder in the diffusers layout.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Of all that is random; 0 without this.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Training steps; the base's own without this.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Pictures a U-Net call.")]
GradientAccumulation = Annotated[int | None, typer.Option("--accumulate", help="U-Net calls a step.")]
GradientCheckpointing = Annotated[
    bool | None, typer.Option("--gradient-checkpointing/--no-gradient-checkpointing", help="Less memory, more time.")
]
Rank = Annotated[int | None, typer.Option("--rank", help="Of the adapter.")]
UnetRate = Annotated[float | None, typer.Option("--rate", help="Learning rate of the U-Net's part.")]
TextRate = Annotated[float | None, typer.Option("--text-rate", help="Learning rate of the text part.")]
RateSchedule = Annotated[str | None, typer.Option("--rate-schedule", help="Of both: constant, or linear down to 0.")]
TextEncoders = Annotated[
    bool | None, typer.Option("--text-encoders/--no-text-encoders", help="Let the text encoders learn too.")
]
TokenWeight = Annotated[float | None, typer.Option("--token-weight", help="Of L_token (eq. 3); 0 switches it off.")]
AttentionWeight = Annotated[
    float | None, typer.Option("--attention-weight", help="Of L_atten (eq. 4); 0 switches it off.")
]
DenoisingWeight = Annotated[float | None, typer.Option("--denoising-weight", help="Of L_LDM (eq. 1).")]
TokenReduction = Annotated[str | None, typer.Option("--token-reduction", help="sum or mean over features.")]
AttentionOverlap = Annotated[str | None, typer.Option("--attention-overlap", help="minmax or product.")]
JointFraction = Annotated[
    float | None, typer.Option("--joint-fraction", help='Part shown as "identifier + class word".')
]
PriorWeight = Annotated[float | None, typer.Option("--prior-weight", help="Of prior preservation; off without this.")]
PriorImages = Annotated[int | None, typer.Option("--prior-images", help="Class images that the base draws for it.")]
PlainWeight = Annotated[
    float | None, typer.Option("--plain-weight", help="Of keeping what the plain class word means; off without this.")
]
Template = Annotated[
    str | None, typer.Option("--template", help="For pictures without a caption, such as 'a photo of a {}'.")
]
UseCaptions = Annotated[
    bool | None, typer.Option("--captions/--no-captions", help="Use the captions beside the pictures.")
]
Masked = Annotated[bool | None, typer.Option("--masks/--no-masks", help="Weigh the loss by subject masks.")]
Flip = Annotated[bool | None, typer.Option("--flip/--no-flip", help="Show mirrored pictures too.")]
Buckets = Annotated[
    bool | None,
    typer.Option("--buckets/--no-buckets", help="Keep the pictures' shapes; the base decides without this."),
]
FilePrecision = Annotated[
    str | None, typer.Option("--file-precision", help="Of the adapter's file; fp32 without this.")
]
Preview = Annotated[bool, typer.Option("--preview", help="Also draw four pictures with the result.")]
PreviewEvery = Annotated[int | None, typer.Option("--preview-every", help="Draw them every so many steps too.")]
CheckpointEvery = Annotated[
    int | None, typer.Option("--checkpoint-every", help="Steps between checkpoints; 100 without this.")
]
KeepCheckpoints = Annotated[
    bool, typer.Option("--keep-checkpoints", help="Leave the last ones, to go on for more steps.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where it was stopped.")]
ResumeChanged = Annotated[bool, typer.Option("--resume-changed", help="Go on though something differs.")]
Tensorboard = Annotated[Path | None, typer.Option("--tensorboard", help="A folder for TensorBoard's files.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")]


def command(  # noqa: PLR0913  (a command's options are its parameters)
    folder: Folder,
    out: Out,
    class_word: ClassWord = None,
    identifier: Identifier = None,
    name: Name = None,
    base: Base = None,
    seed: Seed = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    gradient_accumulation: GradientAccumulation = None,
    gradient_checkpointing: GradientCheckpointing = None,
    rank: Rank = None,
    unet_rate: UnetRate = None,
    text_rate: TextRate = None,
    rate_schedule: RateSchedule = None,
    text_encoders: TextEncoders = None,
    token_weight: TokenWeight = None,
    attention_weight: AttentionWeight = None,
    denoising_weight: DenoisingWeight = None,
    token_reduction: TokenReduction = None,
    attention_overlap: AttentionOverlap = None,
    joint_fraction: JointFraction = None,
    prior_weight: PriorWeight = None,
    prior_images: PriorImages = None,
    plain_weight: PlainWeight = None,
    template: Template = None,
    use_captions: UseCaptions = None,
    masked: Masked = None,
    flip: Flip = None,
    buckets: Buckets = None,
    precision: Precision = None,
    file_precision: FilePrecision = None,
    preview: Preview = False,
    preview_every: PreviewEvery = None,
    checkpoint_every: CheckpointEvery = None,
    keep_checkpoints: KeepCheckpoints = False,
    resume: Resume = False,
    resume_changed: ResumeChanged = False,
    tensorboard: Tensorboard = None,
    overwrite: Overwrite = False,
    device: Device = "cpu",
) -> None:
    """Learn a concept from a folder of images, or several from a list, and write the adapters."""
    given = dict(locals())
    _refuse_empty({"--class": class_word, "--identifier": identifier, "--name": name, "--base": base})
    from d2plan.dislora.processes import leads
    from d2plan.workflows.training.several import LIST_SUFFIXES, train_list
    from d2plan.workflows.training.train import train_concept

    options = _collect_options(given)
    with show_progress() as report:
        if folder.suffix.lower() in LIST_SUFFIXES and not folder.is_dir():
            if class_word or identifier or name:
                raise InputError(f"--class, --identifier and --name are of one concept; write them into {folder}.")
            paths = train_list(folder, out, base, seed, report, **options)
        else:
            base_name, first = base or "mini", 0 if seed is None else seed
            paths = [train_concept(folder, out, class_word, identifier, base_name, first, report, **options)]
    for path in paths if leads() else ():
        tell(f"Adapter: {path}")


def _refuse_empty(words: dict[str, str | None]) -> None:
    """An empty word, such as a shell's variable that is not set, is not one that was left away."""
    for option, value in words.items():
        if value is not None and not value.strip():
            raise InputError(f"{option} is empty; write what it shall be, or leave the option away.")


def _collect_options(given: dict[str, object]) -> "TrainOptions":
    """Take what was asked for; what was not is left to the workflow."""
    elsewhere = ("folder", "out", "class_word", "identifier", "base", "seed")
    asked = {key: value for key, value in given.items() if key not in elsewhere and value not in (None, False)}
    # Switches that say no are answers too, where the default is yes.
    denied = ("text_encoders", "use_captions", "masked", "flip", "buckets", "gradient_checkpointing")
    asked.update({key: False for key in denied if given[key] is False})
    # 0 is a number, though equal to False.
    asked.update({key: value for key, value in given.items() if type(value) in (int, float) and key not in elsewhere})
    return {**asked, "on_step": LossLines().take, "on_note": _write_line}  # type: ignore[typeddict-item]


class LossLines:
    """Writes the losses about ten times in a training, above the bar that shows steps and the time left."""

    def __init__(self) -> None:
        self._sums = [0.0] * 6
        self._count = 0

    def take(self, report: "StepReport") -> None:
        """Take note of a step; the lines tell means since the line before.

        Args:
            report: how it went.
        """
        told = (report.loss, report.ldm, report.token, report.attention, report.prior, report.plain)
        self._sums = [before + value for before, value in zip(self._sums, told, strict=True)]
        self._count += 1
        every = max(1, report.total // _LINES)
        if report.step % every and report.step != report.total:
            return
        loss, ldm, token, attention, prior, plain = (value / self._count for value in self._sums)
        self._sums, self._count = [0.0] * 6, 0
        parts = f"denoising {ldm:.4f}, token {token:.4f}, attention {attention:.4f}"
        parts += f", prior {prior:.4f}" if prior else ""
        parts += f", plain {plain:.4f}" if plain else ""
        pace = f"{report.images_per_second:.1f} images/s"
        pace += f", {report.memory / 1024:.1f} GiB" if report.memory else ""
        pace += f", about {write_duration(report.seconds_left)} left" if report.seconds_left else ""
        _write_line(f"step {report.step}/{report.total}: loss {loss:.4f} ({parts}), {pace}")


def _write_line(text: str) -> None:
    # A terminal's bars take over sys.stderr while they show, so that lines land above them.
    sys.stderr.write(f"{spell_out(text)}\n")
    sys.stderr.flush()
