"""``python -m d2plan`` is the command line."""

import os
import sys

# Python puts the current folder first here, and not for the installed command. A scene may name a module as its
# detector, and one that comes from a stranger must not find the stranger's file.
if not sys.flags.safe_path and sys.path[0] == os.getcwd():
    del sys.path[0]

from d2plan.cli.main import main  # noqa: E402

main()
