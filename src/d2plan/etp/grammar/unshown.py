"""What somebody cannot be shown doing is left out, and told."""

from d2plan.etp.grammar.stage import Change, Moment
from d2plan.etp.grammar.telling import Context, Telling, impossible


def leave_out(context: Context, telling: Telling, index: int, said: str) -> None:
    """Leave out a deed, and let end what was done before.

    Args:
        context: the story so far.
        telling: the clause; the change to resting is added to it.
        index: of whom it is told.
        said: the words of the story.
    """
    dimension = (index, "action")
    context.unshown.append(impossible(context, index, said))
    # "He sits on the beach, whistling": he sits all the same.
    beside = telling.clause.link != "sentence" and not telling.clause.later and dimension in context.stage.now.told
    name, word = context.people.name(index), context.people.word(index)
    acted = context.stage.now.get(dimension) not in ("", context.rest(index))
    ends = f", and what {name} did before ends there" if acted and not beside else ""
    context.note(f'The story says "{said}" of {name}, but a {word} cannot be shown so: it is left out{ends}.')
    telling.shown = True
    if not beside:
        telling.add(Change(dimension, context.rest(index), weak=True, passes=True))


def check_shown(context: Context, moments: list[Moment]) -> None:
    """Refuse a story in which nothing happens without what was left out.

    Args:
        context: the whole story.
        moments: of the plan.

    Raises:
        InputError: nothing else happens; the sentence says what cannot be shown.
    """
    if context.unshown and sum(not moment.passing for moment in moments) < 2:
        raise context.unshown[0]
