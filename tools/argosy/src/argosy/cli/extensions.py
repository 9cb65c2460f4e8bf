"""Commands that other distributions add, through entry points of the group `argosy.commands`.

An entry point's name is the command's name; it is a function, which becomes a command, or a
typer.Typer, which becomes a group of commands. `argosy bench` is one (tools/bench).
"""

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer

from argosy.cli import console

GROUP = "argosy.commands"

Command = typer.Typer | Callable[..., Any]


def add_command(app: typer.Typer, name: str, command: Command) -> None:
    """Add a command, or a group of commands, to an app."""
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def add_extensions(
    app: typer.Typer, taken: Iterable[str], found: Iterable[EntryPoint] | None = None
) -> None:
    """Add all commands that installed distributions offer, in order of their names.

    A command that cannot be imported, or whose name is taken, is left out, and stderr says so: the
    others must go on working.
    """
    names = set(taken)
    points = entry_points(group=GROUP) if found is None else found
    for point in sorted(points, key=lambda point: point.name):
        if point.name in names:
            warn(point, "there is a command with this name already")
            continue
        try:
            command = point.load()
        except Exception as error:  # noqa: BLE001 - code of others may fail in any way
            warn(point, f"{type(error).__name__}: {error}")
            continue
        names.add(point.name)
        add_command(app, point.name, command)


def warn(point: EntryPoint, reason: str) -> None:
    """Tell which command is missing, and why."""
    owner = f" of {point.dist.name}" if point.dist is not None else ""
    text = f"the command '{point.name}'{owner} ({point.value}) is left out: {reason}"
    console.err.print(text, markup=False, soft_wrap=True)
