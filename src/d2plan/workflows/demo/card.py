"""One row of the demo's page: pictures, who painted where, what was asked for, and how it came out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from d2plan.documents import Instance, InstanceScore, RunRecord, Score, load_run
from d2plan.isp.colours import Colour, colours_of, shade_colour
from d2plan.media.images import read_image
from d2plan.workflows.demo.gallery import PICTURES, Gallery, link_to
from d2plan.workflows.demo.scenes import Row, Shot
from d2plan.workflows.runs.folder import IMAGE, MASKS, RECORD


class Mark(NamedTuple):
    """A few words on what the judge sees, and whether that is as it was asked for."""

    right: bool
    text: str


def tint_name(colour: Colour) -> str:
    """Write the attributes that give an element a concept's colour, the one that its masks have.

    Args:
        colour: from ``d2plan.isp.colours``.

    Returns:
        Attributes in HTML; the template chooses the shade by the page's ground.
    """
    shades = shade_colour(colour)
    return f'style="--plain:{shades.plain};--on-light:{shades.on_light};--on-dark:{shades.on_dark}"'


def write_row(gallery: Gallery, row: Row) -> str:
    """Write a row of pictures.

    Args:
        gallery: the demo.
        row: which of its rows.

    Returns:
        A section in HTML.

    Raises:
        FileError: a picture or record is missing.
    """
    cards = "".join(_write_card(gallery, row, shot) for shot in row.shots)
    return (
        f"<section><h2>{escape(row.title)}</h2><p class=soft>{escape(row.text)}</p>"
        f"<div class=cards>{cards}</div></section>"
    )


def _write_card(gallery: Gallery, row: Row, shot: Shot) -> str:
    record = load_run(gallery.folder / PICTURES / shot.name / RECORD)
    seconds = sum(record.timings.values())
    return (
        f"<article class=card><div class=shown>{write_picture(gallery, shot, _write_boxes(record))}"
        f"{_write_areas(gallery, shot, record)}</div>{_write_prompts(gallery, row, shot, record)}"
        f"<p class=soft>{record.unet_calls} steps in {seconds:.1f} s, seed {record.seed}</p></article>"
    )


def write_picture(gallery: Gallery, shot: Shot, over: str = "") -> str:
    """Write a picture that opens when it is touched.

    Args:
        gallery: the demo.
        shot: which of its pictures.
        over: what lies over it, in HTML.

    Returns:
        A link with an image, in HTML.

    Raises:
        FileError: the picture is missing.
    """
    path = gallery.folder / PICTURES / shot.name / IMAGE
    height, width = read_image(path).shape[:2]
    link = link_to(gallery, path)
    image = f'<img src="{link}" alt="{escape(shot.label)}" width={width} height={height}>'
    return f'<a class=picture href="{link}">{image}{over}</a>'


def _write_boxes(record: RunRecord) -> str:
    """Write the outline of each box that was given by hand, in its concept's colour."""
    outlines = []
    for item, colour in zip(record.scene.instances, colours_of([use.name for use in record.adapters]), strict=True):
        if item.box is not None and record.scene.masks != "columns":
            x0, y0, x1, y1 = (100 * side for side in item.box)
            place = f"left:{x0:g}%;top:{y0:g}%;width:{x1 - x0:g}%;height:{y1 - y0:g}%"
            outlines.append(f'<i class=box style="{place};--plain:{shade_colour(colour).plain}"></i>')
    return "".join(outlines)


def _tell_box(record: RunRecord, instance: Instance) -> str:
    # Columns that were dealt nobody asked for.
    if instance.box is None or record.scene.masks == "columns":
        return ""
    x0, y0, x1, y1 = instance.box
    return f"<br><span class=soft>its box: {x0:.0%} to {x1:.0%} across, {y0:.0%} to {y1:.0%} down</span>"


def _write_areas(gallery: Gallery, shot: Shot, record: RunRecord) -> str:
    path = gallery.folder / PICTURES / shot.name / MASKS
    if not record.adapters or not path.exists():
        return ""
    sure = f", {record.masks.confidence:.0%} sure" if record.masks.confidence < 1 else ""
    link, text = link_to(gallery, path), f"who paints where: by {record.masks.route}{sure}"
    return (
        f'<div class=side><a href="{link}"><img src="{link}" alt="areas: {escape(shot.label)}"></a>'
        f"<span>{escape(text)}</span></div>"
    )


def _write_prompts(gallery: Gallery, row: Row, shot: Shot, record: RunRecord) -> str:
    """Write what was asked for, and below each line how that came out."""
    score = gallery.scored.scores.get(shot.name)
    marks = [] if score is None else _mark_whole(score)
    found = [] if score is None else [_mark_instance(instance) for instance in score.instances]
    if not record.adapters:
        marks = [*(mark for instance in found for mark in instance), *marks]
    lines = [f"<li>{escape(record.scene.global_prompt)}{_write_marks(marks)}</li>"]
    colours = colours_of([use.name for use in record.adapters])
    for index, (instance, use) in enumerate(zip(record.scene.instances, record.adapters, strict=True)):
        kind = "who changed" if row.changed == index else "who"
        word, said = escape(use.identifier), escape(instance.sub_prompt)
        said = said.replace(word, f"<mark>{word}</mark>", 1) if word else said
        chips = _write_marks(found[index] if found else [])
        lines.append(f'<li class="{kind}" {tint_name(colours[index])}>{said}{_tell_box(record, instance)}{chips}</li>')
    return f"<ul class=says>{''.join(lines)}</ul>"


def _write_marks(marks: Sequence[Mark]) -> str:
    chips = "".join(f'<span class="chip {"yes" if right else "no"}">{escape(text)}</span>' for right, text in marks)
    return f"<span class=chips>{chips}</span>" if chips else ""


def _mark_whole(score: Score) -> list[Mark]:
    marks = [] if score.place is None else [Mark(score.place, score.seen_place)]
    if score.seen_count != score.expected_count:
        marks.append(Mark(False, f"{score.seen_count} seen, {score.expected_count} asked for"))
    return marks


def _mark_instance(score: InstanceScore) -> list[Mark]:
    """Say in a few words each how an instance came out."""
    if not score.present:
        return [Mark(False, f"no {score.class_word} seen")]
    marks = [Mark(True, f"a {score.class_word}")]
    if score.rank is not None:
        marks = [Mark(score.rank == 1, f"{score.concept}, {_count_up(score.rank)} of 20")]
    seen = score.seen
    if score.accessory is not None:
        worn = " ".join(word for word in (seen.get("accessory_colour"), seen.get("accessory")) if word)
        marks.append(Mark(score.accessory and score.accessory_colour is not False, worn or "wears nothing"))
    if score.action is not None:
        marks.append(Mark(score.action, seen.get("action") or "does nothing"))
    if score.swapped:
        marks.append(Mark(False, "swapped with the other"))
    return marks


def _count_up(number: int) -> str:
    ending = "th" if 11 <= number % 100 <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
