"""Options that several commands have."""

from typing import Annotated

import typer

Device = Annotated[str, typer.Option("--device", help="Such as cpu or cuda.")]
Precision = Annotated[
    str | None, typer.Option("--precision", help="Of the base: fp32, bf16 or fp16; the device decides without this.")
]
OtherBase = Annotated[
    bool, typer.Option("--other-base", help="Take adapters that were learnt on other weights of this architecture.")
]
