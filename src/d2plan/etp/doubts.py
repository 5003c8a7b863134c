"""What a plan asks for that its base will hardly show: told before the long work, and refused by nobody."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from d2plan.backbone.text import find_unknown
from d2plan.documents import contains_word
from d2plan.etp.plan import EventPlan, list_prompts
from d2plan.world.cast import ACTIONS

_EVERY_ACTION = tuple(dict.fromkeys(action for actions in ACTIONS.values() for action in actions))
_SAME_PLACE = 0.7
_SIDES = {"left": (0.0, 0.5), "middle": (0.25, 0.75), "right": (0.5, 1.0)}

Box = tuple[float, float, float, float]


def doubt_plan(plan: EventPlan, words: Sequence[str]) -> tuple[str, ...]:
    """Tell what of a plan will hardly become as it is written.

    Args:
        plan: checked and filled in.
        words: those that the base was trained on; empty where nobody knows them.

    Returns:
        Sentences for the reader, each with its field.
    """
    doubts = [*_doubt_places(plan), *_doubt_sub_prompts(plan)]
    if words:
        # A base with a list of words has learnt the world's captions, in which a figure does one thing at a time.
        doubts += [*_doubt_words(plan, words), *_doubt_actions(plan)]
    return tuple(doubts)


def _doubt_places(plan: EventPlan) -> Iterator[str]:
    for index, item in enumerate(plan.instances):
        if item.box is not None and item.position is not None:
            low, high = _SIDES[item.position]
            if not low <= (item.box[0] + item.box[2]) / 2 <= high:
                yield (
                    f"instances[{index}]: position says {item.position}, but box lies elsewhere, and decides; keep one "
                    "of them."
                )
    for one, other in combinations(plan.instances, 2):
        if one.box is not None and other.box is not None and _share(one.box, other.box) > _SAME_PLACE:
            yield (
                f"{one.name} and {other.name} have nearly the same box, and will be drawn into each other; move one of "
                "the boxes."
            )


def _doubt_sub_prompts(plan: EventPlan) -> Iterator[str]:
    for index, beat in enumerate(plan.beats):
        for item in plan.instances:
            if item.class_word and not contains_word(beat.sub_prompts[item.name], item.class_word):
                called = " ".join(word for word in (item.identifier, item.class_word) if word)
                yield (
                    f'beats[{index}].sub_prompts.{item.name} does not say "{item.class_word}", as the adapter learnt '
                    f'it; write "a photo of a {called} ...".'
                )


def _doubt_actions(plan: EventPlan) -> Iterator[str]:
    for index, beat in enumerate(plan.beats):
        for item in plan.instances:
            actions = ACTIONS.get(str(item.class_word), ())
            said = [action for action in _EVERY_ACTION if contains_word(beat.sub_prompts[item.name], action)]
            told = [action for action in actions if action in said]
            if len(told) > 1:
                yield (
                    f"beats[{index}].sub_prompts.{item.name} asks for {' and '.join(told)} at once, and one of them at "
                    "most will be seen; make two beats of it."
                )
            if actions and (strange := [action for action in said if action not in actions]):
                yield (
                    f"beats[{index}].sub_prompts.{item.name} asks for {' and '.join(strange)}, which the base has "
                    f"never seen a {item.class_word} do; it can be {', '.join(actions)}."
                )


def _doubt_words(plan: EventPlan, words: Sequence[str]) -> Iterator[str]:
    known = [*words, *(item.identifier for item in plan.instances if item.identifier)]
    told: set[str] = set()
    for where, prompt in list_prompts(plan):
        for word, nearest in find_unknown(prompt, known):
            if word not in told:
                told.add(word)
                hint = f"; known words like it: {', '.join(nearest)}" if nearest else ""
                yield f'{where}: the base has never seen "{word}"{hint}.'


def _share(one: Box, other: Box) -> float:
    """Give the part that two boxes have in common of what they cover together."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0.0) * max(height, 0.0)
    return both / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - both)
