"""Where people look: results on stdout, progress and errors on stderr."""

from rich.console import Console

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def fail(message: str) -> None:
    """Say what went wrong and end with exit code 1."""
    err.print("[bold red]argosy:[/]", end=" ")
    err.print(message, markup=False, soft_wrap=True)
    raise SystemExit(1)
