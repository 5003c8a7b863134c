"""Who looks at pictures, and what each of them knows of a concept from its own pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from d2plan.errors import InputError
from d2plan.eval.crops import Box, cut_square
from d2plan.eval.encoders import ImageEncoder, TextEncoder
from d2plan.eval.faces import FaceEncoder
from d2plan.eval.judge import Judge, Picture, Seen, Verdict
from d2plan.eval.score import Lineup
from d2plan.world.cast import CLASSES

Vectors = NDArray[np.float32]
CLIP, DINO, IDENTITY, JUDGE = "clip", "dino", "identity", "judge"


@dataclass(frozen=True, eq=False)
class Spot:
    """Something of a class, found in a picture.

    Attributes:
        class_word: what it is.
        box: x0, y0, x1, y1 in pixels.
        seen: what the judge says of it; None when another finder found it.
    """

    class_word: str
    box: Box
    seen: Seen | None = None


class Finder(Protocol):
    """Finds instances of classes in a picture."""

    @property
    def name(self) -> str:
        """What results call it."""
        ...

    def find(self, image: Picture, class_words: Sequence[str]) -> list[Spot]:
        """Find all instances of some classes.

        Args:
            image: ``[h w 3]``, 0..255.
            class_words: each once.

        Returns:
            What was found, in any order.
        """
        ...


@dataclass(frozen=True, eq=False)
class Panel:
    """All who look; each may be missing, and what it would have measured is then not measured.

    Attributes:
        clip: texts and pictures.
        dino: pictures alone.
        faces: identities of people.
        judge: finds and describes the figures of the small world; their identities too where there are no faces.
        finder: finds instances in the judge's place.
        judge_source: how results call the judge.
    """

    clip: TextEncoder | None = None
    dino: ImageEncoder | None = None
    faces: FaceEncoder | None = None
    judge: Judge | None = None
    finder: Finder | None = None
    judge_source: str = JUDGE

    def __post_init__(self) -> None:
        """Refuse an encoder in the place of another kind."""
        if self.clip is not None and not isinstance(self.clip, TextEncoder):
            raise InputError(f"{self.clip.name}: cannot read texts, so it is no CLIP; name mini-clip or clip:FOLDER.")

    @property
    def pictures(self) -> dict[str, ImageEncoder]:
        """The encoders of whole pictures and crops, by kind."""
        both: dict[str, ImageEncoder | None] = {CLIP: self.clip, DINO: self.dino}
        return {kind: encoder for kind, encoder in both.items() if encoder is not None}

    @property
    def sources(self) -> dict[str, str]:
        """Kind to what it was, for results; a kind that is absent measures nothing."""
        sources = {kind: encoder.source for kind, encoder in self.pictures.items()}
        if self.faces is not None:
            sources[IDENTITY] = self.faces.source
        elif self.judge is not None:
            sources[IDENTITY] = self.judge_source
        elif self.finder is not None and self.dino is not None:
            sources[IDENTITY] = f"crops in {self.dino.source}"
        if self.judge is not None:
            sources[JUDGE] = self.judge_source
        if self.finder is not None:
            sources["finder"] = self.finder.name
        return sources

    @property
    def finds(self) -> bool:
        """Somebody looks for instances."""
        return self.judge is not None or self.finder is not None

    def looks_for(self, class_word: str | None) -> bool:
        """Say whether anybody could find an instance of a class at all.

        Args:
            class_word: what it is; None or empty where nobody said.

        Returns:
            False too where the judge finds, and does not know the class.
        """
        if self.finder is not None:
            return bool(class_word)
        return self.judge is not None and class_word in CLASSES

    def look(
        self, images: Sequence[Picture], class_words: Sequence[Sequence[str]]
    ) -> tuple[list[list[Spot]], list[Verdict | None]]:
        """Find the instances in pictures.

        Args:
            images: each ``[h w 3]``, 0..255.
            class_words: for each picture, what to look for.

        Returns:
            For each picture what was found, and what the judge says; None without a judge. The spots of a picture are
            the judge's instances in the same order where there is no other finder.
        """
        verdicts: list[Verdict | None] = [None] * len(images)
        if self.judge is not None:
            verdicts = list(self.judge.judge_many(images))
        if self.finder is not None:
            found = [
                self.finder.find(image, asked) if (asked := [word for word in dict.fromkeys(words) if word]) else []
                for image, words in zip(images, class_words, strict=True)
            ]
            return found, verdicts
        return [
            [Spot(seen.class_word, seen.box, seen) for seen in verdict.instances] if verdict is not None else []
            for verdict in verdicts
        ], verdicts


@dataclass(frozen=True, eq=False)
class Gallery:
    """What the panel knows of a concept from its own pictures.

    Attributes:
        concept: its name.
        class_word: what it is; None where nobody said, and then no crop is compared.
        pictures: how many there are.
        unfound: in how many somebody looked for the class and found none; they count for whole pictures alone.
        whole: kind of encoder to the embeddings of the pictures, ``[r d]``.
        crops: the same of the instances in them, ``[n d]``; a kind is absent when none was found.
        identity: embeddings of its faces, or of its instances, ``[n d]``; None where there is none.
        lineup: who it is told apart from.
        looked: somebody looks for instances, so that a class would be of use.
        faceless: in how many somebody looked for a face and found none; they say nothing of the identity.
    """

    concept: str
    class_word: str | None
    pictures: int
    unfound: int = 0
    whole: Mapping[str, Vectors] = field(default_factory=dict)
    crops: Mapping[str, Vectors] = field(default_factory=dict)
    identity: Vectors | None = None
    lineup: Lineup | None = None
    looked: bool = True
    faceless: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of it."""
        notes = []
        if self.class_word is None and self.looked:
            notes.append("its class is not known, so only whole pictures are compared with its references")
        elif self.unfound:
            notes.append(f"no {self.class_word} is found in {self.unfound} of {self.pictures} references")
        if self.faceless:
            rest = "" if self.identity is not None else ", so its identity is not measured"
            notes.append(f"no face is found in {self.faceless} of {self.pictures} references{rest}")
        return tuple(f"{self.concept}: {note}" for note in notes)


def build_gallery(
    panel: Panel, concept: str, class_word: str | None, images: Sequence[Picture], lineup: Lineup | None = None
) -> Gallery:
    """Let the panel look at a concept's own pictures.

    Args:
        panel: who looks.
        concept: its name.
        class_word: what it is.
        images: its pictures, at least one.
        lineup: who it is told apart from.

    Returns:
        The gallery.

    Raises:
        InputError: there is no picture.
    """
    if not images:
        raise InputError(f"{concept}: there is no reference picture.")
    whole = {kind: encoder.embed_images(images) for kind, encoder in panel.pictures.items()}
    spots = _largest_spots(panel, images, class_word)
    cuts = [cut_square(image, spot.box) for image, spot in zip(images, spots, strict=True) if spot is not None]
    crops = {kind: encoder.embed_images(cuts) for kind, encoder in panel.pictures.items()} if cuts else {}
    identity = _gather_identity(panel, images, spots, crops)
    unfound = sum(spot is None for spot in spots) if panel.looks_for(class_word) else 0
    faceless = 0 if panel.faces is None else len(images) - (0 if identity is None else len(identity))
    return Gallery(concept, class_word, len(images), unfound, whole, crops, identity, lineup, panel.finds, faceless)


def _largest_spots(panel: Panel, images: Sequence[Picture], class_word: str | None) -> list[Spot | None]:
    if class_word is None:
        return [None] * len(images)
    found, _ = panel.look(images, [[class_word]] * len(images))
    return [
        max((spot for spot in spots if spot.class_word == class_word), key=_area_of, default=None) for spots in found
    ]


def _area_of(spot: Spot) -> float:
    if spot.seen is not None:
        return float(spot.seen.mask.sum())
    return (spot.box[2] - spot.box[0]) * (spot.box[3] - spot.box[1])


def _gather_identity(
    panel: Panel, images: Sequence[Picture], spots: Sequence[Spot | None], crops: Mapping[str, Vectors]
) -> Vectors | None:
    if panel.faces is not None:
        rows = panel.faces.embed_images(images)
        rows = rows[rows.any(1)]
        return rows if len(rows) else None
    if panel.judge is not None and panel.finder is None:
        seen = [spot.seen.embedding for spot in spots if spot is not None and spot.seen is not None]
        return np.stack(seen) if seen else None
    return crops.get(DINO) if panel.finder is not None else None
