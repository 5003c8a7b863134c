"""A column of the picture for each instance, so that the layout need not be found in what the global row draws."""

import re
from collections.abc import Sequence

from d2plan.backbone.text import find_characters
from d2plan.documents import Position
from d2plan.isp.overrides import Box
from d2plan.isp.sharing import assign_slots
from d2plan.isp.tokens import Naming, count_before
from d2plan.scenes import Scene

MOST = 4  # more would be too narrow for anybody
# How far columns run into each other, part of the shorter side: where they meet there is nothing to part.
FEATHER = 0.06
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.05, 0.95, 0.15, 0.95
_SIDES: dict[str, Position] = {"left": "left", "right": "right"}
# "on the left" of the picture, and not "on the left cheek" or "to the left of her".
_SIDE = re.compile(
    r"\bon the (left|right)(?: side)?(?=\s*(?:$|[,.;:])|\s+(?:and|in|at|on|with|while|is|an?|the)\b)", re.I
)
# "on the left a man": it stands before whom it means.
_SIDE_BEFORE = re.compile(r"\bon the (left|right)(?: side)?,?\s+(?:is\s+|stands\s+|sits\s+)?(?:an?|the)\s+$", re.I)


def wants_columns(scene: Scene) -> bool:
    """Say whether instances are dealt columns: none of them is placed by hand, and no ControlNet has a layout.

    One alone gets a column as wide as all: attention finds a part of it, such as a head and a coat without the skirt,
    and the base would draw the rest. Where its ``position`` is asked for, attention finds it there.

    Args:
        scene: with ``masks`` filled in.

    Returns:
        True where ``deal_columns`` is to be asked.
    """
    placed = any(item.box or item.mask or item.point for item in scene.instances)
    if len(scene.instances) == 1:
        placed = placed or scene.instances[0].position is not None
    return scene.masks == "columns" and 1 <= len(scene.instances) <= MOST and not placed and not scene.controls


def tell_columns(scene: Scene, resolved: Scene) -> list[str]:
    """Tell where columns were asked for and not given, or not as they were asked for.

    Args:
        scene: as written.
        resolved: with what came of it.

    Returns:
        Sentences for the reader of the result.
    """
    if resolved.masks == "columns":
        places: dict[Position, list[str]] = {}
        for index, item in enumerate(scene.instances):
            if item.position:
                places.setdefault(item.position, []).append(f"instances[{index}]")
        return [
            f"{' and '.join(found)} are all at the position {position}; columns are beside each other, so the order of "
            "mention parts them, from left to right. Give each its own position, or a box."
            for position, found in places.items()
            if len(found) > 1
        ]
    if scene.masks != "columns" or len(scene.instances) < 2:
        return []
    return [
        f"masks: no columns, which are dealt to up to {MOST} instances, none with an area of its own and without "
        "controls."
    ]


def tell_sides(scene: Scene, kept: Scene) -> list[str]:
    """Tell of a variant that puts somebody on a side, where the picture that it keeps does not.

    Args:
        scene: the variant, in columns.
        kept: what it is a variant of.

    Returns:
        Sentences for the reader of the result.
    """
    sides = [[_read_side(item.sub_prompt) for item in one.instances] for one in (scene, kept)]
    return [
        f'instances[{index}]: "on the {now}" has no effect, because a variant keeps the columns of its picture; '
        "say it in the series' own instances, or give boxes."
        for index, (now, was) in enumerate(zip(*sides, strict=True))
        if now and now != was
    ]


def _read_side(prompt: str) -> str:
    found = _SIDE.search(prompt)
    return found[1].casefold() if found else ""


def take_back(scene: Scene) -> tuple[Scene, tuple[Box, ...]]:
    """Take columns that were dealt before, as a record has them, out of a scene's boxes.

    Args:
        scene: as written; only one that says ``masks: columns`` itself has any.

    Returns:
        The scene as it was before, and each instance's column; the very same scene and no columns where none were
        dealt.
    """
    boxes = tuple(item.box for item in scene.instances if item.box is not None)
    dealt = boxes and len(boxes) == len(scene.instances) and set(boxes) == set(_list_columns(len(boxes)))
    if scene.masks != "columns" or not dealt:
        return scene, ()
    bare = tuple(item.model_copy(update={"box": None}) for item in scene.instances)
    return scene.model_copy(update={"instances": bare}), boxes


def deal_columns(scene: Scene, namings: Sequence[Naming]) -> tuple[Box, ...]:
    """Deal out columns of one width, from left to right in the order of mention.

    Who has a ``position``, or is "on the left" or "on the right" by either prompt, goes there, the others around them.

    >>> from d2plan.scenes import Instance
    >>> both = (Instance(concept="a", sub_prompt="a dog"), Instance(concept="b", sub_prompt="a man"))
    >>> scene = Scene(global_prompt="a man and a dog", instances=both)
    >>> [box[0] for box in deal_columns(scene, [Naming("dog", "", "a dog"), Naming("man", "", "a man")])]
    [0.5, 0.05]

    Args:
        scene: names each class word in its global prompt.
        namings: its instances.

    Returns:
        A box for each, x0, y0, x1, y1, parts of the width and height.
    """
    text = scene.global_prompt
    places = [find_characters(text, one.class_word, count_before(namings, index)) for index, one in enumerate(namings)]
    positions: list[Position | None] = []
    for item, naming, (begin, end) in zip(scene.instances, namings, places, strict=True):
        stop = min((other for other, _ in places if other > begin), default=len(text))
        behind = text[end:stop] if stop == len(text) else _SIDE_BEFORE.sub("", text[end:stop])
        said = _SIDE_BEFORE.search(text[:begin]) or _SIDE.search(behind) or _SIDE.search(naming.sub_prompt)
        positions.append(item.position or (_SIDES[said[1].casefold()] if said else None))
    mentioned = sorted(range(len(places)), key=lambda index: (places[index][0], index))
    slots = dict(zip(mentioned, assign_slots([positions[index] for index in mentioned]), strict=True))
    columns = _list_columns(len(places))
    return tuple(columns[slots[index]] for index in range(len(places)))


def _list_columns(count: int) -> list[Box]:
    width = (_RIGHT - _LEFT) / count
    starts = [round(_LEFT + number * width, 4) for number in range(count)]
    return [(x0, _TOP, round(x0 + width, 4), _BOTTOM) for x0 in starts]
