"""The embedded planner: plain English over the known concepts and the world's words, the same plan every time."""

from itertools import pairwise

from d2plan.documents import MAX_INSTANCES, parse_document
from d2plan.errors import InputError
from d2plan.etp.grammar.asides import drop_asides
from d2plan.etp.grammar.chunks import Gear, Who
from d2plan.etp.grammar.division import divide
from d2plan.etp.grammar.elapses import plain_elapses, plain_weather
from d2plan.etp.grammar.hours import plain_hours
from d2plan.etp.grammar.missed import find_idle, find_missed
from d2plan.etp.grammar.naming import plain_names
from d2plan.etp.grammar.order import order_clauses
from d2plan.etp.grammar.people import People
from d2plan.etp.grammar.reading import find_chunks, spell_out
from d2plan.etp.grammar.requests import drop_requests, drop_title
from d2plan.etp.grammar.spelling import correct_words
from d2plan.etp.grammar.stage import Figure, Moment
from d2plan.etp.grammar.teller import tell
from d2plan.etp.grammar.telling import Context
from d2plan.etp.grammar.tenses import doubt_tenses
from d2plan.etp.grammar.unshown import check_shown
from d2plan.etp.grammar.wording import plain_wording
from d2plan.etp.grammar.words import find_items
from d2plan.etp.plan import MOST_BEATS, EventPlan, PlanInstance
from d2plan.etp.planner import StoryRequest, list_names
from d2plan.world.caption import accessory_phrase, article
from d2plan.world.scenery import LIGHTS, PLACES

_TRAINED_WITH = 4


class GrammarPlanner:
    """Plans by rules: no model, no network, no guess that a note does not tell."""

    @property
    def name(self) -> str:
        """How records call it."""
        return "grammar"

    def plan(self, request: StoryRequest) -> EventPlan:
        """Plan a story.

        Args:
            request: the story and who is known.

        Returns:
            The plan; its notes say what was not understood, left out, or decided.

        Raises:
            InputError: somebody is unknown, nothing happens, too many take part, or somebody cannot be shown so.
        """
        if not request.concepts:
            raise InputError("No concept is known; give a folder with adapters as --concepts.")
        context = Context(People(request.concepts))
        story, titled = drop_title(request.story)
        story, elapsed = plain_elapses(
            plain_names(plain_weather(plain_hours(drop_asides(drop_requests(story)))), request.concepts)
        )
        story, corrected = correct_words(story, request.concepts)
        context.notes += [*titled, *elapsed, *corrected]
        items = plain_wording(find_items(story, request.concepts))
        chunks = find_chunks(items)
        spell_out(chunks)
        owners = [chunk.owner for chunk in chunks if isinstance(chunk, (Gear, Who)) and chunk.owner is not None]
        context.people.owners = context.people.peek(owners)
        context.people.named = context.people.peek([*(chunk for chunk in chunks if isinstance(chunk, Who)), *owners])
        context.people.called = [int(c.value) for c in chunks if isinstance(c, Who) and c.head == "name"]
        told = divide(chunks)
        for clause in order_clauses(told):
            tell(context, clause)
        context.notes += doubt_tenses(told)
        cast = context.people.cast
        if not cast:
            raise InputError(
                f"The story names none of the known characters, {list_names(request.concepts)}; write whom it is about."
            )
        if len(cast) > MAX_INSTANCES:
            raise InputError(f"The story has {len(cast)} characters, but a picture holds at most {MAX_INSTANCES}.")
        moments = context.stage.finish(cast)
        check_shown(context, moments)
        _check_moments(context, moments)
        notes = _collect_notes(context, moments)
        notes += [
            f"In moment {place + 1} nothing is seen but that somebody stops; leave out what is not meant to be one."
            for place in find_idle(request.story, moments, cast)
        ]
        missed = find_missed(chunks, moments, cast, notes)
        notes += [f"In no moment: {_quote(missed)}."] if missed else []
        return request.check(_write_plan(request, context, moments, notes))


def _check_moments(context: Context, moments: list[Moment]) -> None:
    if len(moments) < 2:
        told = "; ".join(
            f"{context.people.name(who)}: {_describe(figure) or 'nothing'}"
            for who, figure in moments[0].figures.items()
        )
        strange = f" Not understood: {_quote(context.strange)}." if context.strange else ""
        lost = f" {context.notes[0]}" if context.notes else ""
        raise InputError(
            f"Nothing happens in the story that can be shown: it has one moment ({told}), and a video needs two; say "
            f'what changes, as in "Rex sleeps, then he runs".{strange}{lost}'
        )
    if len(moments) > MOST_BEATS:
        raise InputError(
            f"The story has {len(moments)} moments, but a plan holds at most {MOST_BEATS}; tell it in parts."
        )


def _write_plan(request: StoryRequest, context: Context, moments: list[Moment], notes: list[str]) -> EventPlan:
    cast = context.people.cast
    concepts = [request.concepts[index] for index in cast]
    instances = [
        PlanInstance(
            name=concept.name,
            concept=concept.path,
            class_word=concept.class_word or None,
            identifier=concept.identifier or None,
            position=context.people.positions.get(index),  # type: ignore[arg-type]  # one of the three words
        )
        for index, concept in zip(cast, concepts, strict=True)
    ]
    scenes = [_write_scene(context, moment) for moment in moments]
    beats = [
        {
            "sub_prompts": {
                context.people.name(index): _write_sub_prompt(context, index, moment.figures[index]) for index in cast
            },
            **({"global_prompt": scene} if scene != scenes[0] else {}),
        }
        for moment, scene in zip(moments, scenes, strict=True)
    ]
    content = {
        "story": request.story,
        "planner": "grammar",
        "base": request.base,
        "global_prompt": scenes[0],
        "instances": [instance.model_dump() for instance in instances],
        "beats": beats,
        "frames": request.frames,
        "seed": request.seed,
        "notes": notes,
    }
    return parse_document(EventPlan, content, "the story")


def _write_sub_prompt(context: Context, index: int, figure: Figure) -> str:
    concept = context.people.concepts[index]
    called = " ".join(word for word in (concept.identifier, concept.class_word) if word) or concept.name
    return " ".join(["a photo of", f"a {called}" if concept.identifier else article(called), *_phrases(figure)])


def _phrases(figure: Figure) -> list[str]:
    """Write what somebody wears and does, in the words and the order of the base's training captions."""
    worn = [accessory_phrase(name, colour or None) for name, colour in figure.gear.items()]
    listed = ", ".join(worn[:-1]) + " and " + worn[-1] if len(worn) > 1 else "".join(worn)
    return [*([f"wearing {listed}"] if worn else []), *([figure.action] if figure.action else [])]


def _describe(figure: Figure) -> str:
    return " ".join(_phrases(figure))


def _write_scene(context: Context, moment: Moment) -> str:
    cast = context.people.cast
    named = []
    for index in cast:
        position = context.people.positions.get(index)
        where = {"left": " on the left", "right": " on the right", "middle": " in the middle"}.get(position or "", "")
        named.append(article(context.people.word(index) or context.people.name(index)) + where)
    listed = ", ".join(named[:-1]) + " and " + named[-1] if len(named) > 1 else named[0]
    setting = [PLACES[moment.place][0]] if moment.place else []
    setting += [LIGHTS[moment.light][-1]] if moment.light else []
    return " ".join(["a photo of", listed, *setting])


def _collect_notes(context: Context, moments: list[Moment]) -> list[str]:
    notes = [*context.people.notes, *context.notes]
    if context.stage.invented:
        notes.insert(0, "A moment was put before the story, so that its first change can be seen.")
    if context.strange:
        notes.append(f"Not understood: {_quote(context.strange)}.")
    if context.left_out:
        notes.append(f"Left out: {_quote(context.left_out)}.")
    notes += dict.fromkeys(
        f"The place changes, and it is still {LIGHTS[after.light][-1]} there; say so if it is not."
        for before, after in pairwise(moments)
        if before.place
        and after.place != before.place
        and after.light == before.light
        and after.light not in ("", "day")
    )
    if any(len(figure.gear) > 1 for moment in moments for figure in moment.figures.values()):
        notes.append("Somebody wears two things at once, which the embedded base has never seen.")
    if len(context.people.cast) > _TRAINED_WITH:
        notes.append(f"More than {_TRAINED_WITH} take part, which the embedded base has never seen.")
    return notes


def _quote(words: list[str]) -> str:
    return ", ".join(f'"{word.strip(chr(34))}"' for word in dict.fromkeys(words))
