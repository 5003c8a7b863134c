"""Score run folders: pictures against their scene files, with identities where references are given."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from d2plan.documents import Score, load_run
from d2plan.errors import FileError, InputError
from d2plan.eval.judge import Judge, Picture, load_judge
from d2plan.eval.lineup import build_lineup
from d2plan.eval.metrics import Estimate
from d2plan.eval.score import Lineup, expect_scene, score_verdict, summarise
from d2plan.media.images import read_image, write_file
from d2plan.world.cast import species_of
from d2plan.world.folders import TRUTH_FILE
from d2plan.world.identity import Identity

PICTURE, RECORD = "image.png", "run.json"
JUDGE = "judge"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_MOST_REFERENCES = 64
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ScoreTable:
    """Scores of pictures and their summary."""

    scores: tuple[Score, ...]
    summary: Mapping[str, Estimate]

    def as_json(self) -> str:
        """Write the table as JSON."""
        content = {
            "summary": {name: asdict(value) for name, value in self.summary.items()},
            "scores": [score.model_dump() for score in self.scores],
        }
        return json.dumps(content, indent=2) + "\n"


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Find the run folders among and below the given ones.

    Args:
        folders: each a run folder or one that holds some.

    Returns:
        Folders with a picture and a record, in order, each once.

    Raises:
        FileError: a folder is missing or holds no run.
    """
    runs: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise FileError(f"{folder}: is not a folder; give the folder of a run.")
        found = sorted(path.parent for path in folder.rglob(RECORD) if (path.parent / PICTURE).is_file())
        if not found:
            raise FileError(f"{folder}: holds no run ({PICTURE} with {RECORD}); give what `d2plan compose` wrote.")
        runs.update(dict.fromkeys(found))
    return list(runs)


def list_references(folder: Path) -> list[Path]:
    """List a concept's own pictures.

    Args:
        folder: holds PNG, JPEG or WebP pictures; masks (``*.mask.png``) are passed over.

    Returns:
        At most 64 files in the order of their names.

    Raises:
        FileError: there is no folder or no picture in it.
    """
    if not folder.is_dir():
        raise FileError(f"{folder}: is not a folder; give one that holds pictures.")
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES and not _is_mask(path)]
    if not paths:
        raise FileError(
            f"{folder}: holds no PNG, JPEG or WebP picture (masks, *.mask.png, are none); give a folder that does."
        )
    return paths[:_MOST_REFERENCES]


def read_references(folder: Path) -> list[Picture]:
    """Read a concept's own pictures.

    Args:
        folder: as for ``list_references``.

    Returns:
        At most 64 pictures in the order of their names.

    Raises:
        FileError: there is no folder or no picture in it, or one cannot be read.
    """
    return [read_image(path) for path in list_references(folder)]


def find_references(name: str, path: str, class_word: str, references: Mapping[str, Path]) -> Path | None:
    """Find the folder of a concept's own pictures.

    Args:
        name: the concept's.
        path: of its adapter file.
        class_word: what it is.
        references: folders by name, by the stem of the file, or by class word.

    Returns:
        The folder given, else one named like the adapter file beside it, else None.
    """
    for key in (name, Path(path).stem, class_word):
        if key in references:
            return Path(references[key])
    beside = Path(path).with_suffix("")
    return beside if beside.is_dir() else None


def check_references(references: Mapping[str, Path], concepts: Iterable[tuple[str, str, str]]) -> None:
    """Make sure that each folder of references belongs to a concept.

    Args:
        references: folders by name, by the stem of the file, or by class word.
        concepts: name, path of the adapter file, and class word of each.

    Raises:
        InputError: a folder is given for something else.
    """
    known = sorted({key for name, path, word in concepts for key in (name, Path(path).stem, word) if key})
    for key in references:
        if key not in known:
            raise InputError(
                f'references: "{key}" is no concept here; name one of {", ".join(known)}.'
                if known
                else f'references: "{key}" is no concept here, because there are none; leave it out.'
            )


def read_identity(folder: Path) -> Identity | None:
    """Read which character of the world a folder shows, where its ``world.json`` says so.

    Args:
        folder: a concept's pictures, such as ``d2plan world concept`` writes.

    Returns:
        The character, or None without that file.

    Raises:
        FileError: the file cannot be read.
        InputError: the file holds no identity of the world.
    """
    path = folder / TRUTH_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        word, values = str(content["class_word"]), dict(content["identity"])
        plain = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        if set(plain) == {factor.name for factor in species_of(word).factors}:
            return Identity(word, plain)
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (TypeError, KeyError, ValueError):
        pass
    raise InputError(f"{path}: holds no identity of the world; take it away or make the folder again.")


def _is_mask(path: Path) -> bool:
    return Path(path.stem).suffix == ".mask"


def score_runs(
    folders: Sequence[Path],
    references: Mapping[str, Path] | None = None,
    judge: Judge | None = None,
    out: Path | None = None,
    report: Report | None = None,
    base: str = "",
    seed: int = 0,
) -> ScoreTable:
    """Score run folders.

    Args:
        folders: run folders, or folders that hold some.
        references: a concept's name or class word to the folder of its own pictures; without one, a folder named
            like the adapter file beside it is taken where it exists.
        judge: None opens the package's own.
        out: file for the table, as JSON; its folder must exist.
        report: is told what is happening.
        base: score only pictures of this base; empty takes all.
        seed: of the intervals and the line-ups.

    Returns:
        The scores and their summary.

    Raises:
        FileError: a folder or picture is missing, or the table cannot be written.
        InputError: a reference folder shows no instance of the class or belongs to no concept, or the judge itself
            chose a picture.
    """
    runs = [(run, load_run(run / RECORD)) for run in find_runs([Path(folder) for folder in folders])]
    runs = [(run, record) for run, record in runs if not base or record.scene.base == base]
    for run, record in runs:
        if record.choice is not None and record.choice.encoder == JUDGE:
            raise InputError(
                f"{run}: the judge chose this picture among {record.choice.candidates}, so it may not score it; "
                "leave it out, or compose it without --candidates."
            )
    if not runs:
        raise InputError(f"--base {base}: none of the runs was made with it; leave it out or give other runs.")
    check_references(
        references or {},
        (
            (use.name, use.path, instance.class_word or use.class_word)
            for _, record in runs
            for use, instance in zip(record.adapters, record.scene.instances, strict=True)
        ),
    )
    judge = judge or load_judge()
    report = report or _ignore
    lineups: dict[str, Lineup] = {}
    tried: set[str] = set()
    scores = []
    for number, (run, record) in enumerate(runs):
        report("Scoring", number, len(runs))
        for index, use in enumerate(record.adapters):
            word = record.scene.instances[index].class_word or use.class_word
            folder = None if use.name in tried else find_references(use.name, use.path, word, references or {})
            tried.add(use.name)
            if folder is not None:
                lineups[use.name] = _line_up(judge, word, folder, seed)
        image = read_image(run / PICTURE)
        expected = expect_scene(record.scene, [use.name for use in record.adapters])
        scores.append(score_verdict(judge.judge(image), expected, image.shape[1], lineups, run.name))
    report("Scoring", len(runs), len(runs))
    table = ScoreTable(tuple(scores), summarise(scores, seed))
    if out is not None:
        write_file(out, table.as_json().encode())
    return table


def _ignore(what: str, done: int, total: int) -> None:
    """Take no note of progress."""


def _line_up(judge: Judge, class_word: str, folder: Path, seed: int) -> Lineup:
    try:
        return build_lineup(judge, class_word, read_references(folder), read_identity(folder), seed)
    except FileError:
        raise
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
