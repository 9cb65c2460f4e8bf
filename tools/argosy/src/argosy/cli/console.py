"""Where people look: results are on stdout, progress and errors on stderr."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from rich.console import Console

T = TypeVar("T")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def fail(message: str) -> None:
    """Print what went wrong, and exit with code 1."""
    err.print("[bold red]argosy:[/]", end=" ")
    err.print(message, markup=False, soft_wrap=True)
    raise SystemExit(1)


def run(command: Coroutine[Any, Any, T]) -> T:
    """Run the asynchronous part of a command."""
    # Half as slow to import as all else together: `argosy --help` does without.
    import asyncio

    return asyncio.run(command)
