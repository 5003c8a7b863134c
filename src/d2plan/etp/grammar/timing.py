"""What a word such as "then", "while" or "if" says of the clause that it stands in."""

from d2plan.etp.grammar.clauses import AT_LAST, LAST_WORDS, Clause

SUBORDINATE = ("while", "whereas", "as", "just as", "whilst", "where")
# "This time wearing a hat" tells of the moment that is told already.
AT_ONCE = (
    "now,this time,but this time,finally,at last,at long last,in the end,at the end,eventually,ultimately,suddenly,"
    "all at once,all of a sudden,at this point,at that point,just then,right then,from now on,from then on,since then,"
    "in a flash,unexpectedly,but now"
).split(",")
_SUPPOSED = ("if", "unless", "only if", "provided that", "in the event that")
_UNREAL = (
    *_SUPPOSED,
    *"as if,as though,so that,in order to,in order that,in case,even if,lest,for fear that,in the hope that".split(","),
)


def mark_clause(clause: Clause, value: str, text: str) -> None:
    """Keep in a clause what a mark says.

    Args:
        clause: as far as it is known; changed.
        value: which one of its kind the mark is.
        text: its words, in lower case.
    """
    if value == "next":
        clause.later, clause.now = True, clause.now or text.endswith("now")
        clause.last = clause.last or (text in LAST_WORDS and text not in AT_LAST)
    elif value == "earlier":
        clause.earlier = True
    elif value == "same" and text not in SUBORDINATE:
        clause.same = True
    elif value == "if" and text in _UNREAL:
        clause.unreal, clause.supposed = True, text in _SUPPOSED
    elif value == "each":
        clause.sub, clause.each = "when", text
    elif value in ("same", "if"):
        clause.sub = "while"
    else:
        clause.sub = value
