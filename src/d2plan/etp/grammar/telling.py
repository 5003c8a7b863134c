"""What is at hand while one clause is read: who, with whom, what they wear, and what comes out of it."""

from dataclasses import dataclass, field

from d2plan.errors import InputError
from d2plan.etp.grammar.chunks import Chunk, Gear, Who
from d2plan.etp.grammar.clauses import Clause
from d2plan.etp.grammar.people import People
from d2plan.etp.grammar.stage import Change, Stage
from d2plan.world.cast import ACTIONS

_WITH = ("with", "together with", "along with", "alongside")
_NO_LONGER = (" no longer ", " any more ", " anymore ", " any longer ", " no more ")
_IN_HAIR = ("in", "round", "about")
ON_SOMEBODY = ("on", "onto", "around", "round", "over", "to", "for")


@dataclass
class Worn:
    """An accessory that was spoken of.

    Attributes:
        accessory: which.
        colour: its colour, or empty.
        owner: who had it last.
    """

    accessory: str
    colour: str
    owner: int


@dataclass
class Context:
    """The whole story so far.

    Attributes:
        people: who was spoken of.
        stage: what was seen.
        strange: words that are not understood.
        left_out: words that no picture shows.
        notes: sentences about single clauses.
        last: accessories, the last one spoken of at the end.
        marked: who was told from others by what they wear.
        opening: number of the first sentence in which anything is seen.
        unshown: what to say of deeds that nobody of that kind can be shown doing, where nothing else happens.
        nobody: number of the sentence in which somebody unknown acted last, whose deeds nobody takes over.
    """

    people: People
    stage: Stage = field(default_factory=Stage)
    strange: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    last: list[Worn] = field(default_factory=list)
    marked: set[int] = field(default_factory=set)
    opening: int = -1
    unshown: list[InputError] = field(default_factory=list)
    nobody: int = -1

    def note(self, text: str) -> None:
        """Keep a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def not_shown(self, text: str, why: str = "") -> None:
        """Note that something of the story is in no picture."""
        self.note(f'Not shown: "{text}"' + (f", {why}." if why else "."))

    def actions_of(self, index: int) -> tuple[str, ...]:
        """List what somebody can be drawn doing."""
        word = self.people.word(index)
        return ACTIONS.get(word) or tuple(dict.fromkeys(action for actions in ACTIONS.values() for action in actions))

    def rest(self, index: int) -> str:
        """Give somebody's resting pose."""
        return self.actions_of(index)[0]

    def worn(self, index: int) -> dict[str, str]:
        """Give what somebody wears now."""
        figure = self.stage.now.figures.get(index)
        return figure.gear if figure else {}


@dataclass
class Telling:
    """One clause on its way to changes.

    Attributes:
        clause: as found.
        subjects: who does it.
        objects: whom else it names, each with the word before and its chunk.
        gears: the accessories it names and that were not used yet.
        whose: who is meant by each of the words for subjects.
        particle: "on", "off" or empty.
        changes: what comes out.
        moving: something happens, so that a sentence of its own is a moment of its own.
        shown: something of it could be shown or was noted.
    """

    clause: Clause
    subjects: list[int] = field(default_factory=list)
    objects: list[tuple[str, Who, list[int]]] = field(default_factory=list)
    gears: list[Gear] = field(default_factory=list)
    whose: list[tuple[Who, list[int]]] = field(default_factory=list)
    particle: str = ""
    changes: list[Change] = field(default_factory=list)
    moving: bool = False
    shown: bool = False

    @property
    def no_longer(self) -> bool:
        """Whether something was so before, and is not any more."""
        return any(words in f" {self.clause.text.lower()} " for words in _NO_LONGER)

    @property
    def direct(self) -> list[int]:
        """Whom the verb is about."""
        return [index for prep, _, found in self.objects if not prep for index in found]

    @property
    def companions(self) -> list[int]:
        """Who does it too."""
        return [index for prep, _, found in self.objects if prep in _WITH for index in found]

    @property
    def equals(self) -> list[int]:
        """Who does it too even where nothing moves: "sits with Mia", but not "sits with his dog"."""
        return [
            index
            for prep, who, found in self.objects
            if prep in _WITH[:3] and who.text.lower().split()[0] not in ("his", "her", "its", "their", "my")
            for index in found
        ]

    @property
    def targets(self) -> list[int]:
        """On whom, to whom."""
        return [
            index
            for prep, who, found in self.objects
            if prep in ON_SOMEBODY or (who.body and prep in _IN_HAIR)
            for index in found
        ]

    @property
    def sources(self) -> list[int]:
        """From whom."""
        return [index for prep, _, found in self.objects if prep in ("from", "off") for index in found]

    def add(self, change: Change) -> None:
        """Keep a change; of an accessory that nobody named nothing can be said."""
        if not change.dimension[1]:
            return
        self.changes.append(change)
        self.shown = True


def word_before(parts: list[Chunk], place: int, start: int = 0) -> str:
    """Give the preposition that stands before a part, behind the start, also before the first of "John and Mia"."""
    while place > start:
        place -= 1
        kind = parts[place].kind
        if kind == "prep" or (
            kind in ("particle", "filler") and parts[place].text.lower() in ("on", "off", "to", "from", "for", "with")
        ):
            return parts[place].text.lower()
        if kind not in ("comma", "join", "who"):
            return ""
    return ""


def impossible(context: Context, index: int, said: str) -> InputError:
    """Say that somebody cannot be drawn as the story wants it."""
    people = context.people
    return InputError(
        f'The story says "{said}" of {people.name(index)}, but a {people.word(index)} cannot be shown so; it can be '
        f"{', '.join(context.actions_of(index))}."
    )
