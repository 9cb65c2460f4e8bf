"""The command that shows traces."""

from typing import Annotated

import typer

from argosy.cli.options import HomeOption, JsonOption
from argosy.launcher.home import HOME


def trace(
    trace_id: Annotated[
        str, typer.Argument(help="A trace's id or the beginning of it, or `last`.")
    ] = "last",
    home: HomeOption = HOME,
    fleet: Annotated[
        str, typer.Option("--fleet", help="Look at this fleet only. It need not be up.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Draw a request's way through the services as a waterfall.

    Example: argosy trace last
    """
    from argosy.cli.traces.show import show_trace

    show_trace(home / fleet, trace_id, as_json=json)
