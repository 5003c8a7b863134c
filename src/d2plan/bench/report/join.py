"""Put the results of several folders side by side, each with other methods on the same suite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from d2plan.bench.assemble import UNSCORED, WAITING, is_finished
from d2plan.bench.records import MethodRecord, Results
from d2plan.bench.store import read_results, relative_to
from d2plan.bench.validity import judge_methods
from d2plan.errors import InputError

# What must be the same for numbers to stand in one table.
_ALIKE = {
    "kind": "another kind of benchmark",
    "suite": "another suite",
    "base": "another base",
    "drawing": "another way of drawing",
    "encoders": "other encoders",
}


def join_results(folders: Sequence[Path], target: Path) -> Results:
    """Read the results of several folders as if one benchmark had run all of their methods.

    Args:
        folders: that ``d2plan bench`` wrote; each method stands in one of them only.
        target: the folder that pictures are named from.

    Returns:
        The results, methods in the order of the folders; which of them are validated is said anew.

    Raises:
        FileError: one cannot be read.
        InputError: they are of different suites, bases, ways of drawing or encoders, or hold one method twice.
    """
    found = [(folder, read_results(folder)) for folder in folders]
    (lead, first), seen = found[0], dict[str, Path]()
    methods: list[MethodRecord] = []
    for folder, results in found:
        for field, title in _ALIKE.items():
            if _read(results, field) != _read(first, field):
                raise InputError(f"{folder}: {title} than in {lead}; name folders of one benchmark.")
        for method in results.methods:
            if method.name in seen:
                raise InputError(f"{folder}: {method.name} stands in {seen[method.name]}, too; name one of the two.")
            seen[method.name] = folder
            pictures = tuple(
                one.model_copy(update={"image": relative_to(folder / one.image, target)}) for one in method.pictures
            )
            methods.append(method.model_copy(update={"pictures": pictures}))
    concepts = tuple(
        one.model_copy(update={"folder": relative_to(lead / one.folder, target)}) for one in first.suite.concepts
    )
    plain, judged = judge_methods(first.kind, first.suite, methods)
    told = list(dict.fromkeys(note for _, results in found for note in results.notes))
    # What one folder has not begun, another one often has.
    listed = [note.removeprefix(WAITING).rstrip(".").split(", ") for note in told if note.startswith(WAITING)]
    waiting = list(dict.fromkeys(name for names in listed for name in names if name not in seen))
    notes = [note for note in told if not note.startswith(WAITING)]
    notes += [f"{WAITING}{', '.join(waiting)}."] if waiting else []
    complete = not waiting and not any(note.startswith(UNSCORED) for note in notes)
    return first.model_copy(
        update={
            "suite": first.suite.model_copy(update={"concepts": concepts}),
            "commit": ", ".join(dict.fromkeys(results.commit for _, results in found if results.commit)),
            "finished": complete and all(is_finished(first.suite, method) for method in methods),
            "notes": tuple(notes),
            "plain": plain,
            "methods": judged,
        }
    )


def _read(results: Results, field: str) -> object:
    """Give what is compared; folders and names that a base is called by may differ."""
    if field == "base":
        return results.base.fingerprint
    return results.suite.digest if field == "suite" else getattr(results, field)
