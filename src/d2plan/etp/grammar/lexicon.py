"""The words that the grammar knows: phrases in all their forms, each with what it may mean."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import cast

from d2plan.documents import read_yaml

Senses = dict[str, str]
_FILE = Path(__file__).with_name("words.yaml")
_VOWELS = "aeiou"
_BE = {"be": "base", "am": "s", "is": "s", "are": "s", "was": "past", "were": "past", "been": "part", "being": "ing"}
_PLAIN_VERBS = (
    "copies ending halting waking moves appears vanishes stays starts wishes stops causes urges looks mute wears gets "
    "loses shifts gives takes swaps turns falls"
).split()
_PLAIN_LISTS = {
    "everyone": "everyone",
    "nobody": "nobody",
    "companions": "companion",
    "feelings": "adverb",
    "kin": "kin",
    "all_gear": "all_gear",
    "reversals": "reversal",
    "garments": "garment",
    "other_colours": "other_colour",
    "scenery": "scenery",
    "strangers": "stranger",
    "props": "prop",
    "joins": "join",
    "relatives": "relative",
    "determiners": "determiner",
    "nots": "not",
    "excepts": "except",
    "rests": "rest",
    "modals": "modal",
    "unreal": "unreal",
    "beside": "beside",
    "apart": "apart",
    "places_prepositions": "at",
    "ways": "way",
    "adjectives": "adjective",
    "adverbs": "adverb",
    "fillers": "filler",
    "bodies": "body",
}


@dataclass
class Entry:
    """A phrase of the language.

    Attributes:
        senses: what it may be, and which one of that kind, such as {"action": "running"}.
        forms: of its verb: base, s, ing, past, part.
    """

    senses: Senses = field(default_factory=dict)
    forms: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Lexicon:
    """All phrases.

    Attributes:
        phrases: by their words in lower case.
        longest: words of the longest phrase.
        creatures: nouns of whom a user expects to see, although nobody can be drawn as such.
    """

    phrases: Mapping[tuple[str, ...], Entry]
    longest: int
    creatures: frozenset[str]


class _Builder:
    def __init__(self, data: dict[str, object]) -> None:
        self.data = data
        self.phrases: dict[tuple[str, ...], Entry] = {}
        self.irregular = cast(dict[str, list[str]], data["irregular"])
        self.doubling = set(cast(list[str], data["doubling"]))

    def add(self, phrase: str, kind: str, value: str = "") -> None:
        entry = self.phrases.setdefault(tuple(phrase.lower().split()), Entry())
        entry.senses.setdefault(kind, value)

    def add_noun(self, phrase: str, kind: str, value: str) -> None:
        """Add a noun, also as people run its two words together: "livingroom", "living-room"."""
        self.add(phrase, kind, value)
        words = phrase.split()
        if len(words) == 2 and all(word.isalpha() and len(word) > 2 for word in words):
            self.add("".join(words), kind, value)
            self.add("-".join(words), kind, value)

    def add_verb(self, phrase: str, kind: str, value: str = "") -> None:
        first, *rest = phrase.lower().split()
        for form, word in self.inflect(first):
            entry = self.phrases.setdefault((word, *rest), Entry())
            entry.senses.setdefault(kind, value or phrase)
            entry.forms.add(form)

    def inflect(self, verb: str) -> Iterator[tuple[str, str]]:
        if verb == "be":
            yield from ((form, word) for word, form in _BE.items())
            return
        yield "base", verb
        yield "s", "has" if verb == "have" else _third(verb)
        past, part, *ing = self.irregular.get(verb, [])[:3] or [self._past(verb)] * 2
        yield "past", past
        yield "part", part
        yield "ing", ing[0] if ing else self._ing(verb)

    def _past(self, verb: str) -> str:
        if verb.endswith("e"):
            return verb + "d"
        if verb.endswith("y") and verb[-2] not in _VOWELS:
            return verb[:-1] + "ied"
        return (verb + verb[-1] if verb in self.doubling else verb) + "ed"

    def _ing(self, verb: str) -> str:
        if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
            return verb[:-1] + "ing"
        return (verb + verb[-1] if verb in self.doubling else verb) + "ing"


@cache
def load_lexicon() -> Lexicon:
    """Read the words and write out their forms.

    Returns:
        The lexicon; the same object every time, to be read only.
    """
    builder = _Builder(cast(dict[str, object], read_yaml(_FILE)))
    _add_things(builder)
    _add_plain_things(builder)
    _add_verbs(builder)
    _add_small_words(builder)
    _add_light(builder)
    _add_light_nouns(builder)
    creatures = frozenset(cast(list[str], builder.data["creatures"]))
    return Lexicon(builder.phrases, max(map(len, builder.phrases)), creatures)


def _add_things(builder: _Builder) -> None:
    for word, names in _lists(builder, "classes"):
        for name in names:
            builder.add_noun(name, "class", word)
            builder.add_noun(_plural(name), "classes", word)
    for group, kind in (("accessories", "gear"), ("places", "place"), ("lights", "light")):
        for value, words in _grades(builder, group):
            for word, grade in words:
                builder.add_noun(word, kind, value)
                if grade == "about":
                    builder.add_noun(word, "about", value)


def _add_plain_things(builder: _Builder) -> None:
    for kind in ("groups", "singles"):
        for word, classes in _lists(builder, kind):
            builder.add(word, kind, " ".join(classes))
    for colour, names in _lists(builder, "colours"):
        for name in names:
            builder.add(name, "colour", colour)
    for table, kind in (("light_words", "light_word"), ("sizes", "size"), ("implied", "implied")):
        for value, words in _lists(builder, table):
            for word in words:
                builder.add(word, kind, value)
                if kind == "implied":
                    builder.add(word, "adverb")
    for word, place in cast(dict[str, str], builder.data["here"]).items():
        builder.add(word, "here", place)


def _add_verbs(builder: _Builder) -> None:
    for action, words in _grades(builder, "actions"):
        for word, grade in words:
            builder.add_verb(word, "action", action)
            if grade == "about":
                builder.add_verb(word, "about", action)
    for kind in _PLAIN_VERBS:
        for word in cast(list[str], builder.data[kind]):
            builder.add_verb(word, kind)
    for word, kind in (("be", "be"), ("have", "have"), ("do", "do")):
        builder.add_verb(word, kind)
    for word, action in cast(dict[str, str], builder.data["states"]).items():
        builder.add(word, "state", action)


def _add_small_words(builder: _Builder) -> None:
    for table, kind in _PLAIN_LISTS.items():
        for word in cast(list[str], builder.data[table]):
            builder.add(word, kind)
    for table, kind in (("marks", "mark"), ("positions", "position"), ("relations", "relation")):
        for value, words in _lists(builder, table):
            for word in words:
                builder.add(word, kind, value)
    for table, kind in (("possessives", "possessive"), ("pronouns", "pronoun"), ("numbers", "number")):
        for spoken, meant in cast(dict[str, object], builder.data[table]).items():
            builder.add(spoken, kind, str(meant))
    for word, number in (
        ("first", 1),
        ("second", 2),
        ("third", 3),
        ("fourth", 4),
        ("other", 0),
        ("latter", 2),
        ("former", 1),
    ):
        builder.add(word, "ordinal", str(number))
    builder.add("to", "to")


def _add_light(builder: _Builder) -> None:
    """Write out what changes the light, with its verb in every form that a story may use."""
    verbs = {
        form: (first, kind)
        for first in (
            "rise come shine break become be get stop end begin set go fall start grow turn pass clear pour rain "
            "arrive drizzle open gather roll blow appear return give descend fill darken strike sink dip disappear "
            "settle glow part improve dawn let ease die lift"
        ).split()
        for kind, form in builder.inflect(first)
    }
    for light, phrases in _lists(builder, "light_changes"):
        for phrase in phrases:
            words = phrase.split()
            place = _find_verb(words, verbs)
            base = verbs[words[place]][0]
            before, after = " ".join(words[:place]), " ".join(words[place + 1 :])
            forms = dict(builder.inflect(base))
            spoken = [forms["s"], forms["past"], forms["base"]]
            if base == "be":
                spoken = ["is", "was"]
            else:
                spoken += [
                    f"is {forms['ing']}",
                    f"was {forms['ing']}",
                    f"has {forms['part']}",
                    f"had {forms['part']}",
                    f"has been {forms['ing']}",
                    f"had been {forms['ing']}",
                    forms["ing"],
                    f"will {base}",
                ]
            for verb in spoken:
                builder.add(f"{before} {verb} {after}", "light_change", light)


def _find_verb(words: list[str], verbs: Mapping[str, tuple[str, str]]) -> int:
    """Find the verb of "the rain is gone", in which "rain" is none."""
    places = [place for place, word in enumerate(words) if place and word in verbs]
    return next((place for place in places if words[place - 1] not in ("the", "a", "an")), places[0])


def _add_light_nouns(builder: _Builder) -> None:
    """Write out "on a rainy day", "one rainy day", "it was a rainy day"."""
    table = cast(dict[str, dict[str, list[str]]], builder.data["light_nouns"])
    for light, words in table.items():
        for adjective, noun in product(words["adjectives"], words["nouns"]):
            called = f"{adjective} {noun}".strip()
            article = "an" if called[0] in _VOWELS else "a"
            for verb in ("is", "was"):
                builder.add(f"it {verb} {article} {called}", "light_change", light)
            bare = ("on", "one") if adjective else ("on",)
            spoken = [f"{before} {article} {called}" for before in ("on", "in", "during")]
            spoken += [f"{before} {called}" for before in bare[1:]] + ([f"{article} {called}"] if adjective else [])
            for phrase in spoken:
                builder.add(phrase, "light", light)


def _lists(builder: _Builder, table: str) -> Iterator[tuple[str, list[str]]]:
    yield from cast(dict[str, list[str]], builder.data[table]).items()


def _grades(builder: _Builder, table: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for value, grades in cast(dict[str, dict[str, list[str]]], builder.data[table]).items():
        yield value, [(word, grade) for grade, words in grades.items() for word in words]


def _third(verb: str) -> str:
    if verb.endswith(("s", "sh", "ch", "x", "z", "o")):
        return verb + "es"
    return verb[:-1] + "ies" if verb.endswith("y") and verb[-2] not in _VOWELS else verb + "s"


def _plural(noun: str) -> str:
    if noun.endswith(("man", "woman")):
        return noun[:-3] + "men"
    if noun.endswith("wife"):
        return noun[:-2] + "ves"
    if noun.endswith("y") and noun[-2] not in _VOWELS:
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "sh", "ch", "x")) else "s")
