"""What every document is made of: its base class, and the kinds of its fields. No torch here."""

import operator
import os
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

# Windows keeps these for devices, whatever their ending, and drops a dot at the end.
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9]) *(?:\..*)?|.*\.", re.IGNORECASE)


def take_path(value: object) -> object:
    """Turn a path object into text, and refuse what no system can open.

    Args:
        value: what was given.

    Returns:
        Text for a path, anything else as it is.

    Raises:
        ValueError: it holds a NUL character.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(text, str) and "\0" in text:
        raise ValueError("a path cannot hold a NUL character; write it anew")
    return text


def is_reserved(name: str) -> bool:
    """Say whether Windows gives a name to no file or folder.

    >>> [name for name in ("con", "Con.v2", "nul .x", "rex.", "console", "v1.2") if is_reserved(name)]
    ['con', 'Con.v2', 'nul .x', 'rex.']

    Args:
        name: without separators.

    Returns:
        Whether it is kept for a device, or ends in a dot.
    """
    return _RESERVED.fullmatch(name) is not None


def check_text(text: str) -> str:
    """Refuse a text that no PNG can hold.

    Args:
        text: any.

    Returns:
        The same.

    Raises:
        ValueError: it holds a NUL character.
    """
    if "\0" in text:
        raise ValueError("holds a NUL character; write it anew")
    return text


def _check_name(name: str) -> str:
    if is_reserved(name):
        raise ValueError("no folder can have this name on Windows; choose another")
    return name


Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000), AfterValidator(check_text)
]
Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
PathText = Annotated[Text, BeforeValidator(take_path)]
# A folder's name on every system: no separator, no mark at its start, nothing that a shell reads.
FolderName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, pattern=r"^\w[\w .+-]{0,79}$"),
    AfterValidator(_check_name),
]
Steps = Annotated[int, Field(strict=True, ge=1, le=1000)]
Seed = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
Guidance = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]
Side = Annotated[int, Field(strict=True, ge=64, le=4096, multiple_of=8)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Strength = Annotated[float, Field(strict=True, ge=0, le=2, allow_inf_nan=False)]
# Not written where it is off, so that documents without it stay what they were, to the byte.
OtherBase = Annotated[bool, Field(strict=True, exclude_if=operator.not_)]
Position = Literal["left", "middle", "right"]


class Document(BaseModel):
    """A frozen document in which every field has a name that is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def contains_word(text: str, word: str) -> bool:
    """Say whether a word, or words in a row, stand in a text as whole words; case does not count.

    >>> contains_word("a man and a Dog", "dog"), contains_word("a doghouse", "dog")
    (True, False)

    Args:
        text: where to look.
        word: what to look for.

    Returns:
        True when it stands there.
    """
    spaced = r"\s+".join(re.escape(part) for part in word.split())
    return re.search(rf"(?<!\w){spaced}(?!\w)", text, re.IGNORECASE) is not None
