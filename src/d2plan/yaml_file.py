"""Read small YAML files strictly: one document, no key twice, no objects."""

import os
import stat
from pathlib import Path

import yaml

from d2plan.errors import FileError, InputError

MAX_BYTES = 1_000_000
_MERGE, _WORD = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"


def read_yaml(path: str | Path) -> object:
    """Read a small YAML or JSON file that holds one document and no key twice.

    Args:
        path: the file, at most 1 MB, UTF-8.

    Returns:
        What it holds, made of plain dictionaries, lists, texts and numbers.

    Raises:
        FileError: the file cannot be read.
        InputError: it is too large, not UTF-8, not YAML, or names a key twice.
    """
    try:
        # Opening a pipe would wait for a writer for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FileError(f"{path} cannot be read: it is not a regular file; give the path of a file.")
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}; give the path of a file.") from error
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES} bytes; give a file of words, not of data.")
    try:
        return yaml.load(content.decode("utf-8-sig"), Loader=_OneKeyLoader)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8; save it as UTF-8.") from error
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply; write it flat, as the README shows.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path} is not readable as YAML: {_one_line(error)}.") from error


class _OneKeyLoader(yaml.SafeLoader):
    """A safe loader whose keys are words as they are written, also ``on`` and ``null``, and none stands twice.

    YAML itself would keep the last of two in silence.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f'"{key}" is written twice', key_node.start_mark)
            seen.add(key)
            if key is not None and key_node.tag != _MERGE:
                key_node.tag = _WORD
        return super().construct_mapping(node, deep)


def _one_line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())
