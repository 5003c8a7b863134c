"""Stories that are asked for: "please make a video of Rex sleeping", "I'd like Rex to run", "show her sitting"."""

import re

_FILM = r"(?:video|clip|film|movie|animation|story|picture|scene)"
_ASKING = re.compile(
    r"(?:(?<=^)|(?<=[.!?:,] ))(?:(?:hi|hello|hey)[,!.]? )?(?:please,? )?(?:"
    r"(?:(?:can|could|would|will) (?:you|u|ya) )?(?:please |pls |plz )?"
    r"(?:make|do|create|generate|film|render|show|give)(?: me| us)? "
    rf"an? (?:\w+ )?{_FILM} (?:of|about|in which|where|with|that shows|showing)"
    r"|(?:can|could|would|will) (?:you|u|ya) (?:please |pls |plz )?(?:make|let|have|show)(?: me| us)?"
    r"|(?:can|could|may|might) (?:we|i) (?:please )?(?:have|see|get)"
    r"|we (?:open|start|begin|start off)(?= (?:in|on|at|with|by) )"
    r"|(?:i|we)(?:'d| would) (?:like|love)(?: to see)?|(?:i|we) want(?: to see)?"
    r"|(?:please|pls|plz) (?:make|let|have|show)(?: me| us)?|show(?: me| us)?|let us see|let's see"
    r"|(?:(?:idk|dunno|hmm|i don't know),? )?(?:maybe|perhaps|(?:how|what) about|what if|suppose)"
    r") (?=\w)",
    re.IGNORECASE,
)
# "Here comes a new one for my little ones at home."
_HERE = re.compile(
    r"(?:(?<=^)|(?<=[.!?:] ))(?i:here(?:'s| is| comes)|this is|(?:i have|i've) (?:got )?) (?:a|an|my|our|another|one)\b"
    rf"[^.!?:A-Z]{{0,30}}\b(?:one|idea|tale|script|request|order|prompt|brief|{_FILM[3:-1]})"
    r"(?: for [^.!?:A-Z]{1,40})?[.!?:] (?=\S)"
)
_LIT = re.compile(
    r"(?:(?<=^)|(?<=[.!?:] ))(?:now |then )?(?:make it|let it be|change (?:it )?to|switch to|turn it (?:in)?to) (?:a )?"
    r"(night|day|morning|evening|sunset|dusk|dawn|noon|midday|midnight)\b",
    re.IGNORECASE,
)
_TITLE = re.compile(r"^(?:subject|re|title|working title|project): ([^.!?:]{1,80})[.!?] (?=\S)", re.IGNORECASE)
_UTMOST = re.compile(r",? as (\w+) as (?:(?:he|she|it|they) (?:possibly )?(?:can|could)|possible)\b", re.IGNORECASE)
# "And with the scarf still on he sleeps" says that nothing changes.
_STILL = re.compile(r"\b(and |but )?with (?:the|his|her|its|their) \w+ still on,? (?=\w)", re.IGNORECASE)
_SHOWN = re.compile(r"\bshow (her|him|it|them|the \w+|a \w+|[A-Z]\w*) (?=\w+ing\b)")
_MEANT = {"her": "she", "him": "he", "it": "it", "them": "they"}


def drop_title(story: str) -> tuple[str, list[str]]:
    """Drop the subject of a mail or a title, which tells nothing that happens.

    >>> drop_title("Subject: the Paris bit. Rex runs.")
    ('Rex runs.', ['"Subject: the Paris bit" is taken as a title.'])

    Args:
        story: one line.

    Returns:
        The rest, and a note about it.
    """
    found = _TITLE.match(story)
    if found is None:
        return story, []
    return story[found.end() :], [f'"{found.group().strip(" .!?")}" is taken as a title.']


def drop_requests(story: str) -> str:
    """Drop the words with which a story is asked for.

    >>> drop_requests("Can you make Rex sleep and then run?")
    'Rex sleep and then run.'

    Args:
        story: one line.

    Returns:
        What is to be seen.
    """
    told = _LIT.sub(lambda found: f"then it is {found.group(1)}", _ASKING.sub("", _HERE.sub("", story)))
    if told != story:
        told = told.replace("?", ".")
    told = _STILL.sub(r"\1", _UTMOST.sub(r" \1", told))
    return _SHOWN.sub(lambda found: f"{_MEANT.get(found.group(1), found.group(1))} is ", told)
