"""Questions that tell something: "why is Mia smiling?", "who is running? Rex!", "she smiles, doesn't she?"."""

from collections.abc import Sequence

from d2plan.etp.grammar.chunks import VERBS, at
from d2plan.etp.grammar.words import Item

_WHY = ("why", "how come", "how long", "since when", "do you know why", "guess why", "for how long", "no wonder")
_WHAT = ("what", "where", "when", "how", "which", "who", "whose", "why")
_ANSWER = 8


def plain_questions(items: Sequence[Item]) -> list[Item]:
    """Turn questions that take something for granted into statements.

    Args:
        items: of a story.

    Returns:
        The items with "Mia is smiling." instead of "why is Mia smiling?"; other questions stay.
    """
    plain: list[Item] = []
    sentences = _split(items)
    place = 0
    while place < len(sentences):
        sentence = _join_at_once(_drop_tag(sentences[place]))
        if sentence[-1].text == "?" and sentence[0].text.lower() in _WHY:
            sentence = _state(sentence)
        elif sentence[-1].text == "?" and sentence[0].text.lower() == "who" and place + 1 < len(sentences):
            answer = _answer(sentences[place + 1])
            if answer:
                sentence = [*answer, *sentence[1:-1], _stop(sentence[-1])]
                place += 1
        elif sentence[-1].text == "?" and _only_asks(sentence):
            sentence = [item for item in sentence[:-1] if item.has("name")]
            sentence += [Item(":", {"stop": ""}, start=sentence[-1].start)] if sentence else []
        plain += sentence
        place += 1
    return plain


def _only_asks(sentence: Sequence[Item]) -> bool:
    """Find "what does Earl do at four?" and "and then?", which the next sentence answers."""
    told = ("gear", "action", "state", "place", "waking", "ending", "light_change", "colour")
    words = [item.text.lower() for item in sentence]
    asks = any(word in _WHAT for word in words[:3]) or not any(item.has(*VERBS) for item in sentence)
    return asks and not any(item.has(*told) for item in sentence)


def _split(items: Sequence[Item]) -> list[list[Item]]:
    sentences: list[list[Item]] = [[]]
    for item in items:
        sentences[-1].append(item)
        if item.text in (".", "!", "?"):
            sentences.append([])
    return [sentence for sentence in sentences if sentence]


def _stop(mark: Item) -> Item:
    return Item(".", {"stop": ""}, start=mark.start)


def _drop_tag(sentence: list[Item]) -> list[Item]:
    """Drop "isn't she" of "she smiles, isn't she?"."""
    comma = max((place for place, item in enumerate(sentence) if item.has("comma")), default=len(sentence))
    tag = sentence[comma + 1 : -1]
    asks = sentence[-1].text == "?" and tag and tag[0].has("be", "do", "have", "modal", "unreal")
    if asks and tag[-1].has("pronoun") and all(item.has("not") for item in tag[1:-1]):
        return [*sentence[:comma], _stop(sentence[-1])]
    return sentence


def _join_at_once(sentence: list[Item]) -> list[Item]:
    """Write "no sooner had she sat down than he ran" as "as soon as she sat down, he ran"."""
    hardly = sentence[0].text.lower() in ("no sooner", "hardly", "scarcely", "barely")
    if not (hardly and len(sentence) > 1 and sentence[1].text.lower() in ("had", "has", "did", "do", "does")):
        return sentence
    once = Item("as soon as", {"mark": "once"}, start=sentence[0].start)
    rest = [Item(",", {"comma": ""}, start=i.start) if i.text.lower() in ("than", "when") else i for i in sentence[2:]]
    return [once, *rest]


def _state(sentence: list[Item]) -> list[Item]:
    """Write "why is Mia smiling?" as "Mia is smiling."; "why, Mia smiles" has no verb to move."""
    rest = sentence[1:-1]
    if rest and rest[0].has("be", "do", "have", "modal"):
        verb = next(
            (place for place in range(2, len(rest)) if rest[place].has(*VERBS, "state", "at", "not", "adverb")),
            len(rest),
        )
        rest = [*rest[1:verb], rest[0], *rest[verb:]]
    return [*rest, _stop(sentence[-1])]


def _answer(sentence: list[Item]) -> list[Item]:
    """Find who is named in "Rex!", "It is Rex.", "Mia and Tom, of course."; nothing where more is told."""
    words = [item for item in sentence if not item.has("stop", "comma", "filler", "adverb")]
    while words and (words[0].text.lower() in ("it", "that") or words[0].has("be")) and len(words) > 1:
        words = words[1:]
    while words and words[-1].has("be", "do") and len(words) > 1:
        words = words[:-1]
    kinds = ("name", "class", "classes", "determiner", "join", "everyone", "adjective", "possessive", "groups")
    told = words and len(words) < _ANSWER and all(item.has(*kinds) for item in words)
    return words if told and at(words, len(words) - 1).has("name", "class", "classes", "everyone", "groups") else []
