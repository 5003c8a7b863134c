"""What masks are: a partition of the picture by construction, and the account of how each mask was found."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from d2plan.shapes import check_shape

_LONGEST_NAME = 40


@dataclass(frozen=True)
class Partition:
    """Masks that share out every pixel; made by ``make_partition`` alone.

    Attributes:
        masks: M_0 (the background), then M_1..M_m, ``[m+1, h, w]``, 0..1, their sum is 1 everywhere.
    """

    masks: Tensor

    @property
    def areas(self) -> tuple[float, ...]:
        """The part of the picture that each instance has, 0..1."""
        return tuple(self.masks[1:].mean(dim=(1, 2)).tolist())


@dataclass(frozen=True)
class MaskResult:
    """Masks and how they were found.

    Attributes:
        partition: the masks.
        routes: per instance: "mask" (its image), "box", "column" (a box that was dealt to it), "detect" (a detector's
            find), "attention" (its class's own area), "pieces" (one connected piece of an area that several of a class
            share), "clusters" (a part of such an area, cut where it holds together least), "point" (a disc around its
            point, nothing was found there), "position" (nothing was attended to: the third of the picture that its
            position names), or "empty".
        confidences: per instance, how sure its route is, 0..1.
        notes: sentences for the reader of the result.
        names: per instance, its class word and, where several share it, its number: fit for a file's name.
    """

    partition: Partition
    routes: tuple[str, ...]
    confidences: tuple[float, ...]
    notes: tuple[str, ...]
    names: tuple[str, ...] = ()

    @property
    def empty(self) -> tuple[int, ...]:
        """The instances without an area, by index."""
        return tuple(index for index, route in enumerate(self.routes) if route == "empty")

    @property
    def route(self) -> str:
        """All routes that were used, each once, joined by "+"; "none" without instances."""
        return "+".join(dict.fromkeys(self.routes)) or "none"

    @property
    def confidence(self) -> float:
        """That of the least sure instance; 1 without instances."""
        return min(self.confidences, default=1.0)


def make_partition(areas: Tensor) -> Partition:
    """Turn any areas into masks that share out every pixel: disjoint where they were, sharing where they overlap.

    Paper: M_0 = 1 - sum_i M_i of eq. (9), with M_0 >= 0 held by construction.

    Args:
        areas: how much of each pixel each instance claims, ``[m, h, w]``; what is not a number counts as 0.

    Returns:
        The partition, ``[m+1, h, w]``.
    """
    check_shape(areas, "m h w", "areas")
    claims = torch.nan_to_num(areas.double(), nan=0.0, posinf=1.0, neginf=0.0).clamp(0, 1)
    claims = claims / claims.sum(dim=0, keepdim=True).clamp(min=1)
    background = (1 - claims.sum(dim=0, keepdim=True)).clamp(min=0)
    return Partition(torch.cat([background, claims]).float())


def name_instances(class_words: Sequence[str]) -> tuple[str, ...]:
    """Name the instances of a picture, each by a name of its own that a file can have.

    >>> name_instances(["man", "dog", "Man", "teddy bear"])
    ('man-1', 'dog', 'man-2', 'teddy-bear')

    Args:
        class_words: one an instance, in the order of mention.

    Returns:
        A name for each: letters, digits and dashes alone.
    """
    plain = [re.sub(r"[\W_]+", "-", word.casefold()).strip("-")[:_LONGEST_NAME] or "instance" for word in class_words]
    total = Counter(plain)
    names: list[str] = []
    for word in plain:
        numbered = (f"{word}-{number}" for number in itertools.count(1))
        choices = numbered if total[word] > 1 else itertools.chain([word], numbered)
        names.append(next(name for name in choices if name not in names))
    return tuple(names)
