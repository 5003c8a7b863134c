"""Options that several commands have."""

from typing import Annotated

import typer

OtherBase = Annotated[
    bool, typer.Option("--other-base", help="Take adapters that were learnt on other weights of this architecture.")
]
