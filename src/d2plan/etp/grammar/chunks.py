"""What sentences are made of: who, what is worn, where, and groups of verbs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from d2plan.etp.grammar.words import Item

VERBS = (
    "action copies ending halting waking moves appears vanishes stays starts wishes stops causes urges looks mute "
    "wears gets loses shifts gives takes swaps turns falls be have do"
).split()


@dataclass
class Chunk:
    """A piece of a sentence.

    Attributes:
        kind: join, comma, stop, mark, relative, light, light_change, position, relation, state, prep, particle,
            negation, colour, unknown, other, filler, quote; or who, gear, place, verb for the classes below.
        text: as it stands in the story.
        value: which one of its kind.
    """

    kind: str
    text: str
    value: str = ""


@dataclass
class Who(Chunk):
    """Somebody who is meant.

    Attributes:
        head: name, class, classes, groups, singles, companion, pronoun, everyone, nobody, one.
        said_class: the class that an apposition gives to a name, such as "Rex the dog".
        number: how many, 0 where nothing is said.
        ordinal: which of several; 0 is "the other one", -1 where nothing is said.
        fresh: introduced by "a" or "another".
        doing: an action that stands before the noun, such as "the sleeping dog".
        side: "left" or "right" where it tells which of several is meant.
        size: "bigger" or "smaller" where that tells which of several is meant.
        extras: words that no picture shows, such as "little".
        meant: who it is, where that was found by what they wear or do.
        owner: whose friend or dog it is; None where nothing is said.
        aside: words that are taken to say who it is, and may name somebody else.
        described: a relative clause tells what they do.
        alone: "only Mia": the others do not.
        body: whose head or neck it is: "on his head" may be the subject's own.
        ahead: it stands before who does it, "put on her head by Mia", and so means somebody else where it can.
    """

    head: str = "name"
    said_class: str = ""
    number: int = 0
    ordinal: int = -1
    fresh: bool = False
    doing: str = ""
    side: str = ""
    size: str = ""
    extras: list[str] = field(default_factory=list)
    owner: "Who | None" = None
    aside: str = ""
    described: bool = False
    alone: bool = False
    body: bool = False
    ahead: bool = False
    meant: tuple[int, ...] = ()


@dataclass
class Gear(Chunk):
    """An accessory; its value is empty for "one", which means the last one named.

    Attributes:
        colour: its colour; empty where nothing is said.
        owner: whose; None where nothing is said.
        prep: the word before it, such as "with".
        definite: "the hat", one that is known.
        extras: words that no picture shows.
        about: the word only comes near.
        holder: who is named just before it, as in "a boy with a hat waves".
        absent: "no hat".
    """

    colour: str = ""
    owner: Who | None = None
    prep: str = ""
    definite: bool = False
    extras: list[str] = field(default_factory=list)
    about: bool = False
    holder: Who | None = None
    absent: bool = False


@dataclass
class Place(Chunk):
    """Where.

    Attributes:
        mode: at, to, from, here ("at home"), or bare where no preposition stands before it.
        about: the word only comes near.
        extras: words that no picture shows.
    """

    mode: str = "at"
    about: bool = False
    extras: list[str] = field(default_factory=list)


@dataclass
class Weather(Chunk):
    """A noun that speaks of a light, such as "night".

    Attributes:
        light: which one.
    """

    light: str = ""


@dataclass
class Verb(Chunk):
    """A group of verbs around the one that counts.

    Attributes:
        item: that one.
        finite: it can be a clause's own verb.
        ing: it stands alone in its -ing form.
        negated: with "not".
        unreal: it only may, wants to, tries to.
        aspect: "start", "stop" or empty.
        passive: something is done to the subject.
        progressive: "is running".
        infinitive: after "to".
        perfect: "had slept", before what was told.
    """

    item: Item = field(default_factory=lambda: Item(""))
    finite: bool = True
    ing: bool = False
    negated: bool = False
    unreal: bool = False
    aspect: str = ""
    passive: bool = False
    progressive: bool = False
    infinitive: bool = False
    perfect: bool = False


Reading = tuple[Chunk | None, int]


def at(items: Sequence[Item], place: int) -> Item:
    """Give an item, or an empty one behind the end."""
    return items[place] if 0 <= place < len(items) else Item("")


def verb_at(items: Sequence[Item], place: int) -> bool:
    """Say whether a verb stands at a place, adverbs skipped."""
    while at(items, place).has("adverb", "filler") and not at(items, place).has(*VERBS):
        place += 1
    return at(items, place).has(*VERBS)


def determined(items: Sequence[Item], place: int) -> bool:
    """Say whether "the" or "his" stands just before a place."""
    return at(items, place - 1).has("determiner", "possessive")
