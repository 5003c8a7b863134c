"""The demo's contact sheet and page, written from what lies in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from d2plan.eval.metrics import Estimate
from d2plan.eval.score import summarise
from d2plan.isp.colours import Colour, colours_of
from d2plan.media.images import Picture, contact_sheet, read_image, write_file, write_png
from d2plan.workflows.demo.card import tint_name, write_picture, write_row
from d2plan.workflows.demo.gallery import (
    ADAPTERS,
    PAGE,
    PICTURES,
    SCENES,
    SCORES,
    SHEET,
    Gallery,
    link_to,
    list_references,
)
from d2plan.workflows.demo.scenes import Character
from d2plan.workflows.runs.folder import IMAGE

REFERENCES = 8
_ACROSS = 3
_TEMPLATE = files("d2plan.workflows.demo") / "templates" / "page.html"
_SUMMARY = {
    "first of 20": "the right character is the first of 20 of its class",
    "all present": "everybody asked for is there",
    "attributes on the right one": "what each wears and does is right, and on the right one",
    "swapped": "swapped: wears or does what was said of the other",
    "place": "place right",
}


def write_sheet(gallery: Gallery) -> Path:
    """Write all pictures of a demo on one sheet: references of both first, then the rows.

    Args:
        gallery: what to show.

    Returns:
        The sheet's path.

    Raises:
        FileError: a picture is missing, or the sheet cannot be written.
    """
    pictures: list[Picture] = []
    labels: list[str] = []
    for who in gallery.characters:
        shown = [read_image(path) for path in list_references(gallery.folder, who)[:_ACROSS]]
        pictures += shown
        labels += [f"{who.name}, as given"] * len(shown)
    for row in gallery.rows:
        pictures += [read_image(gallery.folder / PICTURES / shot.name / IMAGE) for shot in row.shots]
        labels += [shot.label for shot in row.shots]
    target = gallery.folder / SHEET
    write_png(target, contact_sheet([_double(picture) for picture in pictures], _ACROSS, labels, 12))
    return target


def write_page(gallery: Gallery) -> Path:
    """Write the page that shows a demo, with pictures of who got which area.

    Args:
        gallery: what to show.

    Returns:
        The page's path; it names all pictures relative to itself and needs no server.

    Raises:
        FileError: a picture or record is missing, or the page cannot be written.
    """
    one, other = live = gallery.characters[:2]
    facts = gallery.facts
    tinted = [
        f"<span class=who {tint_name(colour)}>{escape(who.name)}</span>"
        for who, colour in zip(live, _choose_colours(gallery), strict=False)
    ]
    pace = " and ".join(f"{who.name} in {_write_time(gallery.trained[who.name].seconds)}" for who in live)
    lead = (
        f"The base model has never seen this {one.class_word} and this {other.class_word}. It learnt {pace}, each from "
        f"{len(list_references(gallery.folder, one))} pictures, and then put both into one scene, each with a "
        "sub-prompt of its own. How well that went stands beside every picture."
    )
    told = [
        facts.made,
        f"base {facts.base} ({facts.fingerprint})",
        f"seed {facts.seed}",
        f"{_write_time(facts.seconds)} in all",
        facts.machine,
    ]
    rows = [write_row(gallery, row) for row in gallery.rows]
    page = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(f"{one.name} and {other.name}"),
        heading=f"{' and '.join(tinted)} in one scene",
        lead=escape(lead),
        hero=write_picture(gallery, gallery.rows[0].shots[0]),
        facts=escape(" · ".join(told)),
        sections="\n".join([_write_characters(gallery), _write_summary(gallery), *rows, _write_film(gallery)]),
        footer=_write_footer(gallery),
    )
    target = gallery.folder / PAGE
    write_file(target, page.encode())
    return target


def _double(picture: Picture) -> Picture:
    return picture.repeat(2, axis=0).repeat(2, axis=1) if picture.shape[0] <= 256 else picture


def _choose_colours(gallery: Gallery) -> tuple[Colour, ...]:
    return colours_of([who.name for who in gallery.characters])


def _write_characters(gallery: Gallery) -> str:
    cards = []
    for who, colour in zip(gallery.characters, _choose_colours(gallery), strict=True):
        paths = list_references(gallery.folder, who)
        thumbs = "".join(
            f'<img src="{link_to(gallery, path)}" alt="{escape(who.name)}, reference {number}" width=128 height=128>'
            for number, path in enumerate(paths[:REFERENCES], start=1)
        )
        adapter = gallery.folder / ADAPTERS / f"{who.stem}.safetensors"
        cards.append(
            f"<article class=card><h3 class=who {tint_name(colour)}><i></i>{escape(who.name)}</h3>"
            f"<p class=soft>a {escape(who.class_word)}, called <code>{escape(who.identifier)}</code> in prompts</p>"
            f"<div class=thumbs>{thumbs}</div>"
            f"<p class=soft>{min(REFERENCES, len(paths))} of the {len(paths)} pictures that it was learnt from; "
            f"{_tell_learning(gallery, who)}; "
            f'<a href="{link_to(gallery, adapter)}">adapter</a>, {adapter.stat().st_size / 1e6:.1f} MB</p></article>'
        )
    return f'<section><h2>Who was learnt</h2><div class="cards pair">{"".join(cards)}</div></section>'


def _tell_learning(gallery: Gallery, who: Character) -> str:
    if who.name not in gallery.trained:
        return "learnt before, and part of d2plan"
    learnt = gallery.trained[who.name]
    return f"{learnt.steps} steps in {_write_time(learnt.seconds)}"


def _write_summary(gallery: Gallery) -> str:
    if gallery.scored.trouble:
        return f"<section><h2>Scores</h2><p>{escape(gallery.scored.trouble)}</p></section>"
    composed, plain = (_summarise(gallery, adapted) for adapted in (True, False))
    rows = "".join(
        f"<tr><td>{escape(text)}</td><td class=number>{_write_estimate(composed, name)}</td>"
        f"<td class=number>{_write_estimate(plain, name)}</td></tr>"
        for name, text in _SUMMARY.items()
        if name in composed
    )
    return (
        "<section><h2>How it came out</h2><p class=soft>The judge, small networks that never saw these characters, "
        "looked at every picture below. So few pictures give a feeling, not a "
        "measurement.</p><div class=tablebox><table><tr><th></th><th>composed</th><th>base alone</th></tr>"
        f"{rows}</table></div></section>"
    )


def _summarise(gallery: Gallery, adapted: bool) -> dict[str, Estimate]:
    shots = [shot for row in gallery.rows for shot in row.shots if bool(shot.scene.instances) == adapted]
    return summarise([gallery.scored.scores[shot.name] for shot in shots if shot.name in gallery.scored.scores])


def _write_estimate(summary: Mapping[str, Estimate], name: str) -> str:
    if name not in summary:
        return "–"
    found = summary[name]
    return f"{round(found.mean * found.count)} of {found.count}"


def _write_film(gallery: Gallery) -> str:
    film = gallery.film
    if film.video is None or film.page is None:
        return f"<section><h2>A film</h2><p>{escape(film.trouble)}</p></section>" if film.trouble else ""
    moments = "".join(
        f'<li><img src="{link_to(gallery, path)}" alt="moment {number}" width=256 height=256>'
        f"<span>{number}. {escape(said)}</span></li>"
        for number, (path, said) in enumerate(film.beats, start=1)
    )
    return (
        f"<section><h2>A film from a story</h2><blockquote>{escape(film.story)}</blockquote><p class=soft>The embedded "
        "planner made these moments of it, which are composed as a series of pictures; a small video network makes the "
        "frames between them. Unlike the pictures above this was picked: such a story was chosen by eye among seven. "
        f'<a href="{link_to(gallery, film.page)}">Plan, keyframes and frames</a></p>'
        f'<div class=told><img class=film src="{link_to(gallery, film.video)}" alt="the film" width=384 height=384>'
        f"<ol class=moments>{moments}</ol></div></section>"
    )


def _write_footer(gallery: Gallery) -> str:
    links = [(SHEET, "all pictures on one sheet"), (SCORES, "all scores")]
    shown = [
        f'<a href="{link_to(gallery, gallery.folder / name)}">{text}</a>'
        for name, text in links
        if (gallery.folder / name).exists()
    ]
    first = next((shot.name for row in gallery.rows for shot in row.shots), "")
    stages = ", ".join(f"{name} {_write_time(value)}" for name, value in gallery.facts.stages.items())
    return (
        f"<p>{' · '.join(shown)}</p><p>Every picture can be made again from this folder: "
        f"<code>d2plan compose {SCENES}/{escape(first)}.yaml --out again</code></p>"
        f"<p>Time: {escape(stages)}.</p>"
    )


def _write_time(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 90 else f"{whole // 60} min {whole % 60} s"
