"""What a training is asked for, and what is refused before it begins."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from d2plan.backbone.load import Backbone
from d2plan.config import BaseDefaults, DisLoRASettings
from d2plan.dislora.checkpoint import compare_words, last_step, read_words
from d2plan.dislora.data import ConceptData
from d2plan.dislora.lessons import LessonChoices, check_prompts
from d2plan.dislora.processes import Processes
from d2plan.dislora.prompts import check_words
from d2plan.errors import InputError


@dataclass(frozen=True)
class TrainRequest:
    """All that decides, with the base and the pictures, what an adapter becomes.

    Attributes:
        name: how people call the concept.
        choices: what is learnt, and how pictures are shown.
        settings: the losses, the optimiser, the rank.
        seed: of the first values and of all that is drawn.
    """

    name: str
    choices: LessonChoices
    settings: DisLoRASettings = field(default_factory=DisLoRASettings)
    seed: int = 0


def check_request(
    backbone: Backbone,
    data: ConceptData,
    request: TrainRequest,
    saved: Path | None = None,
    processes: Processes | None = None,
    changed: bool = False,
) -> dict[str, str]:
    """Refuse what cannot be learnt, and what does not go on with a stopped training.

    Args:
        backbone: the base.
        data: the concept's pictures.
        request: what is asked for.
        saved: the folder of a training that shall go on, if there is one in it.
        processes: those that learn together; None is this one alone.
        changed: the training goes on with whatever fits.

    Returns:
        What must be the same when it goes on, see ``describe_training``.

    Raises:
        InputError: a word cannot be used with the base or its captions, or a checkpoint is of another training, or of
            more steps.
        FileError: a checkpoint cannot be read.
    """
    choices = request.choices
    check_words(choices.class_word, choices.identifier, reserved_identifiers(backbone.defaults))
    check_prompts(backbone, data, choices)
    words = describe_training(backbone, data, request, processes or Processes())
    done = last_step(saved) if saved is not None else 0
    if done > request.settings.steps:
        raise InputError(f"{saved}: the training has done {done} steps already; ask for more, or begin anew.")
    before = read_words(saved) if saved is not None and not changed else {}
    if saved is not None and before:
        # What was no setting yet when the checkpoint was made had its default.
        usual = {name: str(value) for name, value in asdict(DisLoRASettings()).items() if name in words}
        compare_words(usual | before, words, saved)
    return words


def reserved_identifiers(defaults: BaseDefaults) -> tuple[str, ...]:
    """Name the identifiers that a base keeps for concepts, when no other word may be one.

    Args:
        defaults: the base's own.

    Returns:
        Those in the form ``<...>``, which only a base made for it has; none where any rare word will do.
    """
    return tuple(word for word in defaults.identifiers if word.startswith("<") and word.endswith(">"))


def describe_request(request: TrainRequest) -> dict[str, str]:
    """Write a request down for the adapter's header.

    Args:
        request: what was asked for.

    Returns:
        Setting to value.
    """
    content = {**asdict(request.choices), **asdict(request.settings), "seed": request.seed}
    return {key: str(value) for key, value in content.items() if value is not None}


def describe_training(
    backbone: Backbone, data: ConceptData, request: TrainRequest, processes: Processes
) -> dict[str, str]:
    """Write down all that must be the same when a training goes on.

    Args:
        backbone: the base.
        data: the concept's pictures.
        request: what was asked for; more steps are no other training.
        processes: those that learn together.

    Returns:
        What to value.
    """
    said = {key: value for key, value in describe_request(request).items() if key != "steps"}
    found = {"base": backbone.fingerprint, "pictures": data.fingerprint, "precision": str(backbone.dtype)}
    return {**said, **found, "device": backbone.device.type, "processes": str(processes.count)}
