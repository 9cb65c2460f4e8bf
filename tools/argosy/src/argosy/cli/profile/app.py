"""The profile commands."""

from pathlib import Path
from typing import Annotated

import typer

profile = typer.Typer(no_args_is_help=True, help="Timing profiles of engines.")


@profile.command("list")
def list_profiles() -> None:
    """Name the profiles that come with Argosy. Example: argosy profile list"""
    from argosy.cli import console
    from argosy.engine.profile_files import profile_names

    for name in profile_names():
        console.out.print(name)


@profile.command()
def fit(
    fleet: Annotated[Path, typer.Option(help="Fleet file whose engine to measure.")] = Path(
        "deploy/local/demo.yaml"
    ),
    model_source: Annotated[
        str, typer.Option(help="Instead: a model's folder, with default engine settings.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Profile to write.")] = Path("profile.yaml"),
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each point.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the prompts.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Measure a real engine and fit a profile for the sim engine to run by.

    Example: argosy profile fit --out my-machine.yaml
    """
    from argosy.cli.profile.run import run_fit, settings_of_fleet, settings_of_model

    settings = settings_of_model(model_source) if model_source else settings_of_fleet(fleet)
    run_fit(settings, out, repeats, seed, as_json=json)
