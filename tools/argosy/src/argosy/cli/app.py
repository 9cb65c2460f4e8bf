"""The argosy command. Each folder beside this file has the commands of one job in its app.py."""

import typer

from argosy.cli import console
from argosy.cli.chat.app import chat, generate
from argosy.cli.demo.app import demo
from argosy.cli.extensions import Command, add_command, add_extensions
from argosy.cli.fleet.app import down, logs, sleep, status, up, wake
from argosy.cli.kv.app import kv
from argosy.cli.models.app import model
from argosy.cli.plan.app import plan, why
from argosy.cli.profile.app import profile
from argosy.cli.replay.app import replay
from argosy.cli.sim.app import sim
from argosy.cli.traces.app import trace

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Serve large language models with prefill and decode apart.\n\n"
    "Example: argosy up deploy/local/demo-sim.yaml",
)
COMMANDS: dict[str, Command] = {
    "demo": demo,
    "up": up,
    "status": status,
    "generate": generate,
    "chat": chat,
    "sleep": sleep,
    "wake": wake,
    "logs": logs,
    "down": down,
    "trace": trace,
    "why": why,
    "replay": replay,
    "plan": plan,
    "kv": kv,
    "sim": sim,
    "profile": profile,
    "model": model,
}
"""In the order of the help: a fleet's day first, then looking into it, then trying things out."""

for name, command in COMMANDS.items():
    add_command(app, name, command)
add_extensions(app, COMMANDS)


def main() -> None:
    """Run a command. Failures with a known cause end in one message and exit code 1."""
    try:
        app()
    except KeyboardInterrupt:
        # As shells report a process that SIGINT has ended.
        raise SystemExit(130) from None
    except Exception as error:
        message = message_of(error)
        if message is None:
            raise
        console.fail(message)


def message_of(error: Exception) -> str | None:
    """What to tell people of a failure; None if it is not one that Argosy knows."""
    # Slow to import, so only after a failure: `argosy --help` does not wait for gRPC.
    from argosy.cli.models.errors import ModelError
    from argosy.domain.errors import ArgosyError
    from argosy.launcher.home import NoFleet
    from argosy.launcher.launch import UpError
    from argosy.mesh.replay import JournalError

    if isinstance(error, ArgosyError):
        return f"{error.reason.name}: {error.message}"
    if isinstance(error, UpError | NoFleet | ModelError | JournalError):
        return str(error)
    return None
