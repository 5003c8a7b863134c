"""Compare plans with what a person wrote: the same things worn and done, whatever the order of the words."""

import re
from dataclasses import dataclass
from pathlib import Path

from d2plan.documents import read_yaml
from d2plan.errors import InputError
from d2plan.etp.grammar.planner import GrammarPlanner
from d2plan.etp.plan import EventPlan, KnownConcept, check_plan
from d2plan.etp.planner import StoryRequest, clean_story
from d2plan.world.cast import ACCESSORIES, COLOURS

RESTING = ("standing", "parked")
# The world's captions mostly leave daylight unsaid.
_DAY = " by day"
_WORN = re.compile(rf"(?:({'|'.join(COLOURS)}) )?({'|'.join(ACCESSORIES)})")


@dataclass(frozen=True)
class Verdict:
    """How a story was planned.

    Attributes:
        prompts: sub-prompts that a person wrote.
        right: those that came out with the same facts.
        told: refused, or noted to be uncertain.
        fault: what differs; empty where nothing does.
    """

    prompts: int
    right: int
    told: bool
    fault: str


def facts(phrase: str) -> tuple:
    """Read what a phrase says: what is worn, with colours, and what is done; resting is the same as saying nothing."""
    worn = frozenset(_WORN.findall(phrase))
    rest = _WORN.sub(" ", phrase)
    done = frozenset(word for word in rest.split() if word.endswith("ing") and word not in ("wearing", *RESTING))
    return worn, done | frozenset(word for word in rest.split() if word == "parked" and word not in RESTING)


def know(names: dict[str, str]) -> tuple[KnownConcept, ...]:
    """Make concepts that need no files."""
    return tuple(
        KnownConcept(name, f"{name}.safetensors", word, f"<v{number}>")
        for number, (name, word) in enumerate(names.items(), 1)
    )


def plan(story: str, names: dict[str, str]) -> EventPlan:
    """Plan a story with the grammar, checked as the command line does."""
    concepts = know(names)
    paths = {concept.path: concept for concept in concepts}
    request = StoryRequest(clean_story(story), concepts, check=lambda found: check_plan(found, paths))
    return GrammarPlanner().plan(request)


def load_stories(path: Path) -> list[dict]:
    """Read a file of stories; each gets the characters that it knows."""
    book = read_yaml(path)
    everybody = {**book["characters"], **book.get("more", {})}
    for entry in book["stories"]:
        names = entry.get("with", list(book["characters"]))
        entry["characters"] = {name: everybody[name] for name in names}
    return book["stories"]


def judge(entry: dict) -> Verdict:
    """Plan a story and compare the plan with the one that a person wrote."""
    expected = entry.get("beats", [])
    prompts = sum(len(beat) for beat in expected)
    try:
        made = plan(entry["story"], entry["characters"])
    except InputError as error:
        wanted = "refused" in entry or entry.get("refused_or_noted")
        fits = str(entry.get("refused", "")) in str(error)
        return Verdict(prompts, 0, True, "" if wanted and fits else f"refused: {error}")
    told = bool(made.notes)
    if "refused" in entry:
        return Verdict(prompts, 0, told, f"planned: {[beat.sub_prompts for beat in made.beats]}")
    if not expected:
        return Verdict(0, 0, told, "" if told else "neither refused nor noted")
    right, faults = _compare(expected, made)
    missing = [word for word in entry.get("notes", []) if not any(word in note for note in made.notes)]
    faults += [f"no note holds {word!r}" for word in missing]
    faults += _compare_places(entry.get("places", []), made)
    return Verdict(prompts, right, told, "; ".join(faults))


def _compare(expected: list[dict], made: EventPlan) -> tuple[int, list[str]]:
    starts = {item.name: f"a photo of a {item.identifier} {item.class_word}" for item in made.instances}
    shown = [
        {name: prompt.removeprefix(starts[name]).strip() for name, prompt in beat.sub_prompts.items()}
        for beat in made.beats
    ]
    if len(shown) != len(expected):
        return 0, [f"{len(shown)} beats, not {len(expected)}: {shown}"]
    right, faults = 0, []
    for index, (want, got) in enumerate(zip(expected, shown, strict=True)):
        for name, phrase in want.items():
            if name in got and facts(phrase) == facts(got[name]):
                right += 1
            else:
                faults.append(f"beat {index + 1} {name}: {got.get(name)!r}, not {phrase!r}")
    extra = sorted(set(shown[0]) - set(expected[0]))
    return right, faults + ([f"takes part: {extra}"] if extra else [])


def _compare_places(places: list[str], made: EventPlan) -> list[str]:
    return [
        f"beat {index + 1} is {made.prompt_at(index)!r}, not {place!r}"
        for index, place in enumerate(places)
        if index < len(made.beats) and not made.prompt_at(index).removesuffix(_DAY).endswith(place.removesuffix(_DAY))
    ]


def say_score(path: Path) -> str:
    """Say how a file of stories is planned: the share of right sub-prompts, and what is wrong in silence."""
    verdicts = [(entry, judge(entry)) for entry in load_stories(path)]
    prompts, right = sum(v.prompts for _, v in verdicts), sum(v.right for _, v in verdicts)
    silent = [entry["story"] for entry, v in verdicts if v.fault and not v.told]
    lines = [f"{right} of {prompts} sub-prompts right ({right / max(prompts, 1):.1%}); wrong in silence: {len(silent)}"]
    lines += [
        f"- {entry['story']}\n    {v.fault}" + ("" if v.told else "   [SILENT]") for entry, v in verdicts if v.fault
    ]
    return "\n".join(lines)
