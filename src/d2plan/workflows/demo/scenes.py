"""What the demo shows: who takes part, and which pictures make its gallery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from d2plan.documents import Instance, Scene
from d2plan.errors import InputError
from d2plan.world.cast import ACTIONS, CLASSES, species_of
from d2plan.world.scenery import PLACES
from d2plan.world.seeds import DEVELOPMENT_SEEDS

# Two that nobody takes for one another, nor for their neighbours: picked by eye among development seeds.
CHARACTERS = ("man:31", "dog:38")
NAMES = MappingProxyType(
    dict(
        zip(CLASSES, ("John", "Mia", "Tom", "Lia", "Rex", "Minka", "Kiki", "Bolt", "Polly", "Dash", "Pip"), strict=True)
    )
)

# They come with the package, learnt before: a second man, and a third for three at once.
GUESTS = (("Sam", "man", 60), ("Mia", "woman", 3))
# Halves of the picture, x0, y0, x1, y1.
LEFT, RIGHT = (0.02, 0.06, 0.5, 0.98), (0.5, 0.06, 0.98, 0.98)

Box = tuple[float, float, float, float]
_SERIES_SEED, _BOXED_SEED = 50, 61
# How a story says what somebody does in the middle of its class's actions.
_VERBS = MappingProxyType(
    {
        "waving": "waves",
        "sitting": "sits",
        "singing": "sings",
        "running": "runs",
        "pouring": "pours",
        "jumping": "jumps",
    }
)


@dataclass(frozen=True)
class Character:
    """One of those whom the demo shows.

    Attributes:
        name: how the page calls it.
        class_word: its class.
        seed: of its identity, a development seed.
        identifier: the word that names it in sub-prompts.
    """

    name: str
    class_word: str
    seed: int
    identifier: str

    @property
    def stem(self) -> str:
        """Its name in paths."""
        return self.name.lower()


@dataclass(frozen=True)
class Shot:
    """One picture of the gallery: the name of its folder, a few words for people, and its scene."""

    name: str
    label: str
    scene: Scene


@dataclass(frozen=True)
class Row:
    """Pictures that belong together.

    Attributes:
        title: a heading.
        text: what they show, in plain words.
        shots: the pictures.
        changed: the instance whose sub-prompt differs from picture to picture, by index.
    """

    title: str
    text: str
    shots: tuple[Shot, ...]
    changed: int | None = None


def choose_characters(choices: Sequence[str], identifiers: Sequence[str], seed: int = 0) -> tuple[Character, Character]:
    """Read who shall take part.

    Args:
        choices: two of "class" or "class:seed", such as "dog:38".
        identifiers: the words that the base keeps for concepts.
        seed: of a character that names none.

    Returns:
        Both.

    Raises:
        InputError: there are not two of them, a class is unknown or named twice, a seed is no development seed, or
            the base keeps fewer than two identifiers.
    """
    if len(choices) != 2:
        raise InputError(f"--character: the demo shows two characters, not {len(choices)}; write it twice.")
    if len(identifiers) < 2:
        raise InputError("base: it keeps fewer than two identifiers; add some to its d2plan.json.")
    first, second = (_read_choice(choice, identifiers[place], seed) for place, choice in enumerate(choices))
    if first.class_word == second.class_word:
        raise InputError(f"--character: both are of class {first.class_word}; choose two classes.")
    return first, second


def _read_choice(choice: str, identifier: str, seed: int) -> Character:
    word, found, number = (part.strip() for part in choice.partition(":"))
    species_of(word)
    if found and not number.isdecimal():
        raise InputError(f'--character "{choice}": write CLASS or CLASS:SEED, such as dog:38.')
    own = int(number) if found else seed
    if own not in DEVELOPMENT_SEEDS:
        last = DEVELOPMENT_SEEDS[-1]
        raise InputError(f"--character {word}: seed {own} is kept for measuring; choose one of 0..{last}.")
    return Character(NAMES[word], word, own, identifier)


def choose_guests(identifiers: Sequence[str]) -> tuple[Character, ...]:
    """Name those who were learnt before.

    Args:
        identifiers: the words that the base keeps for concepts; the first two are for those who are learnt live.

    Returns:
        As many as there are words for.
    """
    return tuple(Character(*guest, word) for guest, word in zip(GUESTS, identifiers[2:], strict=False))


def plan_gallery(characters: tuple[Character, ...], adapters: Sequence[Path], base: str, seed: int) -> list[Row]:
    """Write the scenes of the gallery.

    Args:
        characters: both that are learnt live, and the guests.
        adapters: their files.
        base: as scene files name it.
        seed: of the noise; each picture's own is counted up from it.

    Returns:
        Rows in the order of the page.
    """
    one, other = characters[:2]
    drafts = _Drafts(characters, tuple(str(path) for path in adapters), base, seed * 100)
    mine, its = _deeds(one.class_word), _deeds(other.class_word)
    together = list(zip(("beach", "castle", "snow"), mine, its[1:], strict=False))
    return [
        Row(
            f"{one.name} and {other.name} together",
            "One picture, two adapters. Each knows its own character and paints only inside its own mask. Nothing was "
            "picked: these are the first seeds.",
            tuple(
                drafts.compose("together", place, {0: my_deed, 1: its_deed}) for place, my_deed, its_deed in together
            ),
        ),
        Row(
            "The base alone, for comparison",
            "The same words in one prompt, the same seeds, no adapters: the base draws somebody else each time, and "
            "may mix up who wears what.",
            tuple(drafts.draw_plain(number, *words) for number, words in enumerate(together)),
        ),
        Row(
            f"Only {other.name}'s sub-prompt changes",
            f"Same seed, same global prompt, same sub-prompt for {one.name}; only what {other.name} wears or does is "
            "another. The rest of the picture should stay as it is.",
            tuple(drafts.compose("changed", "forest", {0: mine[0], 1: deed}, seed=_SERIES_SEED) for deed in its[1:]),
            changed=1,
        ),
        *(
            Row(
                f"{who.name} alone",
                f"{who.name} in three places. Its sub-prompt says no more than identifier, class word, and what it "
                "wears or does; what it looks like comes from its adapter.",
                tuple(
                    drafts.compose(f"alone-{who.stem}", place, {index: deed})
                    for place, deed in zip(("beach", "snow", "castle"), deeds, strict=False)
                ),
            )
            for index, (who, deeds) in enumerate(zip((one, other), (mine, its), strict=True))
        ),
        *_plan_guests(drafts, characters),
        Row(
            "Where the boxes say",
            f"Same words, same seed: once without boxes, then with {one.name}'s box (dashed) on the left and "
            f"{other.name}'s on the right, then the other way round. A short warm-up leaves the layout to them.",
            tuple(
                drafts.arrange("snow", {0: mine[1], 1: its[3]}, sides) for sides in ((), (LEFT, RIGHT), (RIGHT, LEFT))
            ),
        ),
    ]


def _plan_guests(drafts: _Drafts, characters: tuple[Character, ...]) -> Iterator[Row]:
    """Plan what needs more than two: two of one class, three at once."""
    live, guests = characters[:2], characters[2:]
    alike = [
        (a, b) for a, one in enumerate(live) for b, guest in enumerate(guests, 2) if guest.class_word == one.class_word
    ]
    for a, b in alike[:1]:
        one, guest = characters[a], characters[b]
        mine, its = _deeds(one.class_word), ("wearing a yellow hat", ACTIONS[guest.class_word][3], "wearing a blue bow")
        yield Row(
            f"Two of one class: {one.name} and {guest.name}",
            f'Both are "a {one.class_word}" in the global prompt. {guest.name} was learnt before; the adapter comes '
            f"with d2plan. The first that is named stands on the left.",
            tuple(
                drafts.compose("alike", place, {a: deed, b: other})
                for place, deed, other in zip(("city", "desert", "forest"), mine, its, strict=False)
            ),
        )
    words = {who.class_word for who in live}
    third = next((place for place, guest in enumerate(guests, 2) if guest.class_word not in words), None)
    if third is not None:
        yield Row(
            "Three at once",
            "Five rows in each call of the U-Net: without prompt, the global one, and one for each of the three.",
            tuple(
                drafts.compose("three", place, {0: deed, 1: its, third: "wearing a green crown"})
                for place, deed, its in zip(
                    ("beach", "snow", "city"), _deeds(live[0].class_word), _deeds(live[1].class_word)[1:], strict=False
                )
            ),
        )


def tell_film(characters: tuple[Character, ...]) -> str:
    """Tell the story of the short film at the end.

    Args:
        characters: both that are learnt live, and the guests, who take no part.

    Returns:
        Plain words for the planner, of four moments; chosen by eye among seven with the seed and the characters that
        the demo has unless others are named.
    """
    one, other = characters[:2]
    mine, its = (_VERBS[ACTIONS[who.class_word][2]] for who in (one, other))
    return (
        f"{other.name} {its} next to {one.name} on the beach. Then {one.name} {mine}. Then {other.name} puts on a blue "
        f"hat. Then {one.name} puts on a red hat."
    )


def _deeds(class_word: str) -> tuple[str, str, str, str]:
    """What a character wears or does, one after the other."""
    actions = ACTIONS[class_word]
    return "wearing black sunglasses", actions[1], "wearing a red scarf", actions[2]


def _shorten(deed: str) -> str:
    return deed.removeprefix("wearing ").removeprefix("a ")


class _Drafts:
    """Writes the shots one after the other and numbers them."""

    def __init__(self, characters: tuple[Character, ...], adapters: tuple[str, ...], base: str, seed: int) -> None:
        self.characters = characters
        self.adapters = adapters
        self.base = base
        self.seed = seed
        self.count = 0
        self.first: dict[int, tuple[Instance, ...]] = {}

    def compose(self, name: str, place: str, deeds: dict[int, str], seed: int | None = None) -> Shot:
        """Draft a picture of the characters named by index, each with what it does."""
        scene = self._write_scene(place, deeds)
        label = ", ".join(f"{self.characters[index].name}: {_shorten(deed)}" for index, deed in deeds.items())
        # Pictures that share their seed keep what they say alike, as those of a series do.
        first = () if seed is None else self.first.setdefault(seed, scene.instances)
        scene = scene.model_copy(update={"variant_of": first})
        return self._number(f"{name}-{place}", label, scene, self.count if seed is None else seed)

    def arrange(self, place: str, deeds: dict[int, str], boxes: Sequence[Box]) -> Shot:
        """Draft a picture of characters each of whom has a box, LEFT or RIGHT; without boxes one as any other."""
        scene, label = self._write_scene(place, deeds).model_copy(update={"masks": "attention"}), "no boxes"
        if boxes:
            pairs = zip(scene.instances, boxes, strict=True)
            instances = tuple(item.model_copy(update={"box": box}) for item, box in pairs)
            scene = scene.model_copy(update={"instances": instances})
            sides = ("left" if box == LEFT else "right" for box in boxes)
            label = "boxes: " + ", ".join(
                f"{self.characters[who].name} {side}" for who, side in zip(deeds, sides, strict=True)
            )
        return self._number(f"boxes-{place}", label, scene, _BOXED_SEED)

    def _write_scene(self, place: str, deeds: dict[int, str]) -> Scene:
        whos = [self.characters[index] for index in deeds]
        instances = tuple(
            Instance(
                concept=self.adapters[index],
                class_word=who.class_word,
                sub_prompt=f"a photo of a {who.identifier} {who.class_word} {deeds[index]}",
            )
            for index, who in zip(deeds, whos, strict=True)
        )
        said = [f"a {who.class_word}" for who in whos]
        listed = said if len(said) < 3 else [", ".join(said[:-1]), said[-1]]
        prompt = f"a photo of {' and '.join(listed)} {PLACES[place][0]}"
        return Scene(base=self.base, global_prompt=prompt, instances=instances)

    def draw_plain(self, seed: int, place: str, *deeds: str) -> Shot:
        """Draft a picture by the base alone, with everything in one prompt."""
        said = [f"a {who.class_word} {deed}" for who, deed in zip(self.characters[:2], deeds, strict=True)]
        prompt = f"a photo of {' and '.join(said)} {PLACES[place][0]}"
        label = f"base alone: {', '.join(_shorten(deed) for deed in deeds)}"
        return self._number(f"plain-{place}", label, Scene(base=self.base, global_prompt=prompt), seed)

    def _number(self, name: str, label: str, scene: Scene, seed: int) -> Shot:
        self.count += 1
        return Shot(f"{self.count:02d}-{name}", label, scene.model_copy(update={"seed": self.seed + seed}))
