"""The commands that start, watch and stop a fleet."""

from pathlib import Path
from typing import Annotated

import typer

from argosy.cli import console
from argosy.cli.options import FleetOption, HomeOption, JsonOption
from argosy.launcher.home import HOME, find_running

NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Instances such as decode-0. Without any: all instances of the model."),
]
WithinOption = Annotated[float, typer.Option("--within", help="Seconds to wait until it is done.")]


def up(
    file: Annotated[Path, typer.Argument(help="The fleet file.")],
    home: HomeOption = HOME,
    grpc_port: Annotated[int, typer.Option(help="gRPC port of the router; 0 takes any.")] = 50051,
    http_port: Annotated[int, typer.Option(help="OpenAI HTTP port; 0 takes any.")] = 8000,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for instances to load.")] = 300,
) -> None:
    """Start a fleet, and wait until it serves.

    Example: argosy up deploy/local/demo-sim.yaml
    """
    # Every command imports what it needs when it runs, so that `argosy --help` is quick.
    from argosy.cli.fleet.show import say_how_to_use, show_up
    from argosy.launcher.launch import plan

    planned = plan(file, home, grpc_port, http_port)
    say_how_to_use(console.run(show_up(planned, timeout)))


def down(home: HomeOption = HOME, fleet: FleetOption = None) -> None:
    """Stop a fleet with all its processes. Its journals, traces and logs stay.

    Example: argosy down
    """
    from argosy.launcher.launch import down as stop

    folder, running = find_running(home, fleet, also_dead=True)
    with console.out.status(f"stopping {running.fleet}"):
        stop(folder, running)
    console.out.print(f"{running.fleet} is down; its journals, traces and logs: {folder.path}")


def status(home: HomeOption = HOME, fleet: FleetOption = None, json: JsonOption = False) -> None:
    """Show the instances, their load, and what the router waits for.

    Example: argosy status
    """
    from argosy.cli.fleet.show import show_status

    _, running = find_running(home, fleet)
    console.run(show_status(running, as_json=json))


def sleep(
    names: NamesArgument = None,
    level: Annotated[
        str,
        typer.Option(help="Where the weights stay: dram or disk. Default: as in the fleet file."),
    ] = "",
    drain: Annotated[
        float,
        typer.Option(
            min=0, max=86_400, help="Seconds for running requests; then others continue them."
        ),
    ] = 30,
    within: WithinOption = 120,
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Put instances to sleep. A request for their model wakes them.

    Example: argosy sleep --level disk
    """
    from argosy.cli.fleet.sleep import put_to_sleep

    _, running = find_running(home, fleet)
    console.run(put_to_sleep(running, names or [], level, drain, within, as_json=json))


def wake(
    names: NamesArgument = None,
    within: WithinOption = 120,
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Wake instances before a request does.

    Example: argosy wake decode-0
    """
    from argosy.cli.fleet.sleep import wake_up

    _, running = find_running(home, fleet)
    console.run(wake_up(running, names or [], within, as_json=json))


def logs(
    name: Annotated[
        str, typer.Argument(help="A process such as decode-0. Without one: all processes.")
    ] = "",
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    lines: Annotated[
        int, typer.Option("--lines", "-n", help="How many lines to show of each log's end.")
    ] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on showing new lines.")
    ] = False,
) -> None:
    """Show the logs of a fleet's processes.

    Example: argosy logs decode-0 -f
    """
    from argosy.cli.fleet.logs import show_logs

    folder, _ = find_running(home, fleet)
    show_logs(folder.path / "logs", name, lines, follow=follow)
