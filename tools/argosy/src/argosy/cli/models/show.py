"""The model command: a bar per stage."""

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from argosy.cli import console
from argosy.cli.models.fetch import fetch


def show_fetch(
    name: str, dest: Path, *, verify: bool, force: bool, place: Console = console.out
) -> Path:
    """Prepare a model, showing how far it is."""
    columns = (TextColumn("{task.description:>12}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console.err, transient=True) as bars:
        stages = {}

        def progress(stage: str, done: float) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=1.0)
            bars.update(stages[stage], completed=done)

        folder = fetch(name, dest, progress, verify=verify, force=force)
    place.print(f"{name} is ready in {folder}")
    return folder
