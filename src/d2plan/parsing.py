"""Turn plain data into documents, and what is wrong with it into one sentence. No torch here."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from d2plan.errors import InputError
from d2plan.fields import Document
from d2plan.yaml_file import read_yaml

DocumentT = TypeVar("DocumentT", bound=Document)

# What pydantic finds, in words that ask for no knowledge of Python.
_PLAINLY = MappingProxyType(
    {
        "int_type": "must be a whole number, without quotes",
        "float_type": "must be a number, without quotes",
        "bool_type": "must be true or false, without quotes",
        "string_type": "must be text",
        "string_unicode": "holds characters that are no text; write it anew",
        "string_too_short": "is empty; write it",
        "string_too_long": "is longer than {max_length} characters; shorten it",
        # The one pattern that documents have is that of a folder's name.
        "string_pattern_mismatch": "must be at most 80 letters, digits, spaces or . + - _, a letter, digit or _ first",
        "tuple_type": "must be a list",
        "model_type": "must be fields, written as `name: value`",
        "invalid_key": "is a number where a field's name must stand",
        "greater_than_equal": "must be {ge} or more",
        "less_than_equal": "must be {le} or less",
    }
)


# A field that only one kind of file has -> what that is, and where it belongs. Scenes have none of these.
_MARKS = MappingProxyType(
    {
        "variants": ("a series", "give it to `d2plan series`"),
        "beats": ("a plan", "give it to `d2plan video`"),
        "single": ("a suite", "give it to `d2plan bench`"),
        "multi": ("a suite", "give it to `d2plan bench`"),
        "concepts": ("a list of concepts", "give it to `d2plan train`"),
        "base_fingerprint": ("the record of a run", "give its folder to `d2plan reproduce`"),
    }
)
_SCENE = ("a scene", "give it to `d2plan compose`")
# A plan whose beats are cut off still has one of these.
_PLAN_ONLY = frozenset({"story", "planner", "frames"})


def load_document(kind: type[DocumentT], path: str | Path) -> DocumentT:
    """Read a document from its file.

    Args:
        kind: the document's class.
        path: a YAML or JSON file.

    Returns:
        The document, its paths as they are written.

    Raises:
        FileError: the file cannot be read.
        InputError: it is another kind of file, told with the command that takes it; or a field is wrong.
    """
    content = read_yaml(path)
    other = _find_other_kind(kind, content) if isinstance(content, dict) else None
    if other is not None:
        raise InputError(f"{path} is {other[0]}; {other[1]}.")
    return parse_document(kind, content, str(path))


def _find_other_kind(kind: type[Document], content: Mapping[object, object]) -> tuple[str, str] | None:
    own = [mark for mark in _MARKS if mark in kind.model_fields]
    found = [mark for mark in _MARKS if mark in content]
    if not own and found or found and not set(own) & set(found):
        return _MARKS[found[0]]
    # A misspelt mark is a slip of the pen, and told as one.
    slips = [str(name) for mark in own for name in difflib.get_close_matches(mark, map(str, content), n=1)]
    is_scene = "global_prompt" in content and not ("beats" in own and _PLAN_ONLY & content.keys())
    return _SCENE if own and not found and not slips and is_scene else None


def parse_document(kind: type[DocumentT], content: object, source: str) -> DocumentT:
    """Turn plain data into a document.

    Args:
        kind: the document's class.
        content: what was read.
        source: how errors call where it came from, such as a path.

    Returns:
        The document.

    Raises:
        InputError: a field is unknown, missing or wrong; the first of these is named.
    """
    if not isinstance(content, dict):
        fields = ", ".join(kind.model_fields)
        raise InputError(f"{source} holds no fields; write them as `name: value`, with names among {fields}.")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        # An unknown name explains a missing one (a slip of the pen), so it is told first.
        found = sorted(error.errors(include_url=False, include_input=False), key=_is_about_a_known_name)[0]
        raise InputError(f"{source}: {_explain(found, kind)}") from error


def revise(document: DocumentT, changes: Mapping[str, object], source: str) -> DocumentT:
    """Change fields of a document and check the whole again.

    Args:
        document: what to start from; not changed.
        changes: new values by field.
        source: how errors call where the changes came from, such as "the options".

    Returns:
        The changed document.

    Raises:
        InputError: a field is unknown or its value cannot be used.
    """
    return parse_document(type(document), {**document.model_dump(exclude_unset=True), **changes}, source)


def _is_about_a_known_name(found: ErrorDetails) -> bool:
    return found["type"] != "extra_forbidden"


def _explain(found: ErrorDetails, kind: type[Document]) -> str:
    where = _write_location(found["loc"])
    message = found["msg"].removeprefix("Value error, ")
    if found["type"] in _PLAINLY:
        message = _PLAINLY[found["type"]].format(**found.get("ctx", {}))
    if found["type"] == "extra_forbidden":
        return f"{where} {_explain_unknown(_document_at(kind, found['loc'][:-1]), str(found['loc'][-1]))}"
    if found["type"] == "missing":
        return f"{where} is missing; write it."
    if found["type"] == "too_long":
        return f"{where} holds more than {found['ctx']['max_length']}; take some away."
    if found["type"] == "too_short":
        return f"{where} holds fewer than {found['ctx']['min_length']}; write more of them."
    if found["type"] == "value_error" and not found["loc"]:
        return f"{message}."
    return f"{where}: {message[:1].lower()}{message[1:]}.".replace("input should be", "must be")


def _explain_unknown(document: type[Document], name: str) -> str:
    """Say of a name that a document lacks what was perhaps meant."""
    names = list(document.model_fields)
    owned: dict[str, str] = {}
    for field, info in document.model_fields.items():
        owner = _document_in(info.annotation)
        for word in owner.model_fields if owner else ():
            owned.setdefault(word, field)
    if name in owned:
        return f"belongs into {owned[name]}; write it there."
    # Names of its own come first where both are as near.
    near = difflib.get_close_matches(name, [*owned, *names], n=1, cutoff=0.6)
    if not near:
        return f"is not a field; use {', '.join(names)}."
    hint = near[0] if near[0] in names else f"{near[0]}, which belongs into {owned[near[0]]}"
    return f"is not a field; did you mean {hint}?"


def _document_at(kind: type[Document], location: tuple[int | str, ...]) -> type[Document]:
    """Find the class of the document inside a document that an error's location points to."""
    found = kind
    for part in location:
        if isinstance(part, str) and part in found.model_fields:
            found = _document_in(found.model_fields[part].annotation) or found
    return found


def _document_in(annotation: object) -> type[Document] | None:
    if isinstance(annotation, type) and issubclass(annotation, Document):
        return annotation
    return next((inner for part in get_args(annotation) if (inner := _document_in(part))), None)


def _write_location(location: tuple[int | str, ...]) -> str:
    written = ""
    for part in location:
        written += f"[{part}]" if isinstance(part, int) else f".{part}" if written else part
    return written
