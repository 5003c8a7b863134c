"""Divide a story's chunks into clauses."""

from collections.abc import Sequence

from d2plan.etp.grammar.around import SEVERAL, Around, ends_with_gear, ends_with_object, find_stranger, is_object
from d2plan.etp.grammar.chunks import Chunk, Gear, Verb, Who
from d2plan.etp.grammar.clauses import FIRST_WORDS, GEAR_VERBS, LAST_WORDS, Clause, Link
from d2plan.etp.grammar.taken import find_echoed, goes_back, lose_particles, take_too, tells_all
from d2plan.etp.grammar.timing import AT_ONCE, SUBORDINATE, mark_clause

_REAL_BEFORE_TO = ("moves", "stays", "appears", "ending", "waking", "urges", "causes", "starts", "stops", "halting")
_NEXT_TIME = ("the next", "next", "the following", "that", "later")
_NOT_DOING = ("from", "of", "for", "by", "about")


def divide(chunks: Sequence[Chunk]) -> list[Clause]:
    """Divide a story into clauses.

    Args:
        chunks: of the whole story.

    Returns:
        The clauses as told; those without any content are left out.
    """
    builder = _Builder(chunks)
    for place, chunk in enumerate(chunks):
        builder.take(place, chunk)
    builder.close()
    return builder.clauses


class _Builder:
    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self.chunks = chunks
        self.around = Around(chunks)
        self.clauses: list[Clause] = []
        self.current = Clause("sentence")
        self.suspended: Clause | None = None
        self.link = ""
        self.sentence = 0
        self.excluding = False

    def take(self, place: int, chunk: Chunk) -> None:
        if chunk.kind == "stop":
            self._take_stop(chunk)
        elif chunk.kind in ("comma", "join"):
            self.link = "join" if "join" in (chunk.kind, self.link) else "comma"
            self.current.parts.append(chunk)
            return
        elif chunk.kind == "mark":
            self._take_mark(place, chunk)
        elif chunk.kind == "relative":
            self._take_relative(place)
        elif chunk.kind == "except":
            self.excluding = True
        elif isinstance(chunk, Who):
            self._take_who(place, chunk)
        elif isinstance(chunk, Verb):
            self._take_verb(place, chunk)
        else:
            self._take_thing(place, chunk)
        self.link = ""

    def _take_thing(self, place: int, chunk: Chunk) -> None:
        if self.around.begins_anew(place, self.current, self.link, self._urges()):
            self.open("join")
        elif self.link and self.around.is_second(place, self.current):
            # "Puts a hat on Rex and a scarf on Tom"
            self._open_gapped(self.current.subjects)
        self._give_holder(chunk)
        if chunk.kind == "light" and chunk.text.lower().startswith(_NEXT_TIME) and self.current.verb is None:
            self.current.later = True
        self.current.parts.append(chunk)

    def _take_stop(self, chunk: Chunk) -> None:
        self.current.heading = chunk.text == ":"
        self.close()
        if chunk.text == "?":
            for clause in self.clauses:
                clause.unreal = clause.unreal or clause.sentence == self.sentence
        self.sentence += 1
        # "Gizmo sits; Clara waves" is "and".
        self.current = Clause("join" if chunk.text == ";" else "sentence", sentence=self.sentence)

    def open(self, link: Link) -> None:
        self.close(keep=True)
        self.current = Clause(link, sentence=self.sentence)

    def close(self, keep: bool = False) -> None:
        if self.current.tells:
            take_too(self.clauses, self.current)
            self.clauses.append(self.current)
        elif self.clauses and self.current.parts and not keep:
            if self.current.link == "sentence":
                lose_particles(self.current)
            self.clauses[-1].parts += self.current.parts
        if self.suspended is not None and not keep:
            if self.suspended is not self.current and not tells_all(self.clauses, self.suspended):
                self.clauses.append(self.suspended)
            self.suspended = None
        self.current = Clause("join", sentence=self.sentence)
        self.link = ""

    def _give_holder(self, chunk: Chunk) -> None:
        """Keep whose "with a hat" is, where several are named before the verb."""
        clause = self.current
        if isinstance(chunk, Gear) and clause.verb is None and len(clause.subjects) > 0:
            chunk.holder = clause.subjects[-1]

    def _take_mark(self, place: int, mark: Chunk) -> None:
        if mark.value == "first":
            self._take_first(mark, self.around.at(place + 1).kind in ("stop", "comma", "join"))
            return
        clause, low = self.current, mark.text.lower()
        if mark.value in ("always", "turn"):
            clause.always, clause.in_turn = clause.always or mark.value == "always", mark.value == "turn"
            return
        following, behind = self.around.after(place), self.around.at(place + 1)
        closes = low == "before" or (mark.value == "earlier" and clause.verb is not None)
        if closes and behind.kind in ("stop", "comma", "join"):
            # "He slept before." and "Just before, he slept."
            clause.earlier = True
            return
        if clause.subjects and clause.verb is None and (clause.copied is None or following.kind == "comma"):
            self._mark_between(place, mark, following)
            return
        trailing = following.kind == "stop" and mark.value in ("next", "same") and low not in SUBORDINATE
        if trailing or self.around.stands_within(place, mark):
            # "Rex runs at the same time.", "sleeps at last in the forest"
            mark_clause(clause, mark.value, low)
            return
        told = clause.verb is not None or clause.copied is not None
        if told or any(part.kind not in ("comma", "join", "filler") for part in clause.parts):
            fronted = not told and not clause.subjects and not clause.is_weather
            onwards = (
                clause.later and mark.value == "next" and any(part.kind in ("place", "gear") for part in clause.parts)
            )
            if not fronted or onwards:
                link = clause.link if clause.empty else "join"
                self.open(link)
        comma = self.around.before(place).kind == "comma"
        self.current.fronted = self.around.before(place - comma).kind == "join"
        worn = isinstance(behind, Verb) and behind.ing and behind.item.has("wears", "have")
        mark_clause(self.current, mark.value, "now" if told and worn and low in AT_ONCE else low)

    def _mark_between(self, place: int, mark: Chunk, following: Chunk) -> None:
        """Keep a mark that stands between somebody and their verb."""
        clause, low = self.current, mark.text.lower()
        if isinstance(following, Verb) and following.ing and mark.value not in ("next",):
            self.suspended = clause
            self.current = Clause("join", list(clause.subjects), sentence=self.sentence)
            mark_clause(self.current, mark.value, low)
            return
        aside = clause.link == "with" and self.around.before(place).kind == "comma"
        if self._takes_over(place, clause, mark) or (aside and mark.value == "next"):
            self.open("join")
            mark_clause(self.current, mark.value, low)
            return
        alone = len(clause.subjects) == 1
        ends = following.kind == "stop" and low in LAST_WORDS and len(clause.subjects) > 1
        clause.in_turn = clause.in_turn or ends or (alone and mark.value == "next" and self.around.lists(place))
        if not clause.in_turn:
            mark_clause(clause, mark.value, low)

    def _takes_over(self, place: int, clause: Clause, mark: Chunk) -> bool:
        """Tell "followed by Ben, then both sleep" from "first Mia, then Ben sleeps"."""
        told = bool(self.clauses) and self.clauses[-1].sentence == self.sentence and clause.later
        follows = mark.value == "next" and isinstance(self.around.at(place + 1), Who)
        return told and follows and self.around.starts(place + 1, "join", False) == "finite"

    def _take_first(self, mark: Chunk, behind: bool) -> None:
        """Keep "but at the beginning", which goes before what was told; it may stand behind its verb."""
        clause = self.current
        alone = not (clause.subjects or clause.verb) and all(
            part.kind in ("join", "comma", "filler") for part in clause.parts
        )
        first = mark.text.lower() in FIRST_WORDS
        if self.sentence and alone and clause.link == "sentence":
            clause.opens, clause.first = True, first
        elif first and behind and clause.verb is not None:
            # "Sleeps at the end, runs at the beginning"
            told = [one for one in self.clauses if one.last or one.sentence < self.sentence]
            clause.opens = clause.first = bool(told)

    def _take_relative(self, place: int) -> None:
        clause = self.current
        whos = [part for part in clause.parts if isinstance(part, Who)]
        being = clause.verb is not None and clause.verb.item.has("be") and bool(clause.subjects)
        if being and whos and whos[-1].fresh and self.around.before(place - 1).kind == "verb":
            # "Rex is a dog that never sleeps" speaks of Rex.
            whos = []
        owners = [whos[-1]] if whos else list((clause.without or clause.subjects)[-1:])
        for owner in owners:
            owner.described = True
        if clause.verb is None:
            self.suspended = clause
        else:
            self.clauses.append(clause)
        self.current = Clause("relative", owners, same=True, sentence=self.sentence, relative=True)

    def _take_who(self, place: int, who: Who) -> None:
        copied, before = self.current.copied, self.around.before(place)
        starts = self.around.starts(place, self.link, self._urges())
        echoes = self.around.echoes(place, self.link)
        if copied is not None and self.link and (echoes or starts == "finite"):
            # "Ben second, Tom third", "Mia does too, but she wears a hat"
            self.open("join")
            self.current.subjects, self.current.copied = [who], copied if echoes else None
            return
        clause = self.current
        if self._excludes(place, who, starts):
            return
        if clause.is_weather and before.kind != "prep":
            # "When it gets dark, they sleep": the weather is a clause of its own.
            self.open("join")
            clause = self.current
        # "With Rex asleep and Tom awake, Mia waves"
        follows = bool(starts) or self.around.at(place + 1).kind == "state"
        if (
            clause.verb is None
            and clause.subjects
            and self.link
            and (ends_with_gear(clause) or (follows and clause.is_aside))
        ):
            # "Mia a red one, Ben a blue one"
            self.open("join")
            clause = self.current
        if clause.verb is None:
            if before.kind == "prep" and starts == "ing" and before.text.lower() == "with":
                self._open_with(who)
            elif before.kind == "prep" or (self.link and ends_with_object(clause) and starts != "finite"):
                clause.parts.append(who)
            else:
                self._add_subject(place, clause, who)
        elif not self._open_for(place, who, starts):
            self._take_behind(place, who)

    def _take_behind(self, place: int, who: Who) -> None:
        """Keep somebody who stands behind the verb: its object, or who does it, as in "there are Mia and Ben"."""
        clause = self.current
        assert clause.verb is not None
        free = not clause.subjects and not clause.verb.ing and not is_object(clause.verb, who)
        if (
            free
            and self.around.before(place).kind != "prep"
            and (clause.link != "join" or self.around.does_it(place, clause))
        ):
            clause.subjects.append(who)
            clause.inverted = True
        elif clause.inverted and self.link and all(p.kind in ("comma", "join") for p in clause.parts[clause.split :]):
            clause.subjects.append(who)
        elif who.head == "name" and self.link != "join" and self.around.spells_out(place):
            # "Sits with the kids, Mia and Ben"
            clause.parts = [who if part is self.around.listed(place) else part for part in clause.parts]
        else:
            clause.parts.append(who)

    def _excludes(self, place: int, who: Who, starts: str) -> bool:
        """Keep who is left out: "everyone except Max and Leo"."""
        following = self.current.verb is not None and starts == "finite" and bool(self.link)
        listed = self.around.before(place).kind == "except" or (
            self.link and isinstance(self.around.listed(place), Who)
        )
        if not (self.excluding and listed) or following:
            self.excluding = False
            return False
        self.current.without.append(who)
        return True

    def _add_subject(self, place: int, clause: Clause, who: Who) -> None:
        """Add somebody; "two dogs, Rex and Bo" and "Rex and Bo, two dogs" are the same two."""
        if clause.subjects and self.link != "join":
            if clause.subjects[-1].head in SEVERAL and who.head == "name":
                clause.subjects[-1] = who
                return
            if who.head in SEVERAL and clause.subjects[-1].head == "name":
                return
            if who.head == "name" and self.around.names(place, clause.subjects[-1]):
                for part in clause.parts:
                    if isinstance(part, Gear) and part.holder is clause.subjects[-1]:
                        part.holder = who
                clause.subjects[-1] = who
                return
        clause.subjects.append(who)

    def _open_for(self, place: int, who: Who, starts: str) -> bool:
        """Begin a clause with somebody who follows a whole clause; False where it is the object of that one."""
        clause, before, verb = self.current, self.around.before(place), self.current.verb
        assert verb is not None
        following = self.around.after(place)
        dangling = verb.ing and not clause.subjects and self.link == "comma"
        if (starts == "finite" or dangling) and before.kind != "prep":
            self.open("join")
            self.current.subjects = [who]
        elif starts == "ing" and before.kind == "prep" and before.text.lower() == "with":
            self._open_with(who)
        elif starts and before.kind != "prep" and verb.item.has("looks", "causes", "urges"):
            clause.verb = None if verb.item.has("causes") and not verb.item.has("looks") else verb
            self.open("join")
            self.current.subjects, self.current.same = [who], starts == "ing"
        elif (
            self.link
            and before.kind in ("join", "comma")
            and isinstance(self.around.after(place, ("filler", "other", "mark", "position")), Gear)
            and verb.item.has(*GEAR_VERBS)
            and any(isinstance(part, Gear) for part in clause.parts)
        ):
            receives = verb.item.has("gives") and isinstance(clause.parts[clause.split], Who)
            self._open_gapped(clause.subjects if receives else [who])
            # "Gives Tom a hat and Rex a scarf"
            self.current.parts[:0] = [who] if receives else []
        elif (
            self.link
            and before.kind in ("join", "comma")
            and (following.kind in ("place", "position") or self.around.is_placed(place))
            and verb.item.has("action", "stays", "be")
        ):
            self.open("join")
            self.current.subjects, self.current.verb, self.current.gapped = [who], verb, True
        elif self.link == "comma" and self.around.has_attribute(place):
            self._open_with(who)
            told = any(one.head != "name" or one.value == who.value for one in clause.subjects)
            if who.head == "name" and not told and verb.item.has("action"):
                # "Mia runs without a hat, Ben with one": he runs, too.
                self.current.verb, self.current.gapped = verb, True
        elif self.around.echoes(place, self.link):
            self.open("join")
            self.current.subjects, self.current.copied = [who], clause
        else:
            return False
        return True

    def _open_gapped(self, subjects: list[Who]) -> None:
        """Begin a clause that takes over the verb of the one before it."""
        clause = self.current
        self.open("join")
        self.current.subjects, self.current.verb, self.current.gapped = list(subjects), clause.verb, True
        self.current.parts = [part for part in clause.parts if part.kind == "particle"]

    def _open_with(self, who: Who) -> None:
        leads = self.current.link == "sentence" and not self.current.tells
        self.open("sentence" if leads else "with")
        self.current.subjects, self.current.same = [who], not leads

    def _urges(self) -> bool:
        """Say whether "makes him run" may follow."""
        return self.current.verb is not None and self.current.verb.item.has("causes", "looks", "urges")

    def _take_verb(self, place: int, verb: Verb) -> None:
        clause, before = self.current, self.around.before(place)
        # "Instead of running" and "tired from running" are no running.
        verb.negated = verb.negated or (before.kind == "negation" and verb.ing)
        if (verb.ing and before.text.lower() in _NOT_DOING) or before.text.lower() == "than":
            clause.parts.append(Chunk("other", verb.text, "noun"))
            return
        if clause.verb is None and self.around.says_again(place, verb, self.current) and self.clauses:
            clause.copied = find_echoed(self.clauses, verb) or self.clauses[-1]
            clause.parts += [Chunk("negation", verb.text)] if verb.negated else []
        elif clause.verb is None:
            clause.verb, clause.split = verb, len(clause.parts)
            find_stranger(clause)
        elif self.suspended is not None and verb.finite and self.link != "join":
            self.clauses.append(clause)
            self.current, self.suspended = self.suspended, None
            if clause.tells_past:
                # "Rex, who had slept, runs": he sleeps in the moment before.
                clause.link, clause.later, self.current.later = "join", False, True
            elif clause.link == "relative" and self.current.link == "sentence":
                clause.link, clause.same, self.current.link = "sentence", False, "join"
                clause.later, self.current.later = self.current.later, False
            self.current.verb, self.current.split = verb, len(self.current.parts)
        elif verb.ing:
            listed = self.link == "join" or (self.link == "comma" and (clause.verb.ing or clause.verb.progressive))
            self.open("join")
            if verb.passive and verb.item.has("waking"):
                self.current.sub = "after"
            self.current.same = not listed
            self.current.verb = verb
        else:
            self._add_verb(place, verb)

    def _add_verb(self, place: int, verb: Verb) -> None:
        """Begin a clause with a verb that follows a whole clause."""
        clause = self.current
        assert clause.verb is not None
        if verb.infinitive and self.around.before(place).kind not in ("join", "comma"):
            former = clause.verb.item
            steady = former.has("action") and former.value("action") in ("standing", "sitting", "sleeping", "parked")
            real = steady or former.has(*_REAL_BEFORE_TO)
            self.open("join")
            self.current.verb, self.current.unreal = verb, not real
        elif verb.finite or verb.infinitive:
            self.open("join")
            closed = self.around.before(place).kind == "join" and self.around.before(place - 1).kind == "comma"
            if goes_back(self.clauses, verb, closed):
                self.current.subjects = list(self.clauses[-2].subjects)
            if verb.item.has("do", "copies") or self.around.turns_round(place, verb):
                self.current.copied = clause
            else:
                self.current.verb = verb
