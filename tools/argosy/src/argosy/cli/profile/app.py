"""The profile commands."""

from pathlib import Path
from typing import Annotated

import typer

from argosy.cli.options import JsonOption

profile = typer.Typer(
    no_args_is_help=True, help="Timing profiles for the sim engine.\n\nExample: argosy profile list"
)


@profile.command("list")
def list_profiles() -> None:
    """List the profiles that come with Argosy.

    Example: argosy profile list
    """
    from argosy.cli import console
    from argosy.engine.profile_files import profile_names

    for name in profile_names():
        console.out.print(name)


@profile.command()
def fit(
    fleet: Annotated[Path, typer.Option(help="The fleet file whose engine to measure.")] = Path(
        "deploy/local/demo.yaml"
    ),
    model_source: Annotated[
        str, typer.Option(help="Instead: the folder of a model, with default settings.")
    ] = "",
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("profile.yaml"),
    repeats: Annotated[int, typer.Option(min=1, help="How often to measure each point.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the prompts.")] = 1,
    json: JsonOption = False,
) -> None:
    """Measure a real engine, and fit a profile that makes the sim engine as fast as it.

    Example: argosy profile fit --out my-machine.yaml
    """
    from argosy.cli.profile.run import run_fit, settings_of_fleet, settings_of_model

    settings = settings_of_model(model_source) if model_source else settings_of_fleet(fleet)
    run_fit(settings, out, repeats, seed, as_json=json)
