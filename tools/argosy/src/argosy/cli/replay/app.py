"""The command that replays journals."""

from pathlib import Path
from typing import Annotated

import typer

from argosy.cli.options import JsonOption


def replay(
    directory: Annotated[
        Path, typer.Argument(help="A fleet's folder, or any other with journals in it.")
    ],
    json: JsonOption = False,
) -> None:
    """Feed the events of journals to their cores again, and exit with 1 if a decision differs.

    Example: argosy replay .argosy/demo
    """
    from argosy.cli.replay.show import show_replay

    raise typer.Exit(0 if show_replay(directory, as_json=json) else 1)
