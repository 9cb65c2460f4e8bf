"""The argosy command: one function per command, each a few lines over its own module."""

import asyncio
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from argosy.cli import console
from argosy.cli.kv.app import kv
from argosy.cli.plan.app import plan as plan_app
from argosy.cli.plan.app import why
from argosy.cli.profile.app import profile
from argosy.cli.sim.app import sim
from argosy.domain.errors import ArgosyError
from argosy.launcher.home import HOME, NoFleet, find_running

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Serve large language models with prefill and decode apart.",
)
model_app = typer.Typer(no_args_is_help=True, help="Prepare models.")
app.add_typer(model_app, name="model")
app.command()(sim)
app.add_typer(profile, name="profile")
app.add_typer(kv, name="kv")
app.add_typer(plan_app, name="plan")
app.command()(why)
for extra in entry_points(group="argosy.commands"):
    app.add_typer(extra.load(), name=extra.name)

HomeOption = Annotated[Path, typer.Option("--home", help="Where fleets keep their things.")]
FleetOption = Annotated[str | None, typer.Option("--fleet", help="Which fleet, if several are up.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
def up(
    file: Annotated[Path, typer.Argument(help="Fleet file.")],
    home: HomeOption = HOME,
    grpc_port: Annotated[int, typer.Option(help="Router's gRPC port; 0: any.")] = 50051,
    http_port: Annotated[int, typer.Option(help="OpenAI HTTP port; 0: any.")] = 8000,
    timeout: Annotated[float, typer.Option(help="Seconds for instances to load.")] = 300,
) -> None:
    """Bring a fleet up. Example: argosy up deploy/local/demo-sim.yaml"""
    # Each command imports what it needs: `argosy --help` shall not wait for gRPC.
    from argosy.cli.fleet.show import say_how_to_use, show_up
    from argosy.launcher.launch import plan

    planned = plan(file, home, grpc_port, http_port)
    say_how_to_use(asyncio.run(show_up(planned, timeout)))


@app.command()
def down(home: HomeOption = HOME, fleet: FleetOption = None) -> None:
    """Take a fleet down; nothing of it is left running. Example: argosy down"""
    from argosy.launcher.launch import down as take_down

    folder, running = find_running(home, fleet, also_dead=True)
    with console.out.status(f"stopping {running.fleet}"):
        take_down(folder, running)
    console.out.print(f"{running.fleet} is down; its journals, traces and logs: {folder.path}")


@app.command()
def status(home: HomeOption = HOME, fleet: FleetOption = None, json: JsonOption = False) -> None:
    """Show instances, their load and what the router waits for. Example: argosy status"""
    from argosy.cli.fleet.show import show_status

    _, running = find_running(home, fleet)
    asyncio.run(show_status(running, as_json=json))


NamesArgument = Annotated[
    list[str] | None, typer.Argument(help="Instances, e.g. decode-0; none: all of the model.")
]
WithinOption = Annotated[float, typer.Option("--within", help="Seconds to wait for it.")]


@app.command()
def sleep(
    names: NamesArgument = None,
    level: Annotated[
        str, typer.Option(help="Where weights stay: dram or disk; empty: as the fleet file says.")
    ] = "",
    drain: Annotated[
        float,
        typer.Option(min=0, max=86_400, help="Seconds for what runs; then it goes on elsewhere."),
    ] = 30,
    within: WithinOption = 120,
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Put instances to sleep; a request wakes them again. Example: argosy sleep --level disk"""
    from argosy.cli.fleet.sleep import put_to_sleep

    _, running = find_running(home, fleet)
    asyncio.run(put_to_sleep(running, names or [], level, drain, within, as_json=json))


@app.command()
def wake(
    names: NamesArgument = None,
    within: WithinOption = 120,
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Wake instances before anybody asks for them. Example: argosy wake decode-0"""
    from argosy.cli.fleet.sleep import wake_up

    asyncio.run(wake_up(find_running(home, fleet)[1], names or [], within, as_json=json))


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="Process, e.g. decode-0; empty: all.")] = "",
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Last lines of each.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on.")] = False,
) -> None:
    """Show processes' logs. Example: argosy logs decode-0 -f"""
    from argosy.cli.fleet.logs import show_logs

    folder, _ = find_running(home, fleet)
    show_logs(folder.path / "logs", name, lines, follow=follow)


@app.command()
def generate(
    text: Annotated[str, typer.Argument(help="What to continue.")],
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    max_tokens: Annotated[int, typer.Option(help="At most this many.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0,
    direct: Annotated[bool, typer.Option(help="Stream from decode, past the router.")] = False,
    json: JsonOption = False,
) -> None:
    """Continue a text. Example: argosy generate "Once upon a time" --max-tokens 32"""
    from argosy.cli.chat import continue_text

    folder, running = find_running(home, fleet)
    sampling = {"max_tokens": max_tokens, "temperature": temperature}
    asyncio.run(continue_text(folder, running, text, sampling, direct=direct, as_json=json))


@app.command()
def chat(
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    system: Annotated[str, typer.Option(help="System prompt.")] = "",
    max_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.7,
) -> None:
    """Talk with the model; an empty line ends it. Example: argosy chat"""
    from argosy.cli.chat import converse

    folder, running = find_running(home, fleet)
    sampling = {"max_tokens": max_tokens, "temperature": temperature}
    asyncio.run(converse(folder, running, system, sampling))


@app.command()
def trace(
    trace_id: Annotated[str, typer.Argument(help="The id or its beginning, or `last`.")] = "last",
    home: HomeOption = HOME,
    fleet: Annotated[str, typer.Option("--fleet", help="Only this fleet's; also when down.")] = "",
    json: JsonOption = False,
) -> None:
    """Draw one request's way as a waterfall. Example: argosy trace last"""
    from argosy.cli.traces.show import show_trace

    show_trace(home / fleet, trace_id, as_json=json)


@app.command()
def replay(
    directory: Annotated[Path, typer.Argument(help="A fleet's folder, or any with journals.")],
    json: JsonOption = False,
) -> None:
    """Feed journals through their cores again; exit 1 at a difference.

    Example: argosy replay .argosy/demo
    """
    from argosy.cli.replay import show_replay

    raise typer.Exit(0 if show_replay(directory, as_json=json) else 1)


@app.command()
def demo(
    engine: Annotated[str, typer.Option(help="vllm or sim.")] = "vllm", json: JsonOption = False
) -> None:
    """Everything once: up, a conversation, a killed decode, a trace, down.

    Example: argosy demo --engine sim
    """
    from argosy.cli.demo import run_demo

    raise typer.Exit(0 if asyncio.run(run_demo(engine, as_json=json)) else 1)


@model_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="e.g. smollm2-135m")],
    dest: Annotated[Path, typer.Option(help="Folder for models.")] = Path("models"),
    verify: Annotated[bool, typer.Option(help="Check every file's sha256.")] = False,
    force: Annotated[bool, typer.Option(help="Make it anew.")] = False,
) -> None:
    """Prepare a model: once, checksummed, resumable. Example: argosy model fetch smollm2-135m"""
    from argosy.cli.models.show import show_fetch

    show_fetch(name, dest, verify=verify, force=force)


def main() -> None:
    """The entry point: failures with a known cause end in one message and exit code 1."""
    from argosy.cli.models.errors import ModelError
    from argosy.launcher.launch import UpError
    from argosy.mesh.replay import JournalError

    try:
        app()
    except (UpError, NoFleet, ModelError, JournalError) as error:
        console.fail(str(error))
    except ArgosyError as error:
        console.fail(f"{error.reason.name}: {error.message}")
    except KeyboardInterrupt:
        raise SystemExit(130) from None
