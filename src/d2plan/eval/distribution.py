"""How far one set of pictures is from another: Frechet and kernel distances through torchmetrics (extra ``[metrics]``).

torchmetrics' own features are Inception's, which need two further packages and a download; here the features are those
of our encoders, so a number compares only with numbers of the same encoder, never with published FID or KID.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from d2plan.errors import InputError, MissingExtraError
from d2plan.eval.encoders import ImageEncoder

Picture = NDArray[np.uint8]
_BATCH = 16
_BLANK = 32
_MOST_OF_A_SUBSET = 1000
FEWEST = 2


@dataclass(frozen=True)
class Distance:
    """How far two sets are apart.

    Attributes:
        fid: Frechet distance, 0 or more.
        kid: kernel distance, about 0 for sets of one kind; may be a little below 0.
        kid_spread: standard deviation of it over subsets; 0 where each subset is a whole set.
        true_count: pictures of the true set.
        count: of the other one.
        size: of an embedding.
        encoder: who looked.
    """

    fid: float
    kid: float
    kid_spread: float
    true_count: int
    count: int
    size: int
    encoder: str

    @property
    def note(self) -> str | None:
        """What a reader should know; None where there are enough pictures."""
        fewest = min(self.true_count, self.count)
        if fewest > self.size:
            return None
        return (
            f"the Frechet distance of {fewest} pictures with {self.size} features is too large by far and depends on "
            "their number; compare it only between sets of the same size, or read the kernel distance"
        )


class EncoderFeatures(nn.Module):
    """An image encoder in the shape in which torchmetrics takes one.

    Attributes:
        num_features: length of an embedding; torchmetrics asks for it.
    """

    def __init__(self, encoder: ImageEncoder) -> None:
        """Wrap an encoder.

        Args:
            encoder: embeds pictures.
        """
        super().__init__()
        self._encoder = encoder
        self.num_features = int(encoder.embed_images([np.zeros((_BLANK, _BLANK, 3), np.uint8)]).shape[1])

    def forward(self, images: Tensor) -> Tensor:
        """Embed pictures ``[b 3 h w]``, uint8; ``[b d]``, float64 so that sums over many pictures stay exact."""
        rows = self._encoder.embed_images(list(images.permute(0, 2, 3, 1).cpu().numpy()))
        return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float64)).to(images.device)


def measure_distance(
    encoder: ImageEncoder, true_images: Sequence[Picture], images: Sequence[Picture], subsets: int = 100, seed: int = 0
) -> Distance:
    """Measure how far pictures are from true ones; ``fid_clip``, ``kid_clip``, ``fid_dino``, ``kid_dino`` in results.

    Source: FID (Heusel et al., 2017), |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2); KID (Binkowski et al., 2018), the
    unbiased squared MMD under (x.y / d + 1)^3, mean over random subsets of at most 1000.

    Args:
        encoder: a CLIP or a DINO; one that finds nothing in some pictures cannot do it.
        true_images: each ``[h w 3]`` uint8, of any size; at least two.
        images: the same; at least two.
        subsets: of KID; one is enough where a subset is a whole set.
        seed: which pictures are in a subset.

    Returns:
        Both distances.

    Raises:
        InputError: a set has fewer than two pictures, or the encoder is one of faces or figures.
        MissingExtraError: torchmetrics is not installed.
    """
    if encoder.kind not in ("clip", "dino"):
        raise InputError(f"{encoder.name}: finds nothing in some pictures; a distance of sets needs a CLIP or a DINO.")
    for name, pictures in (("the true pictures", true_images), ("the pictures", images)):
        if len(pictures) < FEWEST:
            raise InputError(f"a distance of sets needs {FEWEST} pictures or more; {name} are {len(pictures)}.")
    kernel, frechet = open_metrics()
    features = EncoderFeatures(encoder)
    size = min(len(true_images), len(images), _MOST_OF_A_SUBSET)
    whole = size == len(true_images) == len(images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that KID keeps all features, which is what we want
        fid = frechet.FrechetInceptionDistance(feature=_Keep(features.num_features))
        kid = kernel.KernelInceptionDistance(
            feature=_Keep(features.num_features), subsets=1 if whole else subsets, subset_size=size
        )
        for pictures, real in ((true_images, True), (images, False)):
            for batch in _batches(pictures):
                rows = features(batch)
                fid.update(rows, real=real)
                kid.update(rows, real=real)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            mean, spread = kid.compute()
    return Distance(
        max(float(fid.compute()), 0.0),
        float(mean),
        0.0 if whole else float(spread),
        len(true_images),
        len(images),
        features.num_features,
        encoder.source,
    )


def open_metrics() -> tuple[ModuleType, ModuleType]:
    """Import what computes both distances; who has much to do before asks for it first.

    Returns:
        torchmetrics' modules of the kernel distance and of the Frechet distance.

    Raises:
        MissingExtraError: torchmetrics is not installed.
    """
    try:
        return import_module("torchmetrics.image.kid"), import_module("torchmetrics.image.fid")
    except ImportError as error:
        raise MissingExtraError("FID and KID need torchmetrics; pip install 'd2plan[metrics]'.") from error


class _Keep(nn.Module):
    """Takes features for pictures, so that both distances share one look at each picture."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = size

    def forward(self, rows: Tensor) -> Tensor:
        return rows


def _batches(pictures: Sequence[Picture]) -> Iterator[Tensor]:
    """Stack neighbours of one size, ``[b 3 h w]``."""
    for _, alike in groupby(pictures, key=lambda picture: picture.shape):
        group = list(alike)
        for start in range(0, len(group), _BATCH):
            yield torch.from_numpy(np.stack(group[start : start + _BATCH])).permute(0, 3, 1, 2)
