"""Options that several bench commands have."""

from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
PromptSeedOption = Annotated[int, typer.Option("--seed", help="Seed of the prompts.")]
StoreFleetOption = Annotated[
    Path, typer.Option("--fleet", help="The fleet file to measure; it must have a kvStore.")
]
