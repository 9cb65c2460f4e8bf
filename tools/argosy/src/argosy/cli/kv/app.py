"""The kv commands."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from argosy.launcher.home import HOME, find_running

kv = typer.Typer(no_args_is_help=True, help="Look into the KV stores.")

HomeOption = Annotated[Path, typer.Option("--home", help="Where fleets keep their things.")]
FleetOption = Annotated[str | None, typer.Option("--fleet", help="Which fleet, if several are up.")]
StoreOption = Annotated[str, typer.Option("--store", help="Only this one, e.g. kvstore-0.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]


@kv.command()
def stats(home: HomeOption = HOME, fleet: FleetOption = None, json: JsonOption = False) -> None:
    """Show what each tier holds, and how often it was what was asked for.

    Example: argosy kv stats
    """
    from argosy.cli.kv.show import show_stats

    asyncio.run(show_stats(find_running(home, fleet)[1], as_json=json))


@kv.command()
def top(
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many.")] = 20,
    json: JsonOption = False,
) -> None:
    """Show the prefixes asked for most often. Example: argosy kv top -n 5"""
    from argosy.cli.kv.show import show_top

    asyncio.run(show_top(find_running(home, fleet)[1], limit, as_json=json))


@kv.command()
def flush(
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    store: StoreOption = "",
    drop: Annotated[bool, typer.Option(help="Drop every block instead.")] = False,
    json: JsonOption = False,
) -> None:
    """Write to SSD what is only in memory, or drop all. Example: argosy kv flush --drop"""
    from argosy.cli.kv.show import flush as show_flush

    asyncio.run(show_flush(find_running(home, fleet)[1], store, drop=drop, as_json=json))


@kv.command()
def verify(
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    store: StoreOption = "",
    json: JsonOption = False,
) -> None:
    """Check every block's bytes; exit 1 if some were corrupt. Example: argosy kv verify"""
    from argosy.cli.kv.show import verify as show_verify

    _, running = find_running(home, fleet)
    raise typer.Exit(0 if asyncio.run(show_verify(running, store, as_json=json)) else 1)
