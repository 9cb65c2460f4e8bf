"""The commands that prepare models."""

from pathlib import Path
from typing import Annotated

import typer

model = typer.Typer(
    no_args_is_help=True,
    help="Prepare models to serve.\n\nExample: argosy model fetch smollm2-135m",
)


@model.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A model of the catalogue, such as smollm2-135m.")],
    dest: Annotated[Path, typer.Option(help="The folder for models.")] = Path("models"),
    verify: Annotated[bool, typer.Option(help="Check the sha256 of every file.")] = False,
    force: Annotated[bool, typer.Option(help="Prepare it again, though it is there.")] = False,
) -> None:
    """Download a model and convert it. A second run resumes what was interrupted.

    Example: argosy model fetch smollm2-135m
    """
    from argosy.cli.models.show import show_fetch

    show_fetch(name, dest, verify=verify, force=force)
