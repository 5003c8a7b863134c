"""Opens scripts as modules."""

import importlib
import sys
from pathlib import Path
from types import ModuleType


def load_scripts(folder: str, *names: str) -> list[ModuleType]:
    """Open files of a folder of scripts.

    Scripts find what lies beside them by their own folder, which is not on the tests' path; other scripts have files of
    the same names.
    """
    place = str(Path(__file__).resolve().parents[2] / "scripts" / folder)
    kept = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, place)
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(place)
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(kept)
