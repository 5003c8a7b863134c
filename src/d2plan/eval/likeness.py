"""How much an instance of a picture is like a concept's own pictures: one protocol for any encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional
from transformers import AutoImageProcessor, BaseImageProcessor, CLIPImageProcessorPil, CLIPVisionModelWithProjection

from d2plan.errors import FileError, InputError
from d2plan.eval.faces import FaceEncoder
from d2plan.eval.judge import Judge, Picture
from d2plan.eval.metrics import centre_of

_GREY = 127
_LEAST_OVERLAP = 0.2
_LEAST_SHARE = 0.5


class Place(NamedTuple):
    """Where to look in a picture.

    Attributes:
        class_word: what kind of thing to look for.
        mask: ``[h, w]``, 0..1, where it shall be; None looks everywhere.
    """

    class_word: str
    mask: NDArray[np.float32] | None = None


class IdentityEncoder(Protocol):
    """Describes who is seen, so that two pictures of one character have descriptions close to each other."""

    @property
    def name(self) -> str:
        """What records call it."""
        ...

    def describe(self, image: Picture, places: Sequence[Place]) -> list[NDArray[np.float32] | None]:
        """Describe what is seen at some places.

        Args:
            image: ``[h, w, 3]``, 0..255.
            places: where to look.

        Returns:
            For each place a vector of length 1, or None where nothing of the class is found.
        """
        ...


class JudgeEncoder:
    """The judge's identity encoder, at home in the small world of the embedded base."""

    name = "judge"

    def __init__(self, judge: Judge) -> None:
        """Wrap a judge.

        Args:
            judge: who looks.
        """
        self._judge = judge

    def describe(self, image: Picture, places: Sequence[Place]) -> list[NDArray[np.float32] | None]:
        """Describe the instance of the class that lies in the mask, or the largest one without a mask.

        No instance stands for two masks: of a class it goes to that which holds more of it.
        """
        seen = self._judge.judge(image).instances
        found: list[NDArray[np.float32] | None] = [None] * len(places)
        shares: list[tuple[float, int, int]] = []
        for number, place in enumerate(places):
            own = [index for index, one in enumerate(seen) if one.class_word == place.class_word]
            if place.mask is None:
                largest = max(own, key=lambda index: int(seen[index].mask.sum()), default=None)
                found[number] = None if largest is None else seen[largest].embedding
            else:
                inside = [
                    (float(place.mask[seen[index].mask].mean()), index) for index in own if seen[index].mask.any()
                ]
                shares += [(share, number, index) for share, index in inside if share >= _LEAST_OVERLAP]
        taken: set[int] = set()
        for _, number, index in sorted(shares, key=lambda one: -one[0]):
            if found[number] is None and index not in taken:
                found[number] = seen[index].embedding
                taken.add(index)
        return found


class ClipEncoder:
    """A CLIP image encoder, for bases that draw the world as it is.

    It does not find anything: it describes whatever lies in the mask.
    """

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        """Open the encoder from this machine's disk.

        Args:
            folder: of a CLIP model with its projection, as transformers saves it.
            device: where it runs.

        Raises:
            FileError: it cannot be read.
        """
        self.name = f"clip:{Path(folder).name}"
        self._device = device
        try:
            model = CLIPVisionModelWithProjection.from_pretrained(folder, local_files_only=True, use_safetensors=True)
            self._processor = _open_processor(Path(folder), int(model.config.image_size))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise FileError(f"{folder}: cannot be opened as a CLIP image encoder; name its folder.") from error
        self._model = model.to(device).eval()

    @torch.no_grad()
    def describe(self, image: Picture, places: Sequence[Place]) -> list[NDArray[np.float32] | None]:
        """Describe what lies in each mask, with the rest turned grey; the whole picture without a mask."""
        cuts = [_cut(image, place.mask) for place in places]
        there = [number for number, cut in enumerate(cuts) if cut is not None]
        if not there:
            return [None] * len(places)
        squares = [_fill_square(cuts[number]) for number in there]  # type: ignore[arg-type]
        pixels = self._processor(squares, return_tensors="pt")["pixel_values"]
        embeds = functional.normalize(self._model(pixel_values=pixels.to(self._device)).image_embeds.float(), dim=-1)
        found = dict(zip(there, embeds.cpu().numpy(), strict=True))
        return [found.get(number) for number in range(len(places))]


class FaceIdentityEncoder:
    """A face encoder, for scenes of people; who shows no face is not found."""

    def __init__(self, faces: FaceEncoder) -> None:
        """Wrap a face encoder.

        Args:
            faces: finds faces and describes them.
        """
        self.name = faces.name
        self._faces = faces

    def describe(self, image: Picture, places: Sequence[Place]) -> list[NDArray[np.float32] | None]:
        """Describe the largest face that lies in the mask for the most part, or the largest one without a mask."""
        faces = self._faces.find_faces(image)
        found: list[NDArray[np.float32] | None] = []
        for place in places:
            inside = (face for face in faces if place.mask is None or _share(place.mask, face.box) > _LEAST_SHARE)
            best = next(inside, None)
            found.append(None if best is None else best.embedding)
        return found


def describe_references(encoder: IdentityEncoder, class_word: str, images: Sequence[Picture]) -> NDArray[np.float32]:
    """Describe a character by its own pictures.

    Args:
        encoder: who looks.
        class_word: its class.
        images: at least one.

    Returns:
        Of length 1, the middle of their descriptions.

    Raises:
        InputError: the encoder finds nothing of the class in any of them.
    """
    found = [encoder.describe(image, [Place(class_word)])[0] for image in images]
    seen = [one for one in found if one is not None]
    if not seen:
        raise InputError(f'the encoder "{encoder.name}" finds no {class_word} in any of these pictures.')
    return centre_of(seen)


def measure_likeness(
    encoder: IdentityEncoder,
    image: Picture,
    places: Sequence[Place],
    references: Sequence[NDArray[np.float32]],
) -> tuple[float | None, ...]:
    """Say how much each instance of a picture is like its concept.

    Args:
        encoder: who looks.
        image: ``[h, w, 3]``, 0..255.
        places: one an instance.
        references: one an instance, from ``describe_references``.

    Returns:
        Cosines, -1..1; None for an instance that is not found.
    """
    found = encoder.describe(image, places)
    return tuple(
        None if one is None else float(np.clip(one @ own, -1, 1)) for one, own in zip(found, references, strict=True)
    )


def _share(mask: NDArray[np.float32], box: tuple[float, float, float, float]) -> float:
    """Say how much of a box, which may reach over the edge, a mask has, 0..1."""
    left, top, right, bottom = (max(0, round(side)) for side in box)
    part = mask[top:bottom, left:right]
    return float(part.mean()) if part.size else 0.0


def _cut(image: Picture, mask: NDArray[np.float32] | None) -> Picture | None:
    """Cut out the box around a mask, the rest of it grey; None when the mask is empty."""
    if mask is None:
        return image
    rows, columns = np.where(mask > 0.5)
    if not len(rows):
        return None
    box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    soft = mask[box][..., None]
    return (image[box] * soft + _GREY * (1 - soft)).round().astype(np.uint8)


def _fill_square(image: Picture) -> Image.Image:
    """Fill a picture up to a square, so that no processor trims it."""
    side = max(image.shape[:2])
    square = np.full((side, side, 3), _GREY, np.uint8)
    top, left = (side - image.shape[0]) // 2, (side - image.shape[1]) // 2
    square[top : top + image.shape[0], left : left + image.shape[1]] = image
    return Image.fromarray(square)


def _open_processor(folder: Path, size: int) -> BaseImageProcessor:
    """Open the folder's own picture processor, or CLIP's usual one for a folder that brings none."""
    if (folder / "preprocessor_config.json").is_file():
        return AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False, backend="pil")
    return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
