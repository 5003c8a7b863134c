"""Which identifier a concept gets when nobody names one: the first that no neighbour has, and at a resume its own."""

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from d2plan.adapter.file import SUFFIX, read_metadata
from d2plan.dislora.checkpoint import read_words
from d2plan.errors import D2PlanError, InputError
from d2plan.workflows.training.folder import LOG_FILE, WORK_SUFFIX, work_folder


def share_identifiers(
    wanted: Sequence[str | None], targets: Sequence[Path], reserved: Sequence[str], resume: bool
) -> list[str | None]:
    """Give an identifier to each concept that names none, so that it can meet its neighbours in a scene.

    A training that goes on keeps its identifier, and so does an adapter that is made anew, unless a neighbour has the
    same; the others get the base's first ones that no adapter and no training in their folder has.

    Args:
        wanted: what each concept names; None where it names nothing.
        targets: their adapters' files.
        reserved: the base's identifiers, in the order to give them.
        resume: whether trainings go on.

    Returns:
        One a concept, in their order; None where the base offers no identifiers at all.

    Raises:
        InputError: the base's identifiers are all taken.
    """
    given = list(wanted)
    if None not in given:
        return given
    for place, target in enumerate(targets):
        if resume and given[place] is None:
            given[place] = _read_training(work_folder(target)) or None
    taken = {word for word in given if word} | _list_taken(targets)
    for place, target in enumerate(targets):
        own = _read_adapter(target) if given[place] is None else ""
        if own in reserved and own not in taken:
            given[place] = own
            taken.add(own)
    free = (word for word in reserved if word not in taken)
    found = [word or next(free, None) for word in given]
    if reserved and None in found:
        folder = targets[found.index(None)].parent
        raise InputError(
            f"identifier is missing, and all {len(reserved)} of this base ({reserved[0]} .. {reserved[-1]}) stand in "
            f"the adapters of {folder}; choose one with --identifier that it shall never meet in a scene, or write "
            "to another folder."
        )
    return found


def _list_taken(targets: Collection[Path]) -> set[str]:
    """List the identifiers of the other adapters beside some, and of the trainings that will make others."""
    taken: set[str] = set()
    works = {work_folder(target) for target in targets}
    for folder in {target.parent for target in targets}:
        with suppress(OSError):
            taken |= {_read_adapter(path) for path in folder.glob(f"*{SUFFIX}") if path not in targets}
            taken |= {_read_training(path) for path in folder.glob(f"*{WORK_SUFFIX}") if path not in works}
    return taken


def _read_adapter(path: Path) -> str:
    with suppress(D2PlanError):
        return read_metadata(path).get("d2plan.identifier", "")
    return ""


def _read_training(work: Path) -> str:
    """Read what a training in progress, or one that was stopped, calls its concept; empty when that is not known."""
    with suppress(D2PlanError):
        if known := read_words(work).get("identifier"):
            return known
    # One that has no checkpoint yet has begun its log.
    log = work / LOG_FILE
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(_read_line(log))["settings"]["identifier"]) if log.is_file() else ""
    return ""


def _read_line(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline()
