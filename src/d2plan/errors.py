"""The tree of errors that d2plan raises on purpose; each one is a standard error too.

::

    D2PlanError
    ├── InputError          (ValueError)   a field, an argument or a document is wrong
    │   ├── AdapterError                   an adapter file is damaged, or made for another base
    │   └── ShapeError                     a tensor has another shape than an equation needs
    ├── FileError           (OSError)      a file or folder cannot be read or written
    ├── PlannerError        (RuntimeError) a language model gave no plan that can be used
    └── MissingExtraError   (ImportError)  an optional package is not installed

A message is one clear sentence that names the file or field and says what to do. The command line prints it
without a traceback and ends with exit code 2.
"""


class D2PlanError(Exception):
    """Anything that the caller can put right; the root of the tree."""

    def __str__(self) -> str:
        """Return the sentence alone, also where a standard base class would add its own decoration."""
        return " ".join(str(part) for part in self.args)


class InputError(D2PlanError, ValueError):
    """A field, an argument or a document holds something that cannot be used."""


class FileError(D2PlanError, OSError):
    """A file or folder cannot be read or written."""


class AdapterError(InputError):
    """An adapter file is damaged, incomplete, or made for another base model."""


class ShapeError(InputError):
    """A tensor has another shape than the one documented."""


class MissingExtraError(D2PlanError, ImportError):
    """An optional package is needed for what was asked and is not installed."""


class PlannerError(D2PlanError, RuntimeError):
    """A language model could not be reached, or gave no plan that can be used."""
