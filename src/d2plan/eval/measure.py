"""From pictures and what they were asked to show to numbers with names; ``eval.names`` lists the names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from d2plan.documents import Score
from d2plan.errors import InputError
from d2plan.eval.alignment import image_alignments, scale_to_clipscore, text_alignments
from d2plan.eval.criteria import is_missing, is_visually_confused
from d2plan.eval.crops import cut_square
from d2plan.eval.identity import identities_found, identity_alignments, identity_table, is_confused, least_identity
from d2plan.eval.judge import Picture, Verdict
from d2plan.eval.matching import match_exactly, match_greedily
from d2plan.eval.metrics import centre_of, cosine
from d2plan.eval.panel import CLIP, DINO, Gallery, Panel, Spot
from d2plan.eval.score import Expectation, Expected, match_verdict, score_verdict
from d2plan.eval.temporal import consistency_adjacent, consistency_all

Values = dict[str, float | None]
Vectors = NDArray[np.float32]
Matches = tuple[int | None, ...]
_BY_SIDE = 3.0  # as in eval.score


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture and what it was asked to show.

    Attributes:
        image: ``[h w 3]``, 0..255.
        text: the whole prompt, with class words where identifiers stood; None measures no text alignment.
        expected: its instances, place and light; an instance's concept is a key of the galleries, or None.
        phrases: each instance's own prompt without its identifier, None where there is none; empty for none at all.
        name: what results call it.
    """

    image: Picture
    text: str | None
    expected: Expectation
    phrases: tuple[str | None, ...] = ()
    name: str = ""


@dataclass(frozen=True, eq=False)
class Measured:
    """The numbers of a picture; None where nothing was asked for, nothing was found, or nobody looked.

    Attributes:
        values: of the picture.
        instances: of each expected instance, in order.
        found: for each expected instance, whether something was found for it; None where nobody looked, or where the
            one who looked does not know its class.
        vectors: kind of encoder to the whole picture's embedding, ``[d]``, for series.
        score: all that the judge says; None without a judge, or where it does not know a class.
    """

    values: Values
    instances: tuple[Values, ...] = ()
    found: tuple[bool | None, ...] = ()
    vectors: Mapping[str, Vectors] = field(default_factory=dict)
    score: Score | None = None

    @property
    def averaged(self) -> Values:
        """The picture's numbers, and the means of its instances' where one has a number."""
        means: Values = {}
        for name in dict.fromkeys(name for one in self.instances for name in one):
            known = [value for one in self.instances if (value := one.get(name)) is not None]
            means[name] = float(np.mean(known)) if known else None
        return {**means, **self.values}


def measure_pictures(panel: Panel, shown: Sequence[Shown], galleries: Mapping[str, Gallery]) -> list[Measured]:
    """Measure pictures; the same numbers come out one by one or all at once.

    Args:
        panel: who looks.
        shown: the pictures; about 16 at once keep the memory small.
        galleries: by concept.

    Returns:
        The numbers of each.

    Raises:
        InputError: there is another number of phrases than of instances.
    """
    for one in shown:
        if one.phrases and len(one.phrases) != len(one.expected.instances):
            raise InputError(
                f"{one.name}: has {len(one.phrases)} phrases for {len(one.expected.instances)} instances; "
                "give one for each."
            )
    images = [one.image for one in shown]
    spots, verdicts = panel.look(images, [[want.class_word for want in one.expected.instances] for one in shown])
    whole = {kind: encoder.embed_images(images) for kind, encoder in panel.pictures.items()}
    crops = _embed_spots(panel, images, spots)
    texts = _embed_texts(panel, shown)
    results = []
    for place, one in enumerate(shown):
        look = _Look(
            one,
            spots[place],
            verdicts[place],
            {kind: rows[place] for kind, rows in whole.items()},
            {kind: parts[place] for kind, parts in crops.items()},
            texts,
            [galleries.get(want.concept or "") for want in one.expected.instances],
        )
        results.append(_measure_one(panel, look))
    return results


def measure_series(measured: Sequence[Measured]) -> Values:
    """Say how well a series of pictures holds together.

    Args:
        measured: its pictures in order, at least two.

    Returns:
        ``consistency_adjacent`` and ``consistency_all`` by CLIP, ``scene_kept_adjacent`` and ``scene_kept`` by DINO;
        a kind that did not look is absent.

    Raises:
        InputError: there are fewer than two pictures.
    """
    if len(measured) < 2:
        raise InputError(f"a series has two pictures or more, this one has {len(measured)}.")
    values: Values = {}
    for kind, adjacent, every in (
        (CLIP, "consistency_adjacent", "consistency_all"),
        (DINO, "scene_kept_adjacent", "scene_kept"),
    ):
        if all(kind in one.vectors for one in measured):
            rows = np.stack([one.vectors[kind] for one in measured])
            values[adjacent], values[every] = consistency_adjacent(rows), consistency_all(rows)
    return values


@dataclass(frozen=True, eq=False)
class _Look:
    """All that is known of one picture before anything is compared."""

    shown: Shown
    spots: Sequence[Spot]
    verdict: Verdict | None
    whole: Mapping[str, Vectors]
    crops: Mapping[str, Vectors]
    texts: Mapping[str, Vectors]
    galleries: Sequence[Gallery | None]

    @property
    def wanted(self) -> tuple[Expected, ...]:
        return self.shown.expected.instances


def _embed_spots(panel: Panel, images: Sequence[Picture], spots: Sequence[Sequence[Spot]]) -> dict[str, list[Vectors]]:
    """Embed every spot of every picture, all in one go; kind to a table ``[n d]`` a picture."""
    cuts = [cut_square(image, spot.box) for image, found in zip(images, spots, strict=True) for spot in found]
    ends = np.cumsum([len(found) for found in spots])[:-1]
    return {kind: np.split(encoder.embed_images(cuts), ends) for kind, encoder in panel.pictures.items() if cuts}


def _embed_texts(panel: Panel, shown: Sequence[Shown]) -> dict[str, Vectors]:
    if panel.clip is None:
        return {}
    texts = {text for one in shown for text in (one.text, *one.phrases) if text}
    ordered = sorted(texts)
    return dict(zip(ordered, panel.clip.embed_texts(ordered), strict=True)) if ordered else {}


def _measure_one(panel: Panel, look: _Look) -> Measured:
    matches = _match(panel, look)
    sought = [panel.looks_for(want.class_word) for want in look.wanted]
    instances: list[Values] = [_compare_crops(look, index, column) for index, column in enumerate(matches)]
    values = _compare_whole(look)
    score = None
    if look.verdict is not None and panel.finder is None:
        lineups = {one.concept: one.lineup for one in look.galleries if one is not None and one.lineup is not None}
        width = look.shown.image.shape[1]
        score = score_verdict(look.verdict, look.shown.expected, width, lineups, look.shown.name, matches)
        _add_score(values, instances, score, sought)
    elif panel.finder is not None:
        for one, column, known in zip(instances, matches, sought, strict=True):
            one["present"] = float(column is not None) if known else None
    for one, column in zip(instances, matches, strict=True):
        if one.get("present") is not None:
            one["subject_missing"] = float(is_missing(column))
    _add_identity(panel, look, matches, values, instances)
    found = tuple(column is not None if known else None for column, known in zip(matches, sought, strict=True))
    return Measured(values, tuple(instances), found, look.whole, score if all(sought) else None)


def _match(panel: Panel, look: _Look) -> Matches:
    """Find out which spot is meant by each expected instance."""
    if not look.spots:
        return (None,) * len(look.wanted)
    if look.verdict is not None and panel.finder is None:
        references = {
            one.concept: centre_of(one.identity)
            for one in look.galleries
            if one is not None and one.identity is not None and panel.faces is None
        }
        return match_verdict(look.verdict, look.shown.expected, look.shown.image.shape[1], references)
    return match_exactly([[_gain(look, index, column) for column in range(len(look.spots))] for index in _range(look)])


def _gain(look: _Look, index: int, column: int) -> float:
    """Say how well an expected instance and a spot go together: class, then side, then looks."""
    want, spot, gallery = look.wanted[index], look.spots[column], look.galleries[index]
    if spot.class_word != want.class_word:
        return float("-inf")
    gain = 0.0
    if want.position is not None:
        aim = {"left": 0.0, "middle": 0.5, "right": 1.0}[want.position]
        away = abs((spot.box[0] + spot.box[2]) / 2 / look.shown.image.shape[1] - aim)
        gain += _BY_SIDE * (0.5 - away)  # on its side of the middle it is the likelier one, beyond it the less likely
    kind = next((kind for kind in (DINO, CLIP) if gallery is not None and kind in gallery.crops), None)
    if kind is not None and gallery is not None:
        gain += cosine(look.crops[kind][column], centre_of(gallery.crops[kind]))
    return gain


def _compare_whole(look: _Look) -> Values:
    values: Values = {}
    text = look.texts.get(look.shown.text or "")
    if text is not None:
        raw = text_alignments(look.whole[CLIP][None], text[None])
        values["text"], values["text_scaled"] = float(raw[0]), float(scale_to_clipscore(raw)[0])
    for kind, name in ((CLIP, "image"), (DINO, "dino")):
        known = [one.whole[kind] for one in look.galleries if one is not None and kind in one.whole]
        if known and kind in look.whole:
            values[name] = float(np.mean([image_alignments(look.whole[kind][None], rows)[0] for rows in known]))
    return values


def _compare_crops(look: _Look, index: int, column: int | None) -> Values:
    """Compare the crop that was matched with an instance; every number is there, None where nothing was found."""
    values: Values = {}
    gallery = look.galleries[index]
    for kind, name in ((CLIP, "image_instance"), (DINO, "dino_instance")):
        if gallery is not None and kind in gallery.crops and kind in look.whole:
            crop = None if column is None else look.crops[kind][column][None]
            values[name] = None if crop is None else float(image_alignments(crop, gallery.crops[kind])[0])
    phrase = look.texts.get((look.shown.phrases[index] if look.shown.phrases else None) or "")
    if phrase is not None:
        crop = None if column is None else look.crops[CLIP][column][None]
        values["text_instance"] = None if crop is None else float(text_alignments(crop, phrase[None])[0])
    return values


def _add_score(values: Values, instances: Sequence[Values], score: Score, sought: Sequence[bool]) -> None:
    """Bring the judge's yes and no to numbers; of a class that it does not know it says nothing."""
    values["place"], values["light"] = _number(score.place), _number(score.light)
    if sought and all(sought):
        values["count"] = float(score.expected_count == score.seen_count)
    for one, said, known in zip(instances, score.instances, sought, strict=True):
        if not known:
            continue
        one["present"] = float(said.present)
        one["attribute_misbinding"] = _number(said.attribute_misbinding)
        one["action_misbinding"] = _number(said.action_misbinding)
        one["attributes"], one["attributes_swapped"] = _number(said.attributes), _number(said.swapped)
        if said.rank is not None:
            one["first_of_20"], one["first_of_near"] = float(said.rank == 1), float(said.rank_near == 1)


def _add_identity(panel: Panel, look: _Look, matches: Matches, values: Values, instances: Sequence[Values]) -> None:
    """Compare who is seen with the concepts of this picture."""
    known = [index for index, one in enumerate(look.galleries) if one is not None and one.identity is not None]
    if not known or (panel.faces is None and panel.judge is None and panel.finder is None):
        return
    references = [look.galleries[index].identity for index in known]  # type: ignore[union-attr]  # chosen above
    centres = np.stack([centre_of(rows) for rows in references if rows is not None])
    seen = _identities_of(panel, look)
    likeness = identity_table(references, seen)  # type: ignore[arg-type]
    chosen: Matches = match_greedily(likeness) if panel.faces is not None else tuple(matches[index] for index in known)
    found = identities_found(likeness, chosen)
    for row, (index, value) in enumerate(zip(known, found, strict=True)):
        own = instances[index]
        own["identity_found"], own["identity"] = value, identity_alignments([value])[0]
        # Two of one class are mixed up with each other; how much a man is like a dog says nothing of either.
        alike = [place for place, other in enumerate(known) if _same_class(look, index, other)]
        column = chosen[row]
        mixed = is_visually_confused(None if column is None else seen[column], centres, row)
        own["visual_confusion"] = _number(mixed)
        answer = is_confused(likeness[alike], [chosen[place] for place in alike], alike.index(row))
        own["confused"] = _number(answer)
        both = [own[name] for name in ("confused", "attributes_swapped") if own.get(name) is not None]
        own["swapped"] = float(any(both)) if both else None
    values["identity_least"] = least_identity(found)


def _same_class(look: _Look, first: int, second: int) -> bool:
    return look.wanted[first].class_word == look.wanted[second].class_word


def _identities_of(panel: Panel, look: _Look) -> Vectors:
    """Give the embeddings of everybody in the picture, ``[n d]``: of faces, else of the spots in their order."""
    if panel.faces is not None:
        rows = [face.embedding for face in panel.faces.find_faces(look.shown.image)]
    elif panel.finder is None:
        rows = [spot.seen.embedding for spot in look.spots if spot.seen is not None]
    else:
        return look.crops.get(DINO, np.zeros((0, 1), np.float32))
    return np.stack(rows) if rows else np.zeros((0, 1), np.float32)


def _range(look: _Look) -> range:
    return range(len(look.wanted))


def _number(answer: bool | None) -> float | None:
    return None if answer is None else float(answer)
