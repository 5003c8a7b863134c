"""A picture that its variants keep, but for the instances that they change."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from d2plan.isp.partition import MaskResult, make_partition
from d2plan.isp.prepare import PreparedScene, find_changed
from d2plan.isp.regions import smooth_map, split_by_otsu

# How far beyond its mask what changes may reach, as a part of the picture's shorter side: hats and raised arms.
_REACH = 1 / 16
_LEAST_STAYING = 0.5  # of an area found anew, that lies in the old one
_BLUR = 1 / 45  # standard deviation, of the shorter side: single cells say nothing of a figure


@dataclass(frozen=True, eq=False)
class KeptPicture:
    """A picture with the way to it; made by ``keep``, used up by nobody.

    Attributes:
        prepared: the scene that it was made of.
        trajectory: its latents after each U-Net call, ``[calls, c, h, w]``; 4 MB at 1024 px and 30 steps in float16.
        masks: M_0..M_m and how they were found.
        unet_calls: that it took.
        unet_rows: that it took.
    """

    prepared: PreparedScene
    trajectory: Tensor
    masks: MaskResult
    unet_calls: int
    unet_rows: int


def list_changed(scene: PreparedScene, kept: PreparedScene) -> tuple[bool, ...]:
    """Say of each instance whether a variant changes it, as ``find_changed`` does."""
    return find_changed(scene.scene, scene.adapters, kept)


def is_changed(scene: PreparedScene, kept: PreparedScene) -> bool:
    """Say whether a variant changes anything at all."""
    return any(list_changed(scene, kept))


def join_masks(own: MaskResult, kept: MaskResult, changed: Sequence[bool]) -> MaskResult:
    """Give what changes the room that it had and the room that it takes, and leave to the others theirs.

    Args:
        own: masks found in the variant.
        kept: those of the picture that stays.
        changed: by instance.

    Returns:
        A partition: the kept mask of each unchanged instance; of each changed one the kept and its own together,
        where no unchanged one stands. Routes and notes of each are those of the masks that it was found in.
    """
    moving = torch.tensor(changed, dtype=torch.bool)
    mine, was = own.partition.masks[1:], kept.partition.masks[1:].to(own.partition.masks)
    # A layout that came out the other way round says nothing of the room that a new pose takes.
    stays = (mine * was).sum(dim=(1, 2)) >= _LEAST_STAYING * mine.sum(dim=(1, 2))
    stays |= was.sum(dim=(1, 2)) == 0
    mine = mine * stays[:, None, None]
    free = 1 - was[~moving].sum(dim=0)
    taken = mine[moving].sum(dim=0)
    areas = was.clone()
    areas[moving] = (mine[moving] + was[moving] * (1 - taken)) * free
    # One that was found in one of both only is found, as far as others leave it room there.
    seen = [own.routes[place] != "empty" for place in range(len(changed))]
    told = zip(changed, seen, stays.tolist(), areas.flatten(1).any(dim=1).tolist(), strict=True)
    pick = [own if all(one) else kept for one in told]
    unseen = [place for place, new in enumerate(changed) if new and not seen[place] and kept.routes[place] != "empty"]
    return replace(
        kept,
        partition=make_partition(areas),
        routes=tuple(one.routes[place] for place, one in enumerate(pick)),
        confidences=tuple(one.confidences[place] for place, one in enumerate(pick)),
        notes=_join_notes(own, kept, pick, unseen),
    )


def _join_notes(
    own: MaskResult, kept: MaskResult, pick: Sequence[MaskResult], unseen: Sequence[int]
) -> tuple[str, ...]:
    """Keep of each instance what the masks that it was found in tell of it, and what both tell of no instance."""
    notes: dict[str, None] = {}
    for source in (kept, own):
        others = tuple(f"instances[{place}] " for place, one in enumerate(pick) if one is not source)
        notes |= dict.fromkeys(note for note in source.notes if not note.startswith(others))
    said = "nothing of it was found in the variant, so it has the room that it had in the picture that stays."
    return (*notes, *(f"instances[{place}]: {said}" for place in unseen))


def find_room(masks: MaskResult, changed: Sequence[bool]) -> Tensor:
    """Weigh where a variant draws itself; everywhere else the kept picture stays.

    A hard edge between the two shows as stripes where a new pose meets a neighbour, so the weight falls as the
    neighbour's own mask rises.

    Args:
        masks: from ``join_masks``.
        changed: by instance.

    Returns:
        ``[h, w]``, 0..1: 1 in the changed instances' masks, widened; less by what unchanged ones have of a cell.
    """
    moving = torch.tensor(changed, dtype=torch.bool)
    areas = masks.partition.masks[1:]
    claimed = areas[moving].sum(dim=0) > 0
    radius = round(_REACH * min(claimed.shape))
    wide = max_pool2d(claimed[None].float(), 2 * radius + 1, 1, radius)[0]
    return wide * (1 - areas[~moving].sum(dim=0).clamp(max=1))


def narrow_room(room: Tensor, areas: Tensor, latents: Tensor, kept: Tensor) -> Tensor:
    """Take from a variant's room what comes out alike in it, once its pose has settled.

    A column or a box holds the scene behind its figure too, and a mask found early is a guess at where the figure will
    be. What really becomes another thing shows in the latents: both pictures come from one noise.

    Args:
        room: from ``find_room``, ``[h, w]``.
        areas: masks of the instances that change, ``[n, h, w]``: what is much for one may be little beside another.
        latents: the variant's after some U-Net call, ``[c, h, w]``.
        kept: the kept picture's after the same.

    Returns:
        ``[h, w]``, nowhere more than the room; the room itself where nothing differs yet.
    """
    rounds = max(1, round(2 * (_BLUR * min(room.shape)) ** 2))
    gap = smooth_map((latents - kept).float().abs().mean(dim=0, keepdim=True), rounds)[0] * room
    own = [one for area in areas if (one := gap * (area > 0)).any()]
    if not own:
        return room
    least = min(split_by_otsu(one / one.max())[0] * float(one.max()) for one in own)
    radius = round(_REACH * min(room.shape))
    wide = max_pool2d((gap >= least)[None].float(), 2 * radius + 1, 1, radius)
    return room * smooth_map(wide, rounds)[0].to(room)
