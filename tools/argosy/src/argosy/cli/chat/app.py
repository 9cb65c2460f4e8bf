"""The commands that talk to the model."""

from typing import Annotated

import typer

from argosy.cli import console
from argosy.cli.options import FleetOption, HomeOption, JsonOption
from argosy.launcher.home import HOME, find_running

TEMPERATURE_HELP = "Sampling temperature; 0 always takes the likeliest token."


def generate(
    text: Annotated[str, typer.Argument(help="The text to continue.")],
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens to generate at most.")] = 64,
    temperature: Annotated[float, typer.Option(help=TEMPERATURE_HELP)] = 0,
    direct: Annotated[
        bool, typer.Option(help="Stream from the decode instance instead of through the router.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Continue a text.

    Example: argosy generate "Once upon a time" --max-tokens 32
    """
    from argosy.cli.chat.session import continue_text

    folder, running = find_running(home, fleet)
    sampling = {"max_tokens": max_tokens, "temperature": temperature}
    console.run(continue_text(folder, running, text, sampling, direct=direct, as_json=json))


def chat(
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    system: Annotated[str, typer.Option(help="System prompt.")] = "",
    max_tokens: Annotated[int, typer.Option(help="Tokens of an answer at most.")] = 256,
    temperature: Annotated[float, typer.Option(help=TEMPERATURE_HELP)] = 0.7,
) -> None:
    """Talk with the model. An empty line ends the conversation.

    Example: argosy chat --system "Answer in one sentence."
    """
    from argosy.cli.chat.session import converse

    folder, running = find_running(home, fleet)
    sampling = {"max_tokens": max_tokens, "temperature": temperature}
    console.run(converse(folder, running, system, sampling))
