"""The kv commands."""

from typing import Annotated

import typer

from argosy.cli import console
from argosy.cli.options import FleetOption, HomeOption, JsonOption
from argosy.launcher.home import HOME, find_running

kv = typer.Typer(
    no_args_is_help=True, help="Look into the KV stores of a fleet.\n\nExample: argosy kv stats"
)

StoreOption = Annotated[
    str, typer.Option("--store", help="One store, such as kvstore-0. Default: all.")
]


@kv.command()
def stats(home: HomeOption = HOME, fleet: FleetOption = None, json: JsonOption = False) -> None:
    """Show what each tier holds, and its hit ratio.

    Example: argosy kv stats
    """
    from argosy.cli.kv.show import show_stats

    console.run(show_stats(find_running(home, fleet)[1], as_json=json))


@kv.command()
def top(
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=1000, help="How many to show.")
    ] = 20,
    json: JsonOption = False,
) -> None:
    """Show the prefixes that are requested most often.

    Example: argosy kv top -n 5
    """
    from argosy.cli.kv.show import show_top

    console.run(show_top(find_running(home, fleet)[1], limit, as_json=json))


@kv.command()
def flush(
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    store: StoreOption = "",
    drop: Annotated[bool, typer.Option(help="Drop all blocks instead.")] = False,
    json: JsonOption = False,
) -> None:
    """Write all blocks that are only in memory to SSD, or drop all blocks.

    Example: argosy kv flush --drop
    """
    from argosy.cli.kv.show import flush as show_flush

    console.run(show_flush(find_running(home, fleet)[1], store, drop=drop, as_json=json))


@kv.command()
def verify(
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    store: StoreOption = "",
    json: JsonOption = False,
) -> None:
    """Check the bytes of every block, and exit with 1 if some are corrupt.

    Example: argosy kv verify
    """
    from argosy.cli.kv.show import verify as show_verify

    _, running = find_running(home, fleet)
    raise typer.Exit(0 if console.run(show_verify(running, store, as_json=json)) else 1)
