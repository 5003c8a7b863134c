"""A column of the picture for each instance, so that the layout need not be found in what the global row draws."""

import re
from collections.abc import Sequence

from d2plan.backbone.text import find_characters
from d2plan.isp.overrides import Box
from d2plan.isp.tokens import Naming, count_before
from d2plan.scenes import Scene

MOST = 4  # more would be too narrow for anybody
# How far columns run into each other, part of the shorter side: where they meet there is nothing to part.
FEATHER = 0.06
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.05, 0.95, 0.15, 0.95
_SIDE = re.compile(r"\s+(?:(?:on|at|to)\s+the\s+(left|right)|in\s+the\s+(middle|centre|center))\b", re.IGNORECASE)
_ORDER = {"left": 0, "right": 2}


def wants_columns(scene: Scene) -> bool:
    """Say whether instances are dealt columns: several, none of them placed by hand, and no ControlNet with a layout.

    Args:
        scene: with ``masks`` filled in.

    Returns:
        True where ``deal_columns`` is to be asked.
    """
    placed = any(item.box or item.mask or item.point for item in scene.instances)
    return scene.masks == "columns" and 2 <= len(scene.instances) <= MOST and not placed and not scene.controls


def deal_columns(scene: Scene, namings: Sequence[Naming]) -> tuple[Box, ...]:
    """Deal out columns of one width, from left to right in the order of mention.

    Who has a ``position``, or is "on the left" or "on the right" by either prompt, goes to that side of the others.

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
    keys = []
    for index, (item, naming) in enumerate(zip(scene.instances, namings, strict=True)):
        begin, end = find_characters(scene.global_prompt, naming.class_word, count_before(namings, index))
        said = _SIDE.match(scene.global_prompt[end:]) or _SIDE.search(naming.sub_prompt)
        side = item.position or (next(filter(None, said.groups())).casefold() if said else "")
        keys.append((_ORDER.get(side, 1), begin, index))
    width = (_RIGHT - _LEFT) / len(keys)
    boxes: list[Box] = [(0.0, 0.0, 1.0, 1.0)] * len(keys)
    for column, (_, _, index) in enumerate(sorted(keys)):
        x0 = round(_LEFT + column * width, 4)
        boxes[index] = (x0, _TOP, round(x0 + width, 4), _BOTTOM)
    return tuple(boxes)
