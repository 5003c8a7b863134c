"""``python -m d2plan`` is the command line."""

from d2plan.cli.main import main

main()
