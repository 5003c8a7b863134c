"""Write a line for people: what a terminal would take for a command is spelled out."""

import typer

from d2plan.errors import FileError


def tell(text: str, err: bool = False) -> None:
    """Write one line.

    Args:
        text: the line; names in it may hold anything that a file name can.
        err: to stderr, not stdout.

    Raises:
        FileError: where it goes to is full; a reader that left is typer's business.
    """
    try:
        typer.echo(spell_out(text), err=err)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileError(f"The output cannot be written ({error.strerror or error}); make room for it.") from error


def spell_out(text: str) -> str:
    r"""Spell the characters that move the cursor, change colours or cannot be encoded.

    >>> spell_out("a\nb"), spell_out("un été")
    ('a\\nb', 'un été')

    Args:
        text: any text.

    Returns:
        The text in one line.
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
