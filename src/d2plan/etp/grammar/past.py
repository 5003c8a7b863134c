"""What "Rex, who had slept, runs" says of the time before."""

from d2plan.etp.grammar.deeds import pose
from d2plan.etp.grammar.telling import Context, Telling


def passes_over(context: Context, telling: Telling) -> bool:
    """Pass over what somebody had done before, where it was seen or can be seen no more, and note the latter.

    Args:
        context: the story so far; changed.
        telling: the clause.

    Returns:
        Whether nothing is left to be told of the clause.
    """
    clause, stage = telling.clause, context.stage
    if not clause.tells_past or clause.verb is None or not telling.subjects:
        return False
    told = all((index, "action") in stage.ever for index in telling.subjects)
    if not told and clause.link != "relative":
        return False
    action = clause.verb.item.value("action")
    done = {
        index: {moment.figures[index].action for moment in stage.moments if index in moment.figures}
        for index in telling.subjects
    }
    if not all(pose(context, index, action) in done[index] for index in telling.subjects):
        context.not_shown(clause.text, "because it was before")
    return True
