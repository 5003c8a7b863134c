"""What is seen at each moment: who does and wears what, where, and in which light."""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import pairwise

Dimension = tuple[int, str]
SCENE = -1


@dataclass
class Figure:
    """Somebody at a moment.

    Attributes:
        action: what it does; empty where nothing was told.
        gear: what it wears, with the colour, empty where none was told.
    """

    action: str = ""
    gear: dict[str, str] = field(default_factory=dict)


@dataclass
class Moment:
    """One beat in the making.

    Attributes:
        figures: by concept.
        place: a place of the world, or empty.
        light: a light of the world, or empty.
        setting: only place, light and who stands where were told.
        moving: something happened in it, rather than that something was so.
        passing: only told what no longer goes on, or until when; what follows happens in the same moment.
        told: what was told of this moment itself; True where it holds, False where more may follow in the same moment.
    """

    figures: dict[int, Figure] = field(default_factory=dict)
    place: str = ""
    light: str = ""
    told: dict[Dimension, bool] = field(default_factory=dict)
    setting: bool = True
    passing: bool = False
    moving: bool = False

    def get(self, dimension: Dimension) -> str | None:
        """Give the value of a dimension; None where an accessory is not worn."""
        who, what = dimension
        if who == SCENE:
            return self.place if what == "place" else self.light
        figure = self.figures.setdefault(who, Figure())
        return figure.action if what == "action" else figure.gear.get(what)

    def put(self, dimension: Dimension, value: str | None) -> None:
        """Set the value of a dimension."""
        who, what = dimension
        if who == SCENE and what == "place":
            self.place = value or ""
        elif who == SCENE:
            self.light = value or ""
        elif what == "action":
            self.figures.setdefault(who, Figure()).action = value or ""
        elif value is None:
            self.figures.setdefault(who, Figure()).gear.pop(what, None)
        else:
            self.figures.setdefault(who, Figure()).gear[what] = value


@dataclass(frozen=True)
class Change:
    """What a clause says of one dimension.

    Attributes:
        dimension: of what.
        value: what it is from now on; None takes an accessory off.
        before: what it must have been just before, where that is known; NOTHING asks for nothing.
        weak: something else may follow in the same moment.
        state: it is not new, only told now: it may have been so all the time.
        passes: it only says what is no longer done; what is done instead follows in the same moment.
        begins: it can be seen to begin, such as falling asleep.
    """

    dimension: Dimension
    value: str | None
    before: str | None = "?"
    weak: bool = False
    state: bool = False
    begins: bool = False
    passes: bool = False

    @property
    def puts_on(self) -> bool:
        """Whether it only puts an accessory on."""
        return self.before is None and self.value is not None

    @property
    def needs_before(self) -> bool:
        """Whether a moment must come before it."""
        return self.before != "?"


class Stage:
    """The moments of a story, filled one clause after the other."""

    def __init__(self) -> None:
        self.moments = [Moment()]
        self.ever: set[Dimension] = set()
        self.begun: list[Change] = []
        self.merged: list[Change] = []
        self.late: list[Change] = []
        self.early: list[Change] = []
        self.waits = ""
        self.moved = False
        self.split = False
        self.parted = False
        self.blank = False
        self.invented = False
        self.bare = False
        self.own = False
        self.framed = False

    @property
    def now(self) -> Moment:
        """The last moment."""
        return self.moments[-1]

    def hold(self, changes: list[Change]) -> list[Change]:
        """Let changes hold in all moments so far, as in "a bird sings the whole time".

        Args:
            changes: all of one clause.

        Returns:
            Those of somebody who did or wore something else before; they must happen like any others.
        """
        rest = [change for change in changes if change.dimension in self.ever]
        for change in changes:
            if change in rest:
                continue
            for moment in self.moments:
                moment.put(change.dimension, change.value)
            self.now.told[change.dimension] = True
            self.ever.add(change.dimension)
        return rest

    def apply(
        self, changes: list[Change], relation: str, moving: bool, setting: bool = False, framed: bool = False
    ) -> list[str]:
        """Let a clause's changes happen.

        Args:
            changes: all of one clause.
            relation: "later", "same", "relative", "join" or "sentence".
            moving: something happens, so that a sentence of its own is a moment of its own.
            setting: only where and in which light; what the next sentence tells happens in the same moment.
            framed: something else is seen at the same time, so that what is put on needs no moment without it.

        Returns:
            Actions of the same moment that had to give way.
        """
        changes = [change for change in changes if self._counts(change) and not self._colours(change)]
        if not changes:
            self.blank = self.blank or (not self.now.told and moving)
            if self.now.told and (relation == "later" or (relation == "sentence" and not self.waits)):
                self.waits, self.moved = relation, moving
            return []
        # "Mia puts on a hat while Ben sleeps": he slept before, too.
        apart = any(change.value is None for change in changes) or (
            self.own and all(change.state for change in changes)
        )
        self.framed = self.framed or (relation == "same" and self.bare and len(self.moments) == 2 and not apart)
        relation = "same" if relation == "relative" else relation
        # "Then John barks and Mia runs": what cannot be shown still says when the next thing happens.
        moving = moving or (bool(self.waits) and self.moved)
        relation = self._relate(relation)
        self.split = self.parted = False
        if self.blank and not self.now.told and relation != "same":
            # "Ben eats a cake. Then he smiles": eating is not seen, but it is no smiling either.
            self.begun += [change for change in changes if change.dimension[0] != SCENE]
        if self._opens(changes, relation, moving):
            self.split = relation == "join"
            self._open()
        elif len(self.moments) == 1:
            self._merge(changes, relation)
        fresh = [change for change in changes if change.needs_before and change.dimension not in self.ever]
        if framed and all(change.puts_on for change in fresh):
            self.begun += fresh
        elif fresh and len(self.moments) == 1:
            self.bare = not self.now.told and all(change.puts_on for change in fresh)
            for change in fresh:
                self.now.put(change.dimension, change.before)
            self.invented = self.invented or not self.now.told
            self._open()
        alone = not self.now.told or self.now.passing
        lost = [
            str(self.now.get(change.dimension))
            for change in changes
            if self.now.told.get(change.dimension) and change.dimension[1] == "action"
        ]
        for change in changes:
            self._settle(change)
        self.now.setting = self.now.setting and setting
        self.now.moving = self.now.moving or moving
        self.now.passing = alone and all(change.passes for change in changes)
        self.waits = ""
        return lost

    def _merge(self, changes: list[Change], relation: str) -> None:
        """Keep what is told of a first moment of which only the setting had been told."""
        # "They are on the beach. Rex runs and Luna sleeps": neither does before.
        follows = self.merged and relation in ("join", "same")
        if follows or (relation == "sentence" and self.now.told and self.now.setting):
            self.merged += [change for change in changes if not change.state]

    def _relate(self, relation: str) -> str:
        return self.waits if self.waits == "later" or (self.waits and relation == "join") else relation

    def _counts(self, change: Change) -> bool:
        unchanged = change.dimension in self.ever and self.now.get(change.dimension) == change.value
        # "He still has a hat on" says nothing of its colour.
        worn = change.state and change.value == "" and change.dimension[0] != SCENE and change.dimension[1] != "action"
        unchanged = unchanged or (worn and change.dimension in self.ever and self.now.get(change.dimension) is not None)
        gone = change.value is None and change.dimension in self.ever and self.now.get(change.dimension) is None
        return not (unchanged or gone)

    def _colours(self, change: Change) -> bool:
        """Let "it is blue" say the colour of a hat that was told without one."""
        named = change.state and bool(change.value) and change.dimension[0] != SCENE and change.dimension[1] != "action"
        if not named or self.now.get(change.dimension) != "" or change.dimension not in self.ever:
            return False
        for moment in self.moments:
            if moment.get(change.dimension) == "":
                moment.put(change.dimension, change.value)
        return True

    def _opens(self, changes: list[Change], relation: str, moving: bool) -> bool:
        if not self.now.told:
            return False
        if self.now.passing and relation in ("sentence", "later"):
            return False
        if relation == "later":
            return True
        if relation == "sentence" and self.now.setting and any(change.begins for change in changes):
            # "There is a teapot in the room. It starts to steam": it did not before.
            self.parted = True
            return True
        if (
            relation == "sentence"
            and not self.now.setting
            and (moving or any(change.dimension in self.ever or self._follows(change) for change in changes))
        ):
            return True
        for change in changes:
            held = self.now.told.get(change.dimension)
            if held and relation == "join" and self._changes_over(change):
                continue
            # "Mia is asleep. Ben runs when she wakes up": she was asleep first.
            wakes = change.weak and self.now.get(change.dimension) == "sleeping"
            if held and not (relation == "same" and change.dimension[1] == "action" and not wakes):
                return True
        return False

    def _changes_over(self, change: Change) -> bool:
        """Tell "takes the hat off and puts on a blue one", which is one change, from "and puts it on again"."""
        former = self.moments[-2].get(change.dimension) if len(self.moments) > 1 else None
        off = change.puts_on and self.now.get(change.dimension) is None
        return off and bool(change.value) and former not in (None, change.value)

    def _follows(self, change: Change) -> bool:
        """Tell "he puts on a hat. He sleeps." from "he wears a hat. He sleeps."."""
        return self.now.moving and change.dimension[1] == "action"

    def _open(self) -> None:
        moment = deepcopy(self.now)
        moment.told, moment.setting, moment.passing, moment.moving = {}, True, False, False
        self.moments.append(moment)

    def _settle(self, change: Change) -> None:
        dimension = change.dimension
        if self.split and dimension == (SCENE, "light"):
            # "John takes a nap, and by sunset he is running": it was not sunset before.
            change = replace(change, state=False)
        if dimension not in self.ever:
            known = change.state and self._known_before(dimension)
            earlier = None if known else change.value if change.state else change.before
            if known:
                self.late.append(change)
            elif change.state and dimension[0] != SCENE and len(self.moments) > 1 and dimension[1] != "action":
                self.early.append(change)
            if change.state or change.needs_before:
                for moment in self.moments[:-1]:
                    moment.put(dimension, earlier)
        self.now.put(dimension, change.value)
        self.now.told[dimension] = not change.weak
        self.ever.add(dimension)
        if change.begins:
            self.begun.append(change)

    def _drop_rests(self) -> None:
        """Drop moments in which somebody only stands who was not said to do anything else before."""
        for former, moment in pairwise(self.moments):
            for who, figure in moment.figures.items():
                old = former.figures.get(who, Figure())
                if figure.action in ("standing", "parked") and not old.action:
                    figure.action = ""

    def _known_before(self, dimension: Dimension) -> bool:
        """Tell an accessory that is told late of somebody who was seen before: it was not worn from the beginning."""
        who, what = dimension
        told = any(who == other for moment in self.moments[:-1] for other, _ in moment.told)
        return who != SCENE and what != "action" and told

    def finish(self, cast: list[int]) -> list[Moment]:
        """Give the moments that differ from the one before.

        Args:
            cast: who takes part.

        Returns:
            The moments; one only, where nothing happens.
        """
        if len(self.moments) == 1 and self.merged and not self.begun:
            # "Rex is on the beach. He runs": with nothing else to tell, being there is a moment.
            first = deepcopy(self.now)
            for change in self.merged:
                first.put(change.dimension, "" if change.dimension[1] == "action" else None)
            self.moments.insert(0, first)
        if len(self.moments) == 1 and self.begun:
            first = deepcopy(self.now)
            for change in self.begun:
                first.put(change.dimension, "" if change.dimension[1] == "action" else None)
            self.moments.insert(0, first)
            self.invented = True
        if self.framed and self.invented and len(self.moments) > 2:
            # "A crown is put on Ben while Mia waves": the first moment shows both.
            del self.moments[0]
            self.invented = False
        if len(self.moments) > 2:
            self._drop_rests()
        kept: list[Moment] = []
        for moment in self.moments:
            for who in cast:
                moment.figures.setdefault(who, Figure())
            if not kept or (moment.figures, moment.place, moment.light) != (
                kept[-1].figures,
                kept[-1].place,
                kept[-1].light,
            ):
                kept.append(moment)
        return kept
