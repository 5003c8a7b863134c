"""What a clause ends of that which was done before: "until Mia waves", "after she had slept"."""

from d2plan.etp.grammar.stage import SCENE, Change
from d2plan.etp.grammar.telling import Context, Telling


def end_actions(context: Context, telling: Telling, acting: list[int]) -> None:
    """End what was done before where the clause says so.

    Args:
        context: the story so far; notes are added.
        telling: the clause; changes are added to it.
        acting: who acted in the clause before.
    """
    clause = telling.clause
    if clause.over:
        _end_own(context, telling)
    if clause.ends and not set(acting) & set(telling.subjects):
        _end_former(context, telling)


def _end_own(context: Context, telling: Telling) -> None:
    """Let Mia sleep no more who puts on a hat "after she had slept"."""
    changed = {change.dimension for change in telling.changes}
    for index in telling.subjects if changed else ():
        dimension = (index, "action")
        action = context.stage.now.get(dimension)
        if dimension not in changed and context.stage.now.told.get(dimension) and action != context.rest(index):
            telling.add(Change(dimension, context.rest(index), weak=True))
            context.note(
                f'"{telling.clause.text}": {context.people.name(index)} is taken to have stopped {action} then.'
            )


def _end_former(context: Context, telling: Telling) -> None:
    """Let "until" end what was done before."""
    changed = {change.dimension for change in telling.changes}
    if all(who == SCENE for who, _ in changed):
        return
    for index in context.people.cast:
        dimension = (index, "action")
        action = context.stage.now.get(dimension)
        if (
            index not in telling.subjects
            and dimension not in changed
            and context.stage.now.told.get(dimension)
            and action != context.rest(index)
        ):
            telling.add(Change(dimension, context.rest(index), weak=True))
            context.note(f'"{telling.clause.text}" is taken to end what {context.people.name(index)} did before.')
            return
