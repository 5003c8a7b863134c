"""What is there to score: the pictures of run folders and of a user's own folders, and what each was asked to show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2plan.dislora.data_folder import PICTURE_SUFFIXES, list_folder
from d2plan.dislora.data_words import TABLE_FILE, WORDS_FILE, plain_name, read_caption, read_table, read_words
from d2plan.documents import RunRecord, contains_word, load_run
from d2plan.errors import FileError, InputError
from d2plan.eval.score import Expectation, Expected, expect_prompt, expect_scene
from d2plan.media.decode import read_bytes
from d2plan.workflows.runs.folder import IMAGE, RECORD
from d2plan.workflows.scoring.score import find_references, find_runs
from d2plan.world.cast import CLASSES
from d2plan.world.folders import TRUTH_FILE

_MOST_TEXT = 4 * 2**20
_TOKEN = re.compile(r"<[^<>\s]+>")


@dataclass(frozen=True)
class Known:
    """A concept whose own pictures are given.

    Attributes:
        name: what results call it.
        class_word: what it is; None where nobody said.
        identifier: the word that stands for it in prompts; None where nobody said.
        folder: of its own pictures.
    """

    name: str
    class_word: str | None
    identifier: str | None
    folder: Path


@dataclass(frozen=True)
class Item:
    """A picture to score.

    Attributes:
        name: of the picture within what was given, the same for the same picture of another method.
        path: of its file.
        text: the prompt in plain words; None where there is none.
        expected: what it was asked to show; concepts by name.
        phrases: each instance's own prompt in plain words; empty for none.
        prompt: what pictures of the same prompt share.
        series: what pictures of one series share; None outside of series.
    """

    name: str
    path: Path
    text: str | None
    expected: Expectation
    phrases: tuple[str | None, ...]
    prompt: str
    series: str | None = None

    @property
    def key(self) -> str:
        """What the same picture of another method has too: the name, without the ending of a file."""
        return self.path.stem if self.path.name == self.name else self.name

    @property
    def concepts(self) -> str:
        """Its concepts, joined; class words where it has no names."""
        return "+".join(one.concept or one.class_word for one in self.expected.instances)


def read_known(references: Mapping[str, Path]) -> dict[str, Known]:
    """Read what is said of concepts beside their own pictures.

    Args:
        references: "NAME" or "NAME:CLASS" to the folder.

    Returns:
        By name. The class is the one that is given, else that of ``concept.yaml``, else that of ``world.json``, else
        the name where it is a class of the small world.

    Raises:
        FileError: a file cannot be read.
        InputError: a name is missing or given twice.
    """
    folders_by_name(references)
    known: dict[str, Known] = {}
    for key, folder in references.items():
        name, _, given = (part.strip() for part in key.partition(":"))
        words = read_words(folder / WORDS_FILE)[0]
        word = given or words.class_word or _read_world(folder) or (name if name in CLASSES else None)
        known[name] = Known(name, word, words.identifier, folder)
    return known


def folders_by_name(references: Mapping[str, Path]) -> dict[str, Path]:
    """Leave the classes out of what was given.

    Args:
        references: "NAME" or "NAME:CLASS" to the folder.

    Returns:
        NAME to the folder.

    Raises:
        InputError: a name is missing or given twice.
    """
    folders: dict[str, Path] = {}
    for key, folder in references.items():
        name = key.partition(":")[0].strip()
        if not name:
            raise InputError(f'references: "{key}" names no concept; write NAME=FOLDER or NAME:CLASS=FOLDER.')
        if name in folders:
            raise InputError(
                f'references: "{name}" is given twice, the second time as "{key}"; give each concept one folder and '
                "each its own name."
            )
        folders[name] = folder
    return folders


def _read_world(folder: Path) -> str | None:
    path = folder / TRUTH_FILE
    if not path.is_file():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["class_word"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{path}: cannot be read; take it away or make the folder again.") from error


def holds_runs(folder: Path) -> bool:
    """Say whether a folder is a run or holds some.

    Args:
        folder: to look into, at any depth.

    Returns:
        True where a picture lies beside a record.

    Raises:
        FileError: it is no folder.
    """
    if not folder.is_dir():
        raise FileError(f"{folder}: is not a folder; give the folder of a run, or one with pictures.")
    return any((path.parent / IMAGE).is_file() for path in folder.rglob(RECORD))


def has_pictures(folder: Path) -> bool:
    """Say whether pictures, or something that calls itself one, lie in a folder."""
    return any(path.suffix.lower() in PICTURE_SUFFIXES for path in folder.iterdir())


def list_runs(folder: Path, base: str = "") -> list[tuple[Path, RunRecord]]:
    """Read the records of run folders.

    Args:
        folder: a run folder or one that holds some.
        base: only those made with this base; empty takes all.

    Returns:
        Folders and records; empty where none was made with the base.

    Raises:
        FileError: there is no run.
        InputError: a record cannot be used.
    """
    runs = [(run, load_run(run / RECORD)) for run in find_runs([folder])]
    return [(run, record) for run, record in runs if not base or record.scene.base == base]


def gather_known(runs: Iterable[tuple[Path, RunRecord]], references: Mapping[str, Path]) -> dict[str, Known]:
    """Find the own pictures of the concepts in runs.

    Args:
        runs: folders and records.
        references: a concept's name, the stem of its file, or its class word, to the folder.

    Returns:
        Concepts by name; those without pictures are left out.

    Raises:
        InputError: a name of the references is missing or given twice.
    """
    known: dict[str, Known] = {}
    plain = folders_by_name(references)
    for _, record in runs:
        for use, instance in zip(record.adapters, record.scene.instances, strict=True):
            word = instance.class_word or use.class_word
            folder = None if use.name in known else find_references(use.name, use.path, word, plain)
            if folder is not None:
                known[use.name] = Known(use.name, word, use.identifier, folder)
    return known


def describe_run(run: Path, record: RunRecord, root: Path) -> Item:
    """Say what a run was asked to show.

    Args:
        run: its folder.
        record: its record.
        root: what its name counts from.

    Returns:
        The item; its text is the global prompt, its phrases are the sub-prompts.
    """
    names = [use.name for use in record.adapters]
    marks = [use.identifier for use in record.adapters]
    phrases = tuple(
        plain_text(instance.sub_prompt, marks[index : index + 1])
        for index, instance in enumerate(record.scene.instances)
    )
    text = plain_text(record.scene.global_prompt, marks)
    return Item(
        run.name if run == root else run.relative_to(root).as_posix(),
        run / IMAGE,
        text,
        expect_scene(record.scene, names),
        phrases,
        " | ".join([text, *phrases]),
        str(run.parent) if record.shared_start else None,
    )


def describe_pictures(
    folder: Path, known: Mapping[str, Known], prompts: Path | str | None = None, series: bool = False
) -> list[Item]:
    """Say what the pictures of a user's own folder were asked to show.

    Args:
        folder: its PNG, JPEG and WebP files count, without masks.
        known: the concepts that they may show.
        prompts: one prompt for all, or a file: ``.txt`` with a line a picture in the order of their names, or
            ``.jsonl`` with file names; None takes the captions beside the pictures or in ``metadata.jsonl``.
        series: the pictures are one series, in the order of their names.

    Returns:
        The items. A picture shows the concepts whose name or identifier its prompt says, else those whose class it
        says, else, without a prompt, all.

    Raises:
        FileError: the folder has no picture, or a file cannot be read.
        InputError: the numbers of prompts and pictures differ.
    """
    files = list_folder(folder)
    if prompts is None:
        table = read_table(folder / TABLE_FILE)
        beside = {stem: read_caption(path) for stem, path in files.captions.items()}
        said = [beside.get(path.stem) or table.get(plain_name(path.name)) for path in files.pictures]
    else:
        said = _read_prompts(prompts, folder, files.pictures)
    return [
        _describe_picture(path, prompt, known, str(folder) if series else None)
        for path, prompt in zip(files.pictures, said, strict=True)
    ]


def plain_text(prompt: str, identifiers: Sequence[str | None]) -> str:
    """Take identifiers out of a prompt, because no encoder knows them; the class word beside them stays.

    >>> plain_text("a photo of a <v1> dog", ["<v1>"]), plain_text("sks dog", ["sks"])
    ('a photo of a dog', 'dog')

    Args:
        prompt: as it was written.
        identifiers: words to take out; what stands in angle brackets goes in any case.

    Returns:
        The prompt in plain words.
    """
    for mark in identifiers:
        if mark:
            prompt = re.sub(rf"(?<!\w){re.escape(mark)}(?!\w)", " ", prompt)
    return " ".join(_TOKEN.sub(" ", prompt).split())


def _describe_picture(path: Path, prompt: str | None, known: Mapping[str, Known], series: str | None) -> Item:
    shown = _choose_known(prompt, known)
    text = plain_text(prompt, [one.identifier for one in shown]) if prompt else None
    read = expect_prompt(text) if text else Expectation(())
    waiting = list(read.instances)
    instances = []
    for one in shown:
        # The first one of the class that the prompt speaks of and that is nobody yet.
        said = next((want for want in waiting if want.class_word == one.class_word), None)
        if said is not None:
            waiting.remove(said)
        want = said or Expected(one.class_word or "")
        instances.append(
            Expected(want.class_word, want.accessory, want.accessory_colour, want.action, want.position, one.name)
        )
    expected = Expectation((*instances, *waiting), read.place, read.light)
    return Item(path.name, path, text, expected, (), text or "", series)


def _choose_known(prompt: str | None, known: Mapping[str, Known]) -> list[Known]:
    if prompt is None:
        return list(known.values())
    named = [
        one
        for one in known.values()
        if contains_word(prompt, one.name) or (one.identifier and contains_word(prompt, one.identifier))
    ]
    if named:
        return named
    return [one for one in known.values() if one.class_word is None or contains_word(prompt, one.class_word)]


def _read_prompts(prompts: Path | str, folder: Path, pictures: Sequence[Path]) -> list[str | None]:
    if isinstance(prompts, str):
        return [prompts] * len(pictures)
    if prompts.suffix.lower() == ".jsonl":
        table = read_table(prompts)
        missing = [path.name for path in pictures if plain_name(path.name) not in table]
        if missing:
            raise InputError(
                f"{prompts}: names no prompt for {missing[0]} of {folder}"
                + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
                + "; write a line for each picture."
            )
        return [table[plain_name(path.name)] for path in pictures]
    try:
        content = read_bytes(prompts, _MOST_TEXT, "a text").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{prompts}: is not UTF-8 text; save it as such.") from error
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    if len(lines) != len(pictures):
        raise InputError(
            f"{prompts}: has {len(lines)} prompts, but {folder} has {len(pictures)} pictures; write one line for each "
            "picture, in the order of their names."
        )
    return list(lines)
