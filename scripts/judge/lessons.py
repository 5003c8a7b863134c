"""Batches and losses of the judge's four networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from augment import Weather, from_bytes
from data import IN_GROUP, LEAST_PIXELS, MOST, Scenes, factor_targets, group_identities
from torch import Tensor, nn
from torch.nn import functional

from d2plan.eval.grouping import group_instances
from d2plan.eval.judge import shrink_whole
from d2plan.eval.networks import (
    CELL,
    EMBEDDING,
    HEADS,
    OFFSET_UNIT,
    SEGMENT_LABELS,
    WHOLE_HEADS,
    Networks,
    crop_instances,
    hide_background,
    run_segmenter,
    split_heads,
)
from d2plan.world.cast import CLASSES, SPECIES
from d2plan.world.identity import Identity

# What a step was worth, and in parts, all of it still on the device.
Loss = Callable[[int], tuple[Tensor, dict[str, Tensor]]]
_SPREAD = 1.6
_SEEN_SHARE = 0.75
_SCALE, _MARGIN = 16.0, 0.2
_CLASSES_AT_ONCE = 4


class Pool:
    """Labelled pictures on the device, so that a batch is an index, and where their instances are.

    20,000 pictures with their owners take 1.3 GB.
    """

    def __init__(
        self, scenes: Scenes, batch: int, seen: np.ndarray | None = None, device: torch.device | None = None
    ) -> None:
        """List the instances that can be seen; seen ``[n 4 h w]`` bool are the segmenter's masks of them, in cells."""
        self.scenes, self.batch, self.device = scenes, batch, device or torch.device("cpu")
        self.images, self.owners = (torch.from_numpy(one).to(self.device) for one in (scenes.images, scenes.owners))
        self.seen = None if seen is None else torch.from_numpy(seen).to(self.device)
        counts = torch.stack([(self.owners == number + 1).sum((1, 2)) for number in range(MOST)], 1).cpu().numpy()
        self.instances = np.argwhere((counts >= LEAST_PIXELS) & (scenes.labels[:, :, 0] >= 0))

    def put(self, values: np.ndarray) -> Tensor:
        """Bring an array to the device, integers as int64."""
        tensor = torch.from_numpy(values)
        floating = tensor.dtype.is_floating_point or tensor.dtype == torch.bool
        return (tensor if floating else tensor.long()).to(self.device)

    def pictures(self, rng: np.random.Generator, chosen: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Give pictures ``[b 3 h w]`` -1..1, owners ``[b h w]`` and which are mirrored ``[b]``."""
        mirrored, rows = self.put(rng.random(len(chosen)) < 0.5), self.put(chosen)
        images, owners = self.images[rows], self.owners[rows]
        images = torch.where(mirrored[:, None, None, None], images.flip(2), images)
        owners = torch.where(mirrored[:, None, None], owners.flip(2), owners)
        return images.permute(0, 3, 1, 2).float().div(127.5).sub(1), owners, mirrored


def bounds(inside: Tensor) -> Tensor:
    """Give boxes x0, y0, x1, y1 ``[n 4]`` around what is set in ``[n h w]`` bool, in its own pixels."""
    rows, columns = inside.any(2).float(), inside.any(1).float()
    first_y, first_x = rows.argmax(1), columns.argmax(1)
    last_y, last_x = rows.shape[1] - rows.flip(1).argmax(1), columns.shape[1] - columns.flip(1).argmax(1)
    return torch.stack([first_x, first_y, last_x, last_y], 1).float()


def rough_masks(
    owners: Tensor, numbers: Tensor, rng: np.random.Generator, seen: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Make masks as coarse as the segmenter's, with errors at the edge; and their boxes.

    Args:
        owners: ``[n h w]``.
        numbers: ``[n]``, whose mask, from 1.
        rng: source of randomness.
        seen: ``[n 1 h/4 w/4]`` bool, the segmenter's own masks, which most of the time stand for the true ones; one
            that is empty does not.

    Returns:
        Masks ``[n h w]`` 0..1 and boxes ``[n 4]`` pixels.
    """

    def put(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(owners.device)

    exact = (owners == numbers[:, None, None]).float()[:, None]
    share = functional.avg_pool2d(exact, CELL)
    wobble = put(rng.normal(0, 0.16, share.shape))
    cells = (share + wobble > put(rng.uniform(0.3, 0.7, (len(share), 1, 1, 1)))) & (
        functional.max_pool2d(share, 3, 1, 1) > 0.1
    )
    if seen is not None:
        taken = (put(rng.random(len(cells))) < _SEEN_SHARE) & seen.flatten(1).any(1)
        cells = torch.where(taken[:, None, None, None], seen, cells)
    empty = ~cells.flatten(1).any(1)
    cells = torch.where(empty[:, None, None, None], share >= share.amax((1, 2, 3), keepdim=True), cells)
    masks = functional.interpolate(cells.float(), scale_factor=CELL, mode="bilinear")[:, 0]
    return masks, bounds(cells[:, 0]) * CELL + put(rng.normal(0, 1.0, (len(cells), 4)))


@torch.no_grad()
def segment_all(segmenter: nn.Module, images: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Give the segmenter's masks ``[n 4 h/4 w/4]`` bool of the true figures; all False where it misses one."""
    count, height, width = owners.shape
    found = np.zeros((count, MOST, height // CELL, width // CELL), bool)
    for start in range(0, count, 25):
        dense = run_segmenter(segmenter, from_bytes(images[start : start + 25]).to(segmenter.device)).float().cpu()
        for place, output in enumerate(dense, start):
            cells = owners[place, CELL // 2 :: CELL, CELL // 2 :: CELL]
            for part in group_instances(output):
                mask = functional.avg_pool2d(part.mask[None], CELL)[0].numpy() > 0.5
                shares = [(mask & (cells == n + 1)).sum() / (mask | (cells == n + 1)).sum() for n in range(MOST)]
                best = int(np.argmax(shares))
                if shares[best] > 0.2 and not found[place, best].any():
                    found[place, best] = mask
    return found


def dense_targets(owners: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Make the segmenter's targets.

    Args:
        owners: ``[b h w]``.
        classes: ``[b 4]``, -1 where there is none.

    Returns:
        Class of each cell ``[b h w]``, map of centres ``[b h w]``, and offsets to the own centre ``[b 2 h w]`` in
        units of OFFSET_UNIT cells.
    """
    shares = torch.stack([functional.avg_pool2d((owners == n + 1).float(), CELL) for n in range(MOST)], 1)
    top, owner = shares.max(1)
    inside = (top >= 1 - shares.sum(1)) & (top > 0)
    labels = torch.where(inside, classes.gather(1, owner.flatten(1)).view_as(owner) + 1, 0).clamp(min=0)
    height, width = owner.shape[1:]
    rows = torch.arange(height, device=top.device).float()[:, None]
    columns = torch.arange(width, device=top.device).float()[None]
    weight = shares.sum((2, 3)).clamp(min=1e-6)
    middle_y = (shares * rows).sum((2, 3)) / weight
    middle_x = (shares * columns).sum((2, 3)) / weight
    gap = (rows - middle_y[..., None, None]) ** 2 + (columns - middle_x[..., None, None]) ** 2
    there = (shares.sum((2, 3)) * CELL**2 >= LEAST_PIXELS) & (classes >= 0)
    heat = (torch.exp(-gap / (2 * _SPREAD**2)) * there[..., None, None]).amax(1)
    own_y = middle_y.gather(1, owner.flatten(1)).view_as(top)
    own_x = middle_x.gather(1, owner.flatten(1)).view_as(top)
    return labels, heat, torch.stack([own_y - rows, own_x - columns], 1) / OFFSET_UNIT


def segmenter_loss(networks: Networks, pool: Pool) -> Loss:
    """Instance or not and its class by cross-entropy, centres by squares, offsets by absolute values."""

    def step(number: int) -> tuple[Tensor, dict[str, Tensor]]:
        rng = np.random.default_rng([1, number])
        chosen = rng.integers(len(pool.scenes.images), size=pool.batch)
        images, owners, _ = pool.pictures(rng, chosen)
        classes = pool.put(pool.scenes.labels[chosen, :, 0])
        labels, heat, offsets = dense_targets(owners, classes)
        seen = Weather(number, pool.device)(images).contiguous(memory_format=torch.channels_last)
        dense = run_segmenter(networks.segmenter, seen).float()
        count = len(SEGMENT_LABELS)
        inside = (labels > 0).float()
        thing = dense[:, 1:count].logsumexp(1) - dense[:, 0]
        ground = functional.binary_cross_entropy_with_logits(thing, inside)
        # Averaged over instances alone: among the background's many cells the classes would be learnt last.
        kinds = functional.cross_entropy(dense[:, 1:count], labels - 1, ignore_index=-1)
        centre = ((dense[:, count] - heat) ** 2 * (1 + 8 * heat)).mean()
        offset = ((dense[:, count + 1 :] - offsets).abs().sum(1) * inside).sum() / inside.sum().clamp(min=1)
        right = ((dense[:, 1:count].argmax(1) == labels - 1).float() * inside).sum() / inside.sum().clamp(min=1)
        parts = {"ground": ground, "kinds": kinds, "right": right, "centre": centre, "offset": offset}
        return 2 * ground + kinds + 6 * centre + 0.5 * offset, parts

    return step


def instance_crops(pool: Pool, chosen: np.ndarray, number: int) -> tuple[Tensor, Tensor]:
    """Give crops ``[b 4 96 96]`` and labels ``[b 4]`` of instances (picture, figure)."""
    rng = np.random.default_rng([2, number])
    images, owners, mirrored = pool.pictures(rng, chosen[:, 0])
    seen = None
    if pool.seen is not None:
        cells = pool.seen[pool.put(chosen[:, 0]), pool.put(chosen[:, 1])]
        seen = torch.where(mirrored[:, None, None], cells.flip(2), cells)[:, None]
    masks, boxes = rough_masks(owners, pool.put(chosen[:, 1]) + 1, rng, seen)
    labels = pool.put(pool.scenes.labels[chosen[:, 0], chosen[:, 1]])
    return crop_instances(Weather(number, pool.device)(images), masks, boxes), labels


def attributes_loss(networks: Networks, pool: Pool) -> Loss:
    """Cross-entropy of each head; colours only where something is worn."""

    def step(number: int) -> tuple[Tensor, dict[str, Tensor]]:
        rng = np.random.default_rng([3, number])
        chosen = pool.instances[rng.integers(len(pool.instances), size=pool.batch)]
        # Half of all figures wear nothing; here two thirds wear something.
        bare = pool.scenes.labels[chosen[:, 0], chosen[:, 1], 1] == 0
        again = pool.instances[rng.integers(len(pool.instances), size=pool.batch)]
        swap = bare & (rng.random(pool.batch) < 0.67)
        chosen[swap] = again[swap]
        crops, labels = instance_crops(pool, chosen, number)
        logits = networks.attributes(crops.contiguous(memory_format=torch.channels_last)).logits.float()
        total, parts = logits.new_zeros(()), {}
        for place, (name, part) in enumerate(split_heads(logits, HEADS).items()):
            # Small as it is in a picture, an accessory is learnt last; it counts double.
            weight = 2.0 if name == "accessory" else 1.0
            total = total + weight * functional.cross_entropy(part, labels[:, place], ignore_index=-1)
            right = (part.argmax(1) == labels[:, place]).float().sum()
            parts[name] = right / (labels[:, place] >= 0).sum().clamp(min=1)
        return total, parts

    return step


def place_loss(networks: Networks, pool: Pool) -> Loss:
    """Cross-entropy of place and light."""

    def step(number: int) -> tuple[Tensor, dict[str, Tensor]]:
        rng = np.random.default_rng([4, number])
        chosen = rng.integers(len(pool.scenes.images), size=pool.batch)
        images, _, _ = pool.pictures(rng, chosen)
        small = shrink_whole(Weather(number, pool.device)(images)).contiguous(memory_format=torch.channels_last)
        labels = pool.put(pool.scenes.whole[chosen])
        logits = networks.place(small).logits.float()
        total, parts = logits.new_zeros(()), {}
        for place, (name, part) in enumerate(split_heads(logits, WHOLE_HEADS).items()):
            total = total + functional.cross_entropy(part, labels[:, place])
            parts[name] = (part.argmax(1) == labels[:, place]).float().mean()
        return total, parts

    return step


class ArcMargin(nn.Module):
    """The additive angular margin, and what makes each identity (an auxiliary task).

    Source: ArcFace (Deng et al. 2019), eq. 3. The direction of an identity is its other view in the batch instead of a
    learnt row: so look-alikes compete at once, and identities may be countless. The auxiliary task reads the factors
    from the unit vector, which teaches what matters long before directions have parted.
    """

    def __init__(self, count: int, stream: str = "judge") -> None:
        """Hold the factors of all identities."""
        super().__init__()
        # Without it all features share one large direction and the angles between them hardly learn; it is folded into
        # the last layer afterwards (fold_spread).
        self.spread = nn.BatchNorm1d(EMBEDDING, affine=False)
        identities = [one for group in range(count // IN_GROUP) for one in group_identities(stream, group)]
        targets, weights = zip(*(flat_targets(one) for one in identities), strict=True)
        # Made anew from the stream each time, so no part of a checkpoint.
        for name, values in (
            ("classes", np.array([CLASSES.index(one.class_word) for one in identities])),
            ("targets", np.stack(targets)),
            ("weights", np.stack(weights)),
        ):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)
        self.reader = nn.Linear(EMBEDDING, self.targets.shape[1])
        middle = (self.targets * self.weights).sum(0) / self.weights.sum(0).clamp(min=1e-6)
        self.reader.bias.data.copy_(middle)

    def forward(self, features: Tensor, numbers: Tensor, strength: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Give the loss of embeddings ``[b 64]`` of identities ``[b]``; strength 0..1 of the margin."""
        units = functional.normalize(self.spread(features), dim=1)
        weight = self.weights[numbers]
        factors = ((self.reader(units * 8) - self.targets[numbers]) ** 2 * weight).sum() / weight.sum()
        cosines = units @ units.T
        itself = torch.eye(len(units), dtype=torch.bool, device=units.device)
        same = (numbers[:, None] == numbers[None]) & ~itself
        # Only identities of the same class compete: the class is known before a character is looked up.
        rival = (self.classes[numbers][:, None] == self.classes[numbers][None]) & ~same & ~itself
        paired = same.any(1)
        own = cosines.gather(1, same.float().argmax(1, keepdim=True)).clamp(-1 + 1e-6, 1 - 1e-6)
        rivals = cosines.masked_fill(~rival, -1.0)
        logits = torch.cat([(own.acos() + strength * _MARGIN).cos(), rivals], 1) * _SCALE
        # One without a second view has nothing to be compared with: -1 is what cross-entropy leaves out.
        arc = functional.cross_entropy(logits, paired.long() - 1, ignore_index=-1)
        near = rivals.masked_fill(numbers[:, None] // IN_GROUP != numbers[None] // IN_GROUP, -1.0)
        share = paired.float() / paired.sum().clamp(min=1)
        parts = {"arc": arc, "factors": factors, "first": ((own[:, 0] > rivals.amax(1)) * share).sum()}
        parts["first_near"] = ((own[:, 0] > near.amax(1)) * share).sum()
        return arc + 40 * factors, parts


@torch.no_grad()
def fold_spread(last: nn.Linear, mean: Tensor, variance: Tensor) -> None:
    """Make the last layer give what the spread after it gave, so that the network stands alone."""
    scale = (variance + 1e-5).rsqrt()
    last.weight.mul_(scale[:, None])
    last.bias.sub_(mean).mul_(scale)


def flat_targets(identity: Identity) -> tuple[np.ndarray, np.ndarray]:
    """Lay the factors of an identity into the row of its class, and weigh what belongs to it."""
    row, weight = [], []
    own = factor_targets(identity)
    for class_word, species in SPECIES.items():
        for factor in species.factors:
            size = len(factor.options) if factor.kind == "choice" else 1 if factor.kind == "range" else 3
            mine = class_word == identity.class_word
            row.append(own[factor.name] if mine else np.zeros(size, np.float32))
            weight.append(np.full(size, factor.weight / size if mine else 0.0, np.float32))
    return np.concatenate(row), np.concatenate(weight)


def identity_loss(networks: Networks, pool: Pool, margin: ArcMargin) -> Loss:
    """A batch holds some classes, of each some trios of look-alikes, and two views of each character."""
    views: dict[int, list[np.ndarray]] = {}
    for row in pool.instances:
        views.setdefault(int(pool.scenes.identities[row[0], row[1]]), []).append(row)
    count = int(pool.scenes.identities.max() + 1) // IN_GROUP // len(CLASSES)

    def step(number: int) -> tuple[Tensor, dict[str, Tensor]]:
        rng = np.random.default_rng([5, number])
        rows: list[np.ndarray] = []
        trios = min(count, pool.batch // (_CLASSES_AT_ONCE * IN_GROUP * 2))
        for kind in rng.choice(len(CLASSES), _CLASSES_AT_ONCE, replace=False):
            for turn in rng.choice(count, trios, replace=False):
                group = int(turn) * len(CLASSES) + int(kind)
                for identity in range(group * IN_GROUP, (group + 1) * IN_GROUP):
                    known = views.get(identity, [])
                    rows += [known[int(place)] for place in rng.permutation(len(known))[:2]]
        chosen = np.stack(rows)
        crops, _ = instance_crops(pool, chosen, number)
        numbers = pool.put(pool.scenes.identities[chosen[:, 0], chosen[:, 1]])
        inputs = hide_background(crops).contiguous(memory_format=torch.channels_last)
        return margin(networks.identity(inputs).logits.float(), numbers, min(1.0, number / 400))

    return step
