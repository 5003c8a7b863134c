"""A clause: who does one thing, and how that stands in time to what was told before."""

from dataclasses import dataclass, field
from typing import Literal

from d2plan.etp.grammar.chunks import Chunk, Verb, Who

Link = Literal["sentence", "join", "relative", "with"]
LAST_WORDS = (
    "in the end,at the end,finally,eventually,last of all,lastly,last,at last,by the end,the video ends with,"
    "it ends with,the story ends with,ending with,the film ends with,the clip ends with,in the final scene,"
    "in the last scene,it all ends with,everything ends with,to finish,to end with,ultimately,at long last,"
    "at the very end,in the very end,at the end of the story,at the end of the video,at the end of the day,"
    "in conclusion"
).split(",")
# "At last he sits down" may begin a story that goes on.
AT_LAST = ("finally", "eventually", "at last", "at long last", "ultimately")
FIRST_WORDS = (
    "in the beginning,at the beginning,at the very beginning,at the beginning of the story,at the start of the story,"
    "right at the start,originally,initially,at the start,in the opening scene,in the first scene,to start with,"
    "to begin with,before all that,before all this,before all of that,before all of this,before any of that,"
    "before any of this,before everything else,long before all that,long before all this,but before all that,"
    "but before all this,but before any of that,but before any of this"
).split(",")
_SMALL = ("light", "filler", "prep", "particle", "mark")
_LASTING = ("", "sitting", "standing", "smiling", "parked")
_ARRIVING = ("moves", "appears", "waking", "ending", "halting")
GEAR_VERBS = ("wears", "have", "shifts", "gets", "loses", "gives", "takes")


@dataclass
class Clause:
    """One thing that is told.

    Attributes:
        link: how it hangs on what stands before it: a new sentence, "and" or a comma, "who", or "with ... -ing".
        subjects: who does it; empty where it is taken over from another clause.
        verb: its verb; None where there is none.
        parts: everything else, in order.
        later: it happens after what was told before.
        same: it happens at the same moment.
        amid: a "while" before it tells what goes on meanwhile, and did before.
        sub: "before", "after", "once", "when", "until", "if" where it depends on another clause.
        ends: what was told before it ends with it.
        unreal: it only may happen.
        supposed: it begins with "if", and so the clause that hangs on it only may happen either.
        gapped: the verb was left out and taken over.
        copied: "does the same": a clause to take everything from.
        stranger: somebody in the subject's place whom nobody knows; empty where all are known.
        sentence: number of its sentence.
        split: how many of the parts stand before the verb.
        last: it happens at the end of the story, wherever it is told.
        first: it happens at the beginning of the story, wherever it is told.
        opens: it says "first", which counts in a story that is not told in order.
        earlier: it happens before what was told before.
        moved: where it was moved to, for a note; empty where it stands as told.
        without: who is left out, as in "everyone except Max".
        fronted: "and as soon as it rains": it depends on what follows, not on what stands before it.
        always: it goes on through the whole story.
        now: it says "now".
        hands_on: what is taken in it is given to somebody else at once.
        heading: a colon follows it.
        inverted: its verb stands before who does it.
        in_turn: the subjects do it one after the other, as in "first Mia, then Tom falls asleep".
        each: "whenever", "every time"; empty where it happens once.
        relative: it begins with "who" or "which".
        heard: who was named in clauses that stand before it and happen after it, the nearest first.
        coming: who is named in clauses that stand behind it.
        over: what its subjects did before is over, as in "after she had slept, Mia put on a hat".
    """

    link: Link
    subjects: list[Who] = field(default_factory=list)
    verb: Verb | None = None
    parts: list[Chunk] = field(default_factory=list)
    later: bool = False
    same: bool = False
    amid: bool = False
    sub: str = ""
    ends: bool = False
    unreal: bool = False
    supposed: bool = False
    gapped: bool = False
    copied: "Clause | None" = None
    stranger: str = ""
    sentence: int = 0
    split: int = 0
    last: bool = False
    first: bool = False
    opens: bool = False
    earlier: bool = False
    moved: str = ""
    without: list[Who] = field(default_factory=list)
    fronted: bool = False
    always: bool = False
    each: str = ""
    relative: bool = False
    now: bool = False
    heading: bool = False
    hands_on: bool = False
    inverted: bool = False
    in_turn: bool = False
    heard: list[Who] = field(default_factory=list)
    coming: list[Who] = field(default_factory=list)
    over: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing was told in it yet."""
        return not (self.subjects or self.verb or self.parts)

    @property
    def tells(self) -> bool:
        """Whether more than small words stand in it."""
        small = ("comma", "join", "filler", "particle", "prep")
        return bool(self.subjects or self.verb) or any(part.kind not in small for part in self.parts)

    @property
    def tells_past(self) -> bool:
        """Whether it says what somebody did before: "Rex, who had slept, runs"."""
        return self.relative and self.verb is not None and self.verb.perfect and self.verb.item.has("action")

    @property
    def is_over(self) -> bool:
        """Whether what it tells has ended when the next thing happens: "after sleeping", not "after sitting down"."""
        if self.verb is None or self.verb.negated or self.verb.aspect == "start":
            return False
        done = self.sub == "after" or (self.sub in ("when", "once") and self.verb.perfect)
        lasts = self.verb.item.text.lower().endswith((" down", " off", " asleep", " up"))
        return done and not lasts and self.verb.item.senses.get("action", "") not in _LASTING

    @property
    def is_aside(self) -> bool:
        """Whether it only says how somebody is meanwhile: "with Ben asleep"."""
        return self.verb is None and any(part.kind == "state" for part in self.parts)

    @property
    def is_weather(self) -> bool:
        """Whether it only says how the light changes."""
        return not (self.subjects or self.verb) and any(part.kind == "light_change" for part in self.parts)

    @property
    def only_arrives(self) -> bool:
        """Whether it only leads to what follows at once: "having reached the castle", "as soon as it gets dark"."""
        if self.verb is None:
            return self.is_weather
        item = self.verb.item
        return item.has(*_ARRIVING) and not item.has("mute", "action")

    @property
    def text(self) -> str:
        """Its words, roughly in order."""
        verb = [self.verb.text] if self.verb else []
        words = [*(who.text for who in self.subjects), *verb, *map(_quote, self.parts)]
        return " ".join(word for word in words if word.lower() not in (",", "and")).strip()


def _quote(part: Chunk) -> str:
    """Write "At night" as "at night", because it does not begin a clause any more."""
    small = part.kind in _SMALL and not part.text[1:2].isupper()
    return part.text[:1].lower() + part.text[1:] if small else part.text
