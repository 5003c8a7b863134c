"""Look around in the chunks of a story: what stands before, and what follows behind small words."""

from collections.abc import Sequence

from d2plan.etp.grammar.chunks import Chunk, Gear, Verb, Who
from d2plan.etp.grammar.clauses import AT_LAST, LAST_WORDS, Clause
from d2plan.etp.grammar.lexicon import load_lexicon
from d2plan.etp.grammar.verbs import takes_nobody

_DESCRIBING = ("prep", "gear", "place", "position", "relation")
_PROMPT = ("at once", "right away", "straight away", "straightaway", "immediately", "instantly", "all at once")
_NOT_DOING = ("self", "selves", "him", "them", "other", "another")
_AROUND = ("place", "light", "position", "comma", "filler", "other")
_NEAR = ("next to", "beside", "near", "close to", "opposite", "behind", "in front of", "right next to", "right beside")
_OBJECTS = ("it", "him", "her", "them")
SEVERAL = ("everyone", "classes", "groups", "rest")
_NOBODY = ("we", "you", "i", "u", "what", "which", "whatever", "how", "why", "where", "who")
_PREPOSITIONS = ("in", "on", "at", "with", "for", "of", "to", "from", "by", "during", "under")


class Around:
    """The chunks of a story.

    Args:
        chunks: in order.
    """

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self.chunks = chunks

    def before(self, place: int) -> Chunk:
        """Give the chunk before a place."""
        return self.at(place - 1)

    def at(self, place: int) -> Chunk:
        """Give the chunk at a place; a stop outside the story."""
        return self.chunks[place] if 0 <= place < len(self.chunks) else Chunk("stop", "")

    def after(self, place: int, skipped: tuple[str, ...] = ("filler", "other", "mark")) -> Chunk:
        """Give the first chunk behind a place that is more than a small word."""
        spot = place + 1
        while self.at(spot).kind in skipped and not (
            self.at(spot).kind == "other" and self.at(spot).value not in ("adverb", "adjective")
        ):
            spot += 1
        return self.at(spot)

    def listed(self, place: int) -> Chunk:
        """Give what stands before a list's comma or "and"."""
        spot = place - 1
        while spot > 0 and self.chunks[spot].kind in ("comma", "join"):
            spot -= 1
        return self.chunks[spot]

    def starts(self, place: int, link: str, urges: bool) -> str:
        """Say what verb follows somebody.

        Args:
            place: of somebody.
            link: "join" or "comma" where that stands before them.
            urges: whether they may be urged to do something, as in "makes him run".

        Returns:
            "finite", "ing", "infinitive", "base", or nothing where none follows.
        """
        before = self.before(place).kind
        # "Is wearing it and John stands": an object does not begin a list of subjects.
        listing = bool(link) or before in ("stop", "mark")
        spot, listed = place + 1, ""
        while spot < len(self.chunks):
            chunk = self.chunks[spot]
            if isinstance(chunk, Verb):
                return "" if listed == "comma" else _form_of(chunk, urges)
            if chunk.kind == "relative":
                return "finite" if link == "join" else ""
            if chunk.kind == "state" and before == "prep":
                # "With Ben asleep, Mia waves"
                return "ing" if spot == place + 1 and self.before(place).text.lower() == "with" else ""
            if not listing and chunk.kind == "mark" and chunk.text.lower().startswith(("and ", "but ")):
                # "Steals it and then gives ..."
                return ""
            closing = self._closes(spot)
            if (
                isinstance(chunk, Who)
                and chunk.head == "name"
                and self.at(spot - 1).kind == "who"
                and self.spells_out(spot)
            ):
                spot, listing = spot + 1, True
                continue
            coordinated = listing and chunk.kind in ("join", "comma") and not closing and spot + 1 < len(self.chunks)
            listed = chunk.kind if coordinated and listed != "join" else listed
            step = 1 if closing else self._step(spot, coordinated, link)
            if not step:
                return ""
            spot += step
        return ""

    def spells_out(self, spot: int) -> bool:
        """Find the first name of "the three children Ivy, Nell and Noah" and "the children, Ivy and Nell"."""
        former = self.listed(spot)
        return isinstance(former, Who) and former.head in SEVERAL

    def _closes(self, spot: int) -> bool:
        """Find the second comma of "and Mia, in the orange hat, is running"."""
        gear = isinstance(self.at(spot - 1), Gear)
        return self.at(spot).kind == "comma" and gear and self.after(spot).kind == "verb"

    def _step(self, spot: int, coordinated: bool, link: str) -> int:
        """Say how many chunks may stand between somebody and their verb here."""
        chunk, following = self.at(spot), self.at(spot + 1)
        if coordinated and (isinstance(following, Who) or following.kind in ("mark", "filler")):
            return 2
        # "and a boy with a red hat waves", "and the cat next to Mia sleeps"
        described = link == "join" and (chunk.kind in _DESCRIBING or self.at(spot - 1).kind == "prep")
        # "Rex on the left sleeps, Bo on the right runs."
        described = described or (link == "comma" and chunk.kind in ("position", "relation"))
        small = chunk.kind in ("filler", "mark") or (chunk.kind == "other" and chunk.value in ("adverb", "adjective"))
        return int(described or small)

    def names(self, place: int, former: Who) -> bool:
        """Tell "the boy in the red hat, Sam, stands up" from "the boy, Sam and the dog stand up"."""
        alone = former.head in ("class", "singles", "one") or former.number == 1
        behind = self.at(place + 2)
        return alone and self.at(place + 1).kind == "comma" and behind.kind in ("verb", "relative")

    def has_attribute(self, place: int) -> bool:
        """Tell "they run, she with a hat, he without one"."""
        return self.at(place + 1).text.lower() in ("with", "in", "without") and isinstance(self.at(place + 2), Gear)

    def is_placed(self, place: int) -> bool:
        """Find "and John next to him", who does the same."""
        beside, whom = self.at(place + 1), self.at(place + 2)
        near = beside.kind == "prep" and beside.text.lower() in _NEAR and isinstance(whom, Who)
        return near and self.at(place + 3).kind in ("stop", "comma")

    def begins_anew(self, place: int, clause: Clause, link: str, urges: bool) -> bool:
        """Say whether "and in the forest John waves" begins here."""
        chunk = self.at(place)
        if chunk.kind == "light_change":
            return clause.verb is not None or bool(clause.subjects)
        if isinstance(chunk, Gear) and link and clause.verb is not None:
            following = self.after(place)
            return isinstance(following, Verb) and following.finite
        if link and clause.verb is not None and self._leads_thing(place):
            return True
        if chunk.kind not in ("place", "light", "position") or not link or clause.verb is None:
            return False
        spot = place + 1
        while spot < len(self.chunks) and self.chunks[spot].kind in _AROUND:
            spot += 1
        verb = self.at(spot)
        if isinstance(verb, Verb) and takes_nobody(verb) and isinstance(self.at(spot + 1), Who):
            # "On the left sits Rex, on the right sits Mia."
            return verb.finite
        return (
            spot < len(self.chunks)
            and isinstance(self.chunks[spot], Who)
            and self.starts(spot, link, urges) == "finite"
        )

    def _leads_thing(self, place: int) -> bool:
        """Find "the wind takes it" and "a zookeeper waves at her", where nobody known begins to act."""
        spot = place
        while self.at(spot).kind == "filler" or (self.at(spot).kind == "other" and self.at(spot).value == "adjective"):
            spot += 1
        noun, following = self.at(spot), self.after(spot)
        led = spot > place and self.at(place).text.lower() in ("the", "a", "an", "some", "another")
        named = noun.kind == "unknown" and (led or noun.text[:1].isupper())
        thing = noun.value in ("scenery", "stranger") or named or (led and noun.value == "noun")
        return thing and noun.kind in ("other", "unknown") and isinstance(following, Verb) and following.finite

    def is_second(self, place: int, clause: Clause) -> bool:
        """Find the scarf of "puts a hat on Rex and a scarf on Tom"."""
        led = self.at(place + 1).kind in ("prep", "filler") and isinstance(self.at(place + 2), Who)
        behind = clause.parts[clause.split :]
        gears = [spot for spot, part in enumerate(behind) if isinstance(part, Gear) and not part.prep]
        given = bool(gears) and any(isinstance(part, Who) for part in behind[gears[0] :])
        deed = clause.verb is not None and clause.verb.item.has("shifts", "gives", "takes", "loses")
        return deed and led and given and isinstance(self.at(place), Gear)

    def does_it(self, place: int, clause: Clause) -> bool:
        """Tell "and next to it jumps a boy", who does it, from "and watches a boy"."""
        verb = clause.verb
        led = any(part.kind in ("prep", "place", "position", "relation") for part in clause.parts)
        does = verb is not None and (takes_nobody(verb) or (led and verb.item.has("be", "stays", "appears", "moves")))
        return does and self.before(place).kind == "verb" and not self.at(place).text.lower().endswith(_NOT_DOING)

    def stands_within(self, place: int, mark: Chunk) -> bool:
        """Tell "he has now a hat" and "sleeps at last in the forest" from "sleeps, now runs"."""
        verb = self.before(place)
        ends = mark.text.lower() in LAST_WORDS and mark.text.lower() not in AT_LAST
        if ends and self.at(place + 1).kind == "comma" and verb.kind in ("verb", "gear", "place", "who"):
            # "Sleeps at the end, runs at the beginning"
            return True
        if mark.text.lower() in _PROMPT and verb.kind in ("verb", "gear", "place"):
            # "Sits down at once, and Mia smiles"
            return self.at(place + 1).kind in ("comma", "join", "stop")
        if not isinstance(verb, Verb) or not (mark.text.lower() in ("now", *LAST_WORDS) or verb.item.has("be")):
            return False
        kinds = ("gear", "place", "light", "state", "colour")
        return mark.value == "next" and self.after(place).kind in kinds

    def echoes(self, place: int, link: str) -> bool:
        """Tell "and Tom too", and "Tom a little later"."""
        following, behind = self.at(place + 1), self.at(place + 2)
        too = link == "join" and following.text.lower() in ("too", "as well", "also")
        return too or (
            bool(link) and following.kind == "mark" and following.value == "next" and behind.kind in ("stop", "comma")
        )

    def lists(self, place: int) -> bool:
        """Tell "first Mia, then Tom falls asleep" from "Mia then falls asleep"."""
        return isinstance(self.after(place), Who)

    def turns_round(self, place: int, verb: Verb) -> bool:
        """Tell "and so is Ben" from "and so is wearing a hat"."""
        so = self.before(place).text.lower() in ("so", "and so") and isinstance(self.at(place + 1), Who)
        return (
            so
            and verb.item.has("be", "have")
            and self.after(place + 1, ("filler", "other")).kind in ("stop", "comma", "join", "mark")
        )

    def says_again(self, place: int, verb: Verb, clause: Clause) -> bool:
        """Tell "so does Mia", "Mia joins in" and "then she is not", which take over what was told."""
        if verb.item.has("do", "copies"):
            return True
        behind = self.after(place, ("filler", "negation", "other"))
        too = behind.kind == "comma" and self.at(place + 1).text.lower() in ("too", "as well", "also")
        alone = (too or behind.kind == "stop") and not any(
            part.kind in ("other", "state", "gear") for part in clause.parts
        )
        others = [self.at(spot).kind for spot in (place + 1, place + 2)]
        bare = all(kind in ("filler", "negation", "stop", "comma") for kind in others[: 1 + (others[0] != "stop")])
        lone = verb.item.has("be", "have") and verb.text == verb.item.text
        return lone and alone and bare and bool(clause.subjects)


def _form_of(verb: Verb, urges: bool) -> str:
    if verb.infinitive or verb.ing:
        return "infinitive" if verb.infinitive else "ing"
    return "base" if urges and verb.item.forms == {"base"} and verb.text == verb.item.text else "finite"


def in_prepositional(parts: Sequence[Chunk], spot: int) -> bool:
    """Say whether a part of a clause belongs to a preposition before it."""
    while spot > 0 and parts[spot - 1].kind in ("filler", "unknown", "other"):
        spot -= 1
        if parts[spot].text.lower() in _PREPOSITIONS:
            return True
    return spot > 0 and parts[spot - 1].kind == "prep"


def find_stranger(clause: Clause) -> None:
    """Keep in a clause who stands in the subject's place and whom nobody knows."""
    for spot, part in enumerate(clause.parts):
        before = clause.parts[spot - 1] if spot else Chunk("stop", "")
        alone = not clause.subjects or before.kind == "join"
        behind = clause.parts[spot + 1] if spot + 1 < len(clause.parts) else Chunk("stop", "")
        if behind.kind == "comma" and before.kind == "stop" and clause.subjects:
            # "Startled, Tom wakes up."
            continue
        odd = part.kind == "unknown" and (alone or (clause.subjects and part.text[:1].isupper()))
        if odd and before.kind not in ("prep", "gear", "place") and not in_prepositional(clause.parts, spot):
            if _is_missed(clause, part, spot):
                clause.stranger = part.text
                return
            clause.parts[spot] = Chunk("other", part.text, "stranger")


def _is_missed(clause: Clause, noun: Chunk, spot: int) -> bool:
    """Tell "Bella runs" and "a horse runs", whom a user expects to see, from "the crowd cheers"."""
    low = noun.text.lower()
    if low in load_lexicon().creatures or (low.endswith("s") and low[:-1] in load_lexicon().creatures):
        return True
    if low in _NOBODY:
        return False
    verb = clause.verb
    # "Witnesses report" begins a sentence and is no name.
    begins = clause.link == "sentence" and all(part.kind == "filler" for part in clause.parts[:spot])
    several = low.endswith("s") and verb is not None and (verb.text == verb.item.text and "base" in verb.item.forms)
    return noun.text[:1].isupper() and not (begins and several)


def ends_with_gear(clause: Clause) -> bool:
    """Say whether an accessory that stands alone is the last that was named: "Mia a red one, Ben a blue one"."""
    parts = [part for part in clause.parts if part.kind not in ("comma", "join")]
    last = parts[-1] if parts else None
    spot = next((number for number, part in enumerate(clause.parts) if part is last), 0)
    if spot and clause.parts[spot - 1].kind == "comma" and clause.parts[-1].kind in ("comma", "join"):
        # "Mia, red hat, and Ben, blue hat, sit."
        return False
    return isinstance(last, Gear) and not last.prep and not any(part.kind in ("prep", "filler") for part in parts)


def ends_with_object(clause: Clause) -> bool:
    """Say whether "next to Mia" is the last that was named."""
    parts = [part for part in clause.parts if part.kind not in ("comma", "join")]
    return len(parts) > 1 and isinstance(parts[-1], Who) and parts[-2].kind == "prep"


def is_object(verb: Verb, who: Who) -> bool:
    """Tell "blows it off" and "give Mia a hat" from "here comes Mia"."""
    return who.text.lower() in _OBJECTS or verb.item.has("gives")
