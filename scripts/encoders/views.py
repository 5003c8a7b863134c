"""Views of one picture of one instance: turned, bent, covered in parts, before other places; and its double.

Each view and each double is made from one picture, and no label is used.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_WHITE, _OTHER = 0.2, 0.5  # shares of views before white, and before another place; the rest keeps its own
_BOXED = 0.6
_COVERED = 0.3
_NEAR, _REACH = 0.15, 0.1
_OWN, _EVERYWHERE, _LEVELS = 0.3, 0.55, 6


class Views:
    """Makes views; what is random comes from one generator."""

    def __init__(self, backdrops: Tensor, seed: int) -> None:
        """Begin.

        Args:
            backdrops: ``[n 3 h w]`` 0..1, places without anybody.
            seed: of everything random.
        """
        self.backdrops = backdrops
        self.generator = torch.Generator(backdrops.device).manual_seed(seed)

    def reseed(self, seed: int) -> None:
        """Begin anew from a seed."""
        self.generator.manual_seed(seed)

    def _uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=self.generator, device=self.backdrops.device)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.backdrops.device)

    def __call__(self, cutouts: Tensor) -> Tensor:
        """Make one view of each.

        Args:
            cutouts: ``[n 4 h w]`` 0..1, the mask last.

        Returns:
            ``[n 3 h w]`` -1..1.
        """
        count = len(cutouts)
        turned = functional.grid_sample(
            torch.cat([cutouts[:, :3] - 1, cutouts[:, 3:]], 1), self._grid(cutouts), align_corners=False
        )
        picture, mask = turned[:, :3] + 1, turned[:, 3:].clamp(0, 1)
        chance = self._uniform(count)[:, None, None, None]
        behind = self._places(count, cutouts.shape[-1])
        behind = torch.where(chance < _WHITE, torch.ones_like(behind), behind)
        replaced = mask * picture + (1 - mask) * behind
        picture = torch.where(chance < _WHITE + _OTHER, replaced, picture)
        picture = self._cover(picture)
        boxed = self._uniform(count)[:, None, None, None] < _BOXED
        picture = torch.where(boxed & ~self._box(mask), torch.ones_like(picture), picture)
        gain, shift = 1 + 0.04 * self._normal(count, 3, 1, 1), 0.02 * self._normal(count, 3, 1, 1)
        noise = 0.03 * self._uniform(count, 1, 1, 1) * self._normal(*picture.shape)
        return ((picture * gain + shift + noise).clamp(0, 1) - 0.5) * 2

    def _grid(self, cutouts: Tensor) -> Tensor:
        """Turn, mirror, stretch, move and bend; the square around an instance with its margin is 1.3 times its box."""
        count = len(cutouts)
        zoom = torch.exp(self._uniform(count, low=-0.35, high=0.3))
        wide = zoom * torch.exp(0.06 * self._normal(count))
        high = zoom * torch.exp(0.06 * self._normal(count))
        angle, shear = 0.15 * self._normal(count), 0.06 * self._normal(count)
        side = torch.where(self._uniform(count) < 0.5, -1.0, 1.0)
        rows = torch.stack([angle.cos() * wide * side, (shear - angle.sin()) * high], 1)
        columns = torch.stack([angle.sin() * wide * side, angle.cos() * high], 1)
        matrix = torch.stack([rows, columns], 1)
        # The grid goes from the view to the cutout: zoomed in by 1.3 the box fills the view.
        shift = 0.12 * self._normal(count, 2)
        theta = torch.cat([matrix / 1.15, shift[..., None]], 2)
        grid = functional.affine_grid(theta, list(cutouts[:, :3].shape), align_corners=False)
        bend = 0.02 * self._normal(count, 2, 4, 4)
        bend = functional.interpolate(bend, cutouts.shape[-2:], mode="bicubic", align_corners=True)
        return grid + bend.permute(0, 2, 3, 1)

    def _places(self, count: int, size: int) -> Tensor:
        """Cut pieces of backdrops."""
        chosen = torch.randint(len(self.backdrops), (count,), generator=self.generator, device=self.backdrops.device)
        scale = self._uniform(count, low=0.4, high=1.0)
        side = torch.where(self._uniform(count) < 0.5, -1.0, 1.0)
        room = (1 - scale)[:, None]
        shift = room * self._uniform(count, 2, low=-1.0, high=1.0)
        theta = torch.diag_embed(torch.stack([scale * side, scale], 1))
        theta = torch.cat([theta, shift[..., None]], 2)
        grid = functional.affine_grid(theta, [count, 3, size, size], align_corners=False)
        return functional.grid_sample(self.backdrops[chosen], grid, align_corners=False, padding_mode="border")

    def _cover(self, picture: Tensor) -> Tensor:
        """Put one or two plain shapes of any colour over some pictures: what is worn today is not who one is."""
        count, size = len(picture), picture.shape[-1]
        axis = torch.linspace(-1, 1, size, device=picture.device)
        for _ in range(2):
            chosen = self._uniform(count)[:, None, None, None] < _COVERED
            middle = self._uniform(count, 2, low=-0.8, high=0.8)
            reach = self._uniform(count, 2, low=0.06, high=0.3)
            across = ((axis[None] - middle[:, :1]) / reach[:, :1])[:, None, None]
            down = ((axis[None] - middle[:, 1:]) / reach[:, 1:])[:, None, :, None]
            round_shape = across.square() + down.square() < 1
            straight = (across.abs() < 1) & (down.abs() < 1)
            shape = torch.where(self._uniform(count)[:, None, None, None] < 0.5, round_shape, straight)
            colour = self._uniform(count, 3)[:, :, None, None]
            picture = torch.where(chosen & shape, colour, picture)
        return picture

    def _box(self, mask: Tensor) -> Tensor:
        """Say which pixels lie in the tight box around a mask, a little moved, ``[n 1 h w]`` bool."""
        inside = mask > 0.5
        edge = self._uniform(len(mask), 4, low=-0.04, high=0.06) * mask.shape[-1]
        marks = torch.arange(mask.shape[-1], device=mask.device, dtype=torch.float32)
        spans = []
        for axis, part in ((2, 0), (3, 2)):
            there = inside.any(axis)[:, 0]  # columns, then rows
            first = torch.where(there, marks, torch.inf).amin(1) - edge[:, part]
            last = torch.where(there, marks, -torch.inf).amax(1) + edge[:, part + 1]
            spans.append((marks >= first[:, None]) & (marks <= last[:, None]))
        return (spans[0][:, None, :] & spans[1][:, :, None])[:, None]

    def double(self, cutouts: Tensor) -> Tensor:
        """Give each cutout's double: one of its colours is another one, all over, in stripes or dots, or in a part.

        The other colour is any one, or one that the instance has elsewhere: so patterns come and go, and parts change
        their shape.

        Args:
            cutouts: ``[n 4 h w]`` 0..1, the mask last.

        Returns:
            The same form.
        """
        colours, mask = cutouts[:, :3], cutouts[:, 3:]
        picked = torch.multinomial(self._rareness(cutouts), 2, generator=self.generator)
        own, elsewhere = (self._at(colours, picked[:, number]) for number in range(2))
        wanted = self._uniform(len(cutouts)) < _OWN
        goal = torch.where(wanted[:, None], elsewhere, own)
        for _ in range(6):
            close = (goal - own).square().mean(1).sqrt() < _NEAR
            goal = torch.where(close[:, None], self._uniform(len(cutouts), 3), goal)
        distance = (colours - own[:, :, None, None]).square().mean(1, keepdim=True).sqrt()
        weight = torch.exp(-((distance / _REACH) ** 2)) * mask * self._texture(cutouts, picked[:, 0])
        changed = (colours + weight * (goal - own)[:, :, None, None]).clamp(0, 1)
        return torch.cat([changed, mask], 1)

    @staticmethod
    def _at(colours: Tensor, place: Tensor) -> Tensor:
        return colours.flatten(2).gather(2, place[:, None, None].expand(-1, 3, -1))[..., 0]

    @staticmethod
    def _rareness(cutouts: Tensor) -> Tensor:
        """Weigh an instance's pixels so that a colour is picked by the root of how much there is of it, ``[n h*w]``."""
        levels = (cutouts[:, :3] * (_LEVELS - 1)).round().long().flatten(2)
        bins = (levels[:, 0] * _LEVELS + levels[:, 1]) * _LEVELS + levels[:, 2]
        inside = (cutouts[:, 3].flatten(1) > 0.9).float()
        counts = torch.zeros(len(cutouts), _LEVELS**3, device=cutouts.device).scatter_add_(1, bins, inside)
        return inside / counts.gather(1, bins).clamp(min=1).sqrt() + 1e-6

    def _texture(self, cutouts: Tensor, middle: Tensor) -> Tensor:
        """Say where a double differs: everywhere, in stripes, in dots, or on one side of a place, ``[n 1 h w]``."""
        count, (high, wide) = len(cutouts), cutouts.shape[-2:]
        down = torch.arange(high, device=cutouts.device, dtype=torch.float32)[None, :, None]
        across = torch.arange(wide, device=cutouts.device, dtype=torch.float32)[None, None, :]
        down = down - torch.div(middle, wide, rounding_mode="floor")[:, None, None]
        across = across - (middle % wide)[:, None, None]
        angle, length = self._uniform(count, high=2 * torch.pi), self._uniform(count, low=0.05, high=0.16) * wide
        along = across * angle.cos()[:, None, None] + down * angle.sin()[:, None, None]
        beside = down * angle.cos()[:, None, None] - across * angle.sin()[:, None, None]
        wave, other = (torch.cos(2 * torch.pi * one / length[:, None, None]) for one in (along, beside))
        kind = self._uniform(count)[:, None, None]
        everywhere, stripes, dots = (kind < share for share in (_EVERYWHERE, _EVERYWHERE + 0.15, _EVERYWHERE + 0.3))
        there = torch.where(stripes, wave > 0, torch.where(dots, wave + other > 0.6, along > -1))
        return (there | everywhere)[:, None].float()
