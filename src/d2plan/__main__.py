"""``python -m d2plan`` is the command line."""

import os
import sys
from contextlib import suppress

# Python puts the current folder first here, and not for the installed command. A scene may name a module as its
# detector, and one that comes from a stranger must not find the stranger's file.
with suppress(OSError):  # that folder may be gone
    if not sys.flags.safe_path and os.path.samefile(sys.path[0] or ".", "."):
        del sys.path[0]

from d2plan.cli.main import main  # noqa: E402

main()
