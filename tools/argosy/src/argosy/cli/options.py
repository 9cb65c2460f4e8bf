"""Options that many commands have."""

from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[
    Path, typer.Option("--home", help="Folder with the state and the logs of fleets.")
]
FleetOption = Annotated[
    str | None, typer.Option("--fleet", help="Name of the fleet, if more than one is up.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
TimingOption = Annotated[
    str | None,
    typer.Option("--timing", help="Timing profile: a name (`argosy profile list`) or a YAML file."),
]
