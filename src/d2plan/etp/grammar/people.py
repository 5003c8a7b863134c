"""Whom a story means: names, "the dog", "he", "both", "the other one"."""

from collections.abc import Callable, Iterable, Sequence

from d2plan.errors import InputError
from d2plan.etp.grammar.chunks import Who
from d2plan.etp.grammar.sexes import CLEAR, Sexes
from d2plan.etp.plan import KnownConcept
from d2plan.etp.planner import list_names

# "The bigger one" is the man rather than the girl, the dog rather than the bird.
_SIZES = ("bird", "teapot", "backpack", "cat", "dog", "girl", "boy", "woman", "robot", "man", "car")
_PEOPLE = ("man", "woman", "boy", "girl")

Can = Callable[[int], bool]


class People(Sexes):
    """Keeps who was spoken of, and finds who is meant.

    Args:
        concepts: who is known.
    """

    def __init__(self, concepts: Sequence[KnownConcept]) -> None:
        super().__init__(concepts)
        self.cast: list[int] = []
        self.recent: list[int] = []
        self.subjects: list[int] = []
        self.objects: list[int] = []
        self.positions: dict[int, str] = {}
        self.notes: list[str] = []
        self.named: list[int] = []
        self.called: list[int] = []
        self.owners: list[int] = []
        self.guesses: dict[int, str] = {}
        self.heard: list[Who] = []
        self.coming: list[Who] = []

    def find(
        self, who: Who, can: Can | None = None, besides: Iterable[int] = (), marked: Can | None = None
    ) -> list[int]:
        """Find who is meant, and remember that they take part.

        Args:
            who: the words.
            can: whether somebody can do what is told, to choose among several.
            besides: who cannot be meant, such as the subject in "he sees him".
            marked: whether somebody wears or does what tells them from others, as in "the girl in the red hat".

        Returns:
            Their numbers among the concepts; empty for "nobody".

        Raises:
            InputError: nobody known is meant; the sentence says who is known.
        """
        reflexive = who.head == "pronoun" and who.text.lower().endswith(("self", "selves"))
        found = list(besides) if reflexive else self._find_marked(who, marked) or self._find(who, can, list(besides))
        for index in found:
            if index not in self.cast:
                self.cast.append(index)
            if index in self.recent:
                self.recent.remove(index)
            self.recent.insert(0, index)
        return found

    def name(self, index: int) -> str:
        """Give somebody's name."""
        return self.concepts[index].name

    def note(self, text: str) -> None:
        """Keep a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def _find_marked(self, who: Who, marked: Can | None) -> list[int]:
        """Find the only one of several who wears or does what the words say; nobody where that tells nothing."""
        if who.meant:
            return list(who.meant)
        if marked is None or who.fresh or who.head not in ("class", "singles", "one"):
            return []
        words = [] if who.head == "one" else who.value.split()
        found = [index for index in self._of(words) if index in self.cast and marked(index)]
        who.meant = (found[0],) if len(found) == 1 else ()
        return list(who.meant)

    def _find(self, who: Who, can: Can | None, besides: list[int]) -> list[int]:
        if who.head == "name":
            return [self._find_name(who)]
        if who.head in ("class", "singles"):
            return self._find_class(who, who.value.split() if who.head == "singles" else [who.value], can, besides)
        if who.head in ("classes", "groups"):
            return self._find_group(who, who.value.split())
        if who.head in ("everyone", "nobody"):
            return self._find_all(who)
        if who.head == "one":
            return self._find_class(who, [], can)
        if who.head == "rest":
            return self._find_rest(who)
        if who.head == "companion":
            return self._find_companion(who)
        return self._find_pronoun(who, can, besides)

    def _find_name(self, who: Who) -> int:
        index = int(who.value)
        word = self.word(index)
        if who.said_class and word and who.said_class != word:
            raise InputError(
                f"The story calls {self.name(index)} a {who.said_class}, but {self.name(index)} is a {word}."
            )
        return index

    def _of(self, words: Sequence[str]) -> list[int]:
        """List who is of some classes; those spoken of first come first."""
        order = self.cast + [index for index in range(len(self.concepts)) if index not in self.cast]
        return [index for index in order if not words or self.word(index) in words]

    def _find_class(self, who: Who, words: Sequence[str], can: Can | None, besides: Sequence[int] = ()) -> list[int]:
        fitting = self._of(words)
        fitting = [index for index in fitting if index not in besides] or fitting
        present = [index for index in fitting if index in self.cast]
        if not fitting:
            raise self._unknown(who.text)
        if who.ordinal == 0 or who.text.lower().startswith("another"):
            return [self._find_other(who, fitting, present)]
        if who.ordinal > 0:
            return [self._count_to(who, present if len(present) >= who.ordinal else fitting)]
        if who.size and len(present or fitting) > 1:
            return self._find_size(who, present or fitting)
        if who.side and len(present or fitting) > 1:
            return self._find_side(who, present or fitting)
        if who.number > 1:
            return self._find_group(who, words)
        if who.number == 1 and len(present) > 1:
            able = [index for index in present if can is None or can(index)] or present
            self.note(f'"{who.text}" is taken as {self.name(able[0])}; write the name if not.')
            return able[:1]
        if who.fresh and present and len(fitting) > len(present) and len(words) == 1:
            present = [index for index in fitting if index not in self.cast][:1]
        return present if len(present) == 1 else self._pick(who, present or fitting, can)

    def _count_to(self, who: Who, line: list[int]) -> int:
        """Find "the first dog" among those that the story spoke of, else among all that are known."""
        if len(line) < who.ordinal:
            raise InputError(f'The story speaks of "{who.text}", but only {len(line)} are known.')
        return line[who.ordinal - 1]

    def _pick(self, who: Who, choices: list[int], can: Can | None) -> list[int]:
        able = [index for index in choices if can is None or can(index)] or choices
        chosen = next((index for index in self.recent if index in able), able[0])
        if len(choices) > 1:
            others = [self.name(index) for index in choices if index != chosen]
            self.note(
                f'"{who.text}" is taken as {self.name(chosen)}, not {" or ".join(others)}; write the name if not.'
            )
        return [chosen]

    def _find_size(self, who: Who, choices: list[int]) -> list[int]:
        """Find "the bigger one" of two kinds; of two of one kind it is a guess."""
        bigger = who.size == "bigger"
        rank = {index: _SIZES.index(self.word(index)) if self.word(index) in _SIZES else 0 for index in choices}
        chosen = max(choices, key=lambda index: rank[index] if bigger else -rank[index])
        others = " or ".join(self.name(index) for index in choices if index != chosen)
        self.note(f'"{who.text}" ({who.size}) is taken as {self.name(chosen)}, not {others}; write the name if not.')
        return [chosen]

    def _find_side(self, who: Who, choices: list[int]) -> list[int]:
        """Find "the dog on the left"; where nobody's place was told, those named first stand left."""
        standing = [index for index in choices if self.positions.get(index) == who.side]
        free = [index for index in choices if index not in self.positions]
        if not standing and not free:
            raise InputError(f'The story speaks of "{who.text}", but nobody of that kind stands {who.side}.')
        chosen = standing[0] if standing else free[-1 if who.side == "right" else 0]
        self.positions[chosen] = who.side
        if not standing and len(free) > 1:
            self.note(f'"{who.text}" ({who.side}) is taken as {self.name(chosen)}; write the name if not.')
        return [chosen]

    def _find_other(self, who: Who, fitting: list[int], present: list[int]) -> int:
        last = self.subjects[0] if self.subjects else (self.recent[0] if self.recent else -1)
        others = [index for index in (present if len(present) > 1 else fitting) if index != last]
        # "One of the girls jumps, the other one waves": another girl, where there is one.
        alike = [index for index in others if last >= 0 and self.word(index) == self.word(last)]
        others = alike if len(present) < 2 and alike else others
        if not others:
            raise self._unknown(who.text)
        if len(others) > 1 and not any(index in self.cast for index in others):
            self.note(f'"{who.text}" is taken as {self.name(others[0])}; write the name if not.')
        return others[0]

    def _find_group(self, who: Who, words: Sequence[str]) -> list[int]:
        fitting = self._of(words)
        present = [index for index in fitting if index in self.cast]
        wanted = who.number
        if not fitting:
            raise self._unknown(who.text)
        if wanted:
            chosen = present if len(present) == wanted else fitting
            if len(chosen) < wanted:
                raise InputError(
                    f'The story speaks of "{who.text}", but only {len(chosen)} such '
                    f"{'is' if len(chosen) == 1 else 'are'} known ({', '.join(self.name(index) for index in chosen)})."
                )
            if len(chosen) > wanted:
                self.note(
                    f'"{who.text}" are taken as {" and ".join(self.name(index) for index in chosen[:wanted])}; write '
                    "the names if not."
                )
            return chosen[:wanted]
        if len(present) > 1:
            return present
        if len(fitting) < 2:
            # "The birds are singing" somewhere.
            self.note(f'"{who.text}" are left out: only {self.name(fitting[0])} is known of that kind.')
            return []
        return fitting

    def _find_all(self, who: Who) -> list[int]:
        everybody = list(range(len(self.concepts)))
        # Where many are known, "everyone" is who a story names.
        named = self.named if len(self.named) > 1 or len(everybody) > len(_PEOPLE) else []
        known = self.cast or named or everybody
        low = who.text.lower()
        if known is named and len(named) < len(everybody):
            self.note(f'"{who.text}" are taken as {" and ".join(map(self.name, named))}, who are named; write others.')
        if known is everybody and len(known) > 2:
            self.note(f'"{who.text}" are taken as all known characters; write the names if not.')
        if who.number > 2 and len(known) != who.number:
            raise InputError(f'The story speaks of "{who.text}", but {len(known)} were named before.')
        if ("both" in low or who.number == 2 or "two" in low or "pair" in low or "couple" in low) and len(known) != 2:
            if len(self.subjects) == 2:
                return list(self.subjects)
            if len(known) > 2:
                known = self.recent[:2]
            elif len(self.concepts) == 2:
                known = [0, 1]
            if not known:
                raise self._unknown(who.text)
            names = " and ".join(self.name(index) for index in known)
            self.note(f'"{who.text}" are taken as {names}; write the names if not.')
        return list(known)

    def _find_companion(self, who: Who) -> list[int]:
        others = [index for index in self.cast if index not in self.subjects]
        if len(others) == 1:
            return others
        if not others and len(self.concepts) == 2 and self.subjects:
            return [index for index in range(2) if index not in self.subjects]
        raise self._unknown(who.text)

    def _find_rest(self, who: Who) -> list[int]:
        """Find "the others": all that take part, but those of whom was told last."""
        fitting = [index for index in self.subjects or self.recent if who.value and self.fits(index, who.value)]
        owner = sorted(fitting, key=lambda index: -self._sure(index, who.value))[:1] or self.subjects
        few = range(len(self.concepts)) if len(self.concepts) <= len(_PEOPLE) else ()
        known = self.cast, *((self.named, few) if owner else ())
        others = next(filter(None, ([index for index in some if index not in owner] for some in known)), [])
        if not others:
            raise InputError(f'The story does not say who "{who.text}" is; write the names.')
        self.note(f'"{who.text}" is taken as {" and ".join(self.name(index) for index in others)}.')
        return others

    def find_own(self, who: Who, subjects: Sequence[int]) -> list[int]:
        """Find whose head "on her head" is: the subject's own, where the word fits, else somebody else's.

        Args:
            who: the words.
            subjects: who acts.

        Returns:
            Their numbers among the concepts.
        """
        if who.value == "they" and subjects and not who.ahead:
            return list(subjects)
        fitting = [index for index in subjects if self.fits(index, who.value)]
        rivals = [index for index in self.recent if index not in subjects and self.fits(index, who.value)]
        surer = fitting and any(self._sure(index, who.value) > self._sure(fitting[0], who.value) for index in rivals)
        if not fitting or surer or (who.ahead and rivals):
            return self.find(who, besides=subjects)
        if any(self._sure(index, who.value) == self._sure(fitting[0], who.value) for index in rivals):
            self.note(f'"{who.text}" is taken as {self.name(fitting[0])}\'s own; write the name if not.')
        return fitting

    def peek(self, whos: Iterable[Who]) -> list[int]:
        """Say who is meant by names and nouns that are told elsewhere, without letting them take part.

        Args:
            whos: the words; pronouns are passed over.

        Returns:
            Their numbers among the concepts.
        """
        found: list[int] = []
        for who in whos:
            if who.head == "name":
                found.append(int(who.value))
            elif who.head in ("class", "singles", "classes", "groups"):
                found += self._of(who.value.split())[: 1 if who.head in ("class", "singles") else None]
        return list(dict.fromkeys(found))

    def _find_pronoun(self, who: Who, can: Can | None, besides: list[int]) -> list[int]:
        if not (self.cast or self.heard or self.coming or self.owners):
            raise InputError(f'The story says "{who.text}" before anybody was named; name them first.')
        if who.number == 1 or who.ordinal >= 0:
            return self._find_class(who, [], can)
        heard, coming = self.peek(self.heard), self.peek(self.coming)
        if who.value == "they" and len(self.cast) < 2 and len(heard + coming) > 1:
            return self._leave_out(who, heard if len(heard) > 1 else coming, can)
        if who.value == "they":
            several = self._find_several(besides)
            others = [index for index in dict.fromkeys(self.objects) if index not in self.subjects]
            if len(others) > 1 and others != several:
                those, these = (" and ".join(map(self.name, some)) for some in (several, others))
                self.note(f'"{who.text}" are taken as {those}, not {these}; write the names if not.')
            return self._leave_out(who, several, can)
        order = [index for index in [*heard, *self.subjects, *self.recent] if index not in besides]
        if not any(self._sure(index, who.value) > 1 for index in order):
            # "Mia's dog sleeps. She wakes it": Mia was named, although she does nothing yet.
            order += [index for index in self.owners if self._sure(index, who.value) > 1]
            # "When she waves, Emma smiles": nobody before fits well, somebody behind may.
            order += [index for index in coming if self._sure(index, who.value) > 1 or not order]
        return self._choose(who, order, can)

    def _find_several(self, besides: list[int]) -> list[int]:
        if len(self.subjects) > 1 and not set(besides) & set(self.subjects):
            return list(self.subjects)
        others = [index for index in self.cast if index not in besides]
        return others if len(self.cast) > 1 else list(self.cast)

    def _leave_out(self, who: Who, found: list[int], can: Can | None) -> list[int]:
        able = [index for index in found if can is None or can(index)]
        if not able or len(able) == len(found):
            return found
        rest = " and ".join(self.name(index) for index in found if index not in able)
        self.note(f'"{who.text}" are taken as {" and ".join(self.name(index) for index in able)}, without {rest}.')
        return able

    def _choose(self, who: Who, order: list[int], can: Can | None) -> list[int]:
        fitting = [index for index in dict.fromkeys(order) if self.fits(index, who.value)]
        # "He jumps, she sits" are two, even where nobody's sex is known.
        fitting = [index for index in fitting if self.guesses.get(index, who.value) == who.value] or fitting
        things = [index for index in dict.fromkeys(order) if self.word(index) in CLEAR]
        acts = can is not None and len(things) == 1 and can(things[0]) and not any(map(can, fitting))
        if (not fitting or acts) and len(things) == 1 and who.value in ("he", "she"):
            # "Turbo stops. He is tired": in stories things are somebody.
            self.note(f'"{who.text}" is taken as {self.name(things[0])}; write the name if not.')
            fitting = things
        fitting = fitting or self._find_it(who, order) or (things[:1] if who.value in ("he", "she") else [])
        if not fitting:
            raise InputError(f'The story says "{who.text}", but nobody before fits that; write the name.')
        able = [index for index in fitting if can is None or can(index)] or fitting
        # He is the man rather than the dog, however far away the man was named.
        chosen = max(able, key=lambda index: self._sex(index, who.value))
        talked = [index for index in self.subjects if index in able and index != chosen]
        if talked and self._sex(chosen, who.value) > self._sex(talked[0], who.value):
            self.note(
                f'"{who.text}" is taken as {self.name(chosen)}, not {self.name(talked[0])}; write the name if not.'
            )
        surest = max(fitting, key=lambda index: self._sex(index, who.value))
        if len(able) > 1 and self._sex(surest, who.value) > self._sex(chosen, who.value):
            self.note(f'"{who.text}" is taken as {self.name(chosen)}, not {self.name(surest)}; write the name if not.')
        if who.value == "it":
            # "It" for a person's dog is the rule, for a robot's owner it is not: things and animals come first.
            chosen = next((index for index in able if self.word(index) not in _PEOPLE), chosen)
        rivals = [
            index for index in able if index != chosen and self._sure(index, who.value) >= self._sure(chosen, who.value)
        ]
        near = (
            not self.subjects
            or chosen not in self.subjects
            or any(index in self.subjects or index in self.objects for index in rivals)
        )
        if rivals and (near or self._sure(chosen, who.value) < 2):
            self.note(
                f'"{who.text}" is taken as {self.name(chosen)}, not {self.name(rivals[0])}; write the name if not.'
            )
        if rivals and who.value != "it":
            self.guesses.setdefault(chosen, who.value)
        elif not rivals:
            self.genders.setdefault(chosen, who.value)
        return [chosen]

    def _find_it(self, who: Who, order: list[int]) -> list[int]:
        """Find the dog that is "it" and "he" in one story."""
        found = [index for index in dict.fromkeys(order) if self.genders.get(index) == "it"][:1]
        for index in found if who.value in ("he", "she") else []:
            self.note(f'"{who.text}" is taken as {self.name(index)}; write the name if not.')
            return found
        return []

    def _unknown(self, text: str) -> InputError:
        return InputError(f'The story speaks of "{text}", but the known characters are {list_names(self.concepts)}.')
