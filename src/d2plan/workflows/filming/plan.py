"""Plan a story over a folder of concepts, or check a plan that a person wrote."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import CLIPTokenizer

from d2plan.adapter.file import SUFFIX, read_metadata
from d2plan.backbone.load import find_base, fingerprint_base, read_words
from d2plan.errors import D2PlanError, FileError, InputError
from d2plan.etp.doubts import doubt_plan
from d2plan.etp.grammar.planner import GrammarPlanner
from d2plan.etp.plan import (
    DEFAULT_FRAMES,
    CountTokens,
    EventPlan,
    KnownConcept,
    check_choices,
    check_plan,
    fingerprint_plan,
    load_plan,
    write_plan,
)
from d2plan.etp.planner import Planner, StoryRequest, clean_story
from d2plan.fields import contains_word
from d2plan.media.images import check_output, make_folder, write_file

PLAN_SUFFIXES = (".yaml", ".yml", ".json")


def plan_story(
    story: str,
    concepts: str | Path,
    planner: Planner | None = None,
    base: str = "mini",
    frames: int = DEFAULT_FRAMES,
    seed: int = 0,
    other_base: bool = False,
) -> EventPlan:
    """Turn a story into a plan.

    Args:
        story: plain words.
        concepts: the folder that holds the adapters of everybody who may take part.
        planner: None is the embedded grammar; see ``workflows.planners`` for those with a language model.
        base: the base model that the plan is for.
        frames: from one beat to the next, both keyframes counted.
        seed: of the noise.
        other_base: take concepts that were learnt on other weights.

    Returns:
        The plan, checked against the adapters and the base.

    Raises:
        InputError: the story cannot be planned.
        FileError: the folder or the base cannot be read.
        PlannerError: a language model failed.
    """
    text = clean_story(story)
    check_choices({"frames": frames, "seed": seed})
    known = read_concepts(concepts)
    if not known:
        raise InputError(f"{concepts} holds no adapter that can be used; train one with `d2plan train`.")
    check = PlanCheck({concept.path: concept for concept in known}, base, other_base)
    usable = _find_usable(known, text, "" if other_base else check.fingerprint)
    plan = (planner or GrammarPlanner()).plan(StoryRequest(text, usable, base, frames, seed, check))
    return plan.model_copy(update={"planned": fingerprint_plan(plan)})


def check_plan_file(path: str | Path, other_base: bool = False) -> EventPlan:
    """Read a plan and check it against its adapters and its base.

    Args:
        path: the plan's file.
        other_base: take concepts that were learnt on other weights, also where it says nothing of it.

    Returns:
        The plan with every class word and identifier filled in.

    Raises:
        InputError: it is no plan, or what it says cannot be filmed; the sentence names file and field.
        FileError: a file cannot be read.
    """
    plan = load_plan(path)
    try:
        known = {instance.concept: _read_concept(Path(instance.concept)) for instance in plan.instances}
        return PlanCheck(known, plan.base, other_base)(plan)
    except InputError as error:
        raise type(error)(f"{path}: {error}") from error


def tell_doubts(plan: EventPlan) -> tuple[str, ...]:
    """Tell what of a plan its base will hardly show, before anybody waits for it.

    Args:
        plan: checked and filled in.

    Returns:
        Sentences for the reader.
    """
    return doubt_plan(plan, read_words(find_base(plan.base)))


def save_plan(plan: EventPlan, out: str | Path, overwrite: bool = False) -> Path:
    """Write a plan's file, whole or not at all.

    Args:
        plan: the plan.
        out: the file, ending in .yaml, .yml or .json (which YAML readers read too).
        overwrite: allow it to be there already.

    Returns:
        The file.

    Raises:
        InputError: its name ends otherwise.
        FileError: it is there, or cannot be written.
    """
    target = check_plan_name(out, overwrite)
    make_folder(target.parent)
    write_file(target, write_plan(plan, target.parent, target.suffix.lower() == ".json").encode())
    return target


def check_plan_name(out: str | Path, overwrite: bool = False) -> Path:
    """Refuse a name for a plan's file before any work is done for it.

    Args:
        out: the file.
        overwrite: allow it to be there already.

    Returns:
        Its path.

    Raises:
        InputError: it ends otherwise than a plan.
        FileError: it is there already, or is a folder.
    """
    target = Path(os.path.expanduser(out))
    if target.suffix.lower() not in PLAN_SUFFIXES:
        raise InputError(f"--out {out} is no name for a plan; end it in {PLAN_SUFFIXES[0]} or .json.")
    check_output(target, overwrite)
    return target


def is_plan_file(text: str) -> bool:
    """Say whether what a person gave is the name of a plan's file, not a story.

    Args:
        text: what was given.

    Returns:
        True for one word or path that ends as plans do.
    """
    return text.strip().lower().endswith(PLAN_SUFFIXES) and len(text) < 4096 and "\n" not in text.strip()


def read_concepts(folder: str | Path) -> list[KnownConcept]:
    """Read what the adapters of a folder say of themselves; the weights are not read.

    Args:
        folder: where the files lie.

    Returns:
        One entry for each file that can be read, by file name; two of one name are called by their files.

    Raises:
        FileError: the folder is missing or cannot be read.
    """
    root = Path(os.path.expanduser(folder))
    if not root.is_dir():
        raise FileError(f"{root}: is not a folder; give the one that holds adapters as --concepts.")
    try:
        paths = sorted(path for path in root.iterdir() if path.suffix == SUFFIX and not path.name.startswith("."))
    except OSError as error:
        raise FileError(f"{root}: cannot be read ({error.strerror or error}); give one that you may read.") from error
    found = []
    for path in paths:
        try:
            found.append(_read_concept(path))
        except D2PlanError:
            # A damaged neighbour is no reason to film nothing; `d2plan concepts` names it.
            continue
    names = [concept.name.casefold() for concept in found]
    return [
        concept
        if names.count(concept.name.casefold()) == 1
        else KnownConcept(Path(concept.path).stem, concept.path, concept.class_word, concept.identifier, concept.base)
        for concept in found
    ]


def _read_concept(path: Path) -> KnownConcept:
    known = read_metadata(path)
    return KnownConcept(
        known.get("d2plan.name") or path.stem,
        str(path),
        known.get("d2plan.class_word", ""),
        known.get("d2plan.identifier", ""),
        known.get("d2plan.base_fingerprint", ""),
    )


def _find_usable(known: Sequence[KnownConcept], story: str, base: str) -> tuple[KnownConcept, ...]:
    """Keep the concepts that can take part; a story that names another is refused before anybody plans it."""
    usable, refused = [], []
    for concept in known:
        if not concept.class_word:
            told = (
                "which states no class word; no planner can speak of it, so write the plan by hand, with a class_word."
            )
        elif concept.base and base and concept.base != base:
            told = (
                f"trained on the base {concept.base}, but this one is {base}; choose concepts of one base, or take "
                "them with --other-base."
            )
        else:
            usable.append(concept)
            continue
        refused.append((concept, f"{concept.name} is {concept.path}, {told}"))
    for concept, told in refused:
        if not usable or contains_word(story.casefold(), concept.name.casefold()):
            raise InputError(told)
    return tuple(usable)


class PlanCheck:
    """Checks plans against adapters and one base, whose tokenizers are read only once.

    Args:
        known: the adapters, by path.
        base: as a plan names it.
        other_base: take concepts that were learnt on other weights; the plans say so then.
    """

    def __init__(self, known: Mapping[str, KnownConcept], base: str, other_base: bool = False) -> None:
        self.known, self.other_base = known, other_base
        folder = find_base(base)
        self.fingerprint = fingerprint_base(folder)
        self.count, self.limit = _open_counter(folder)

    def __call__(self, plan: EventPlan) -> EventPlan:
        """Check a plan.

        Args:
            plan: as written.

        Returns:
            The plan, filled in.
        """
        plan = plan.model_copy(update={"other_base": True}) if self.other_base else plan
        return check_plan(plan, self.known, self.count, self.limit, self.fingerprint)


def _open_counter(folder: Path) -> tuple[CountTokens, int]:
    try:
        tokenizers = [
            CLIPTokenizer.from_pretrained(folder / part, local_files_only=True) for part in ("tokenizer", "tokenizer_2")
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{folder}: its tokenizers cannot be opened; copy the base anew.") from error
    limit = min(int(tokenizer.model_max_length) for tokenizer in tokenizers)
    return lambda text: max(len(tokenizer(text, verbose=False).input_ids) for tokenizer in tokenizers), limit
