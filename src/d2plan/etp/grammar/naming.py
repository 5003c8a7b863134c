"""Sentences that only give a name: "I have a dog. His name is Rex." and "my dog is called Rex"."""

import re
from collections.abc import Sequence

from d2plan.etp.plan import KnownConcept

_OWN = re.compile(r"\bI(?:'ve got| have got| have| got) (?=an?\b)")
_SMALL = r"(?:an?|the|my|our) (?:[a-z-]+ ){0,2}?"


def plain_names(story: str, concepts: Sequence[KnownConcept]) -> str:
    """Put names where their nouns stand.

    Args:
        story: one line.
        concepts: who is known.

    Returns:
        The story with "there is a dog, Rex." instead of "I have a dog. His name is Rex."
    """
    for concept in concepts:
        name, noun = re.escape(concept.name), re.escape(concept.class_word)
        if not (name and noun):
            continue
        given = rf"(?:his|her|its|the {noun}'s) name (?:is|was) {name}\b[.!,]?(?: and)?"
        story = re.sub(rf"(\b{_SMALL}{noun})\b([^.!?]*[.!?]) {given}", rf"\1, {concept.name},\2", story, flags=re.I)
        called = rf"\b({_SMALL}{noun}) (?:is|was|'s) (?:called|named) {name}\b"
        story = re.sub(called, rf"there is \1, {concept.name}", story, flags=re.I)
    return _OWN.sub("there is ", story)
