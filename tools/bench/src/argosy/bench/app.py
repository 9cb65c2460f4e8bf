"""The bench commands: a folder's commands are in its `commands.py`."""

from collections.abc import Callable

import typer

from argosy.bench.handoff.commands import handoff
from argosy.bench.kv.commands import conversations, kv, kv_faults, kv_transfer
from argosy.bench.router.commands import index, router, stagger
from argosy.bench.scaling.commands import forecast, plan, scale
from argosy.bench.sleep.commands import sleep

bench = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Measure what Argosy claims. Each command prints figures, or JSON with --json.\n\n"
    "Example: argosy bench stagger --requests 500",
)
COMMANDS: dict[str, Callable[..., None]] = {
    "router": router,
    "stagger": stagger,
    "index": index,
    "handoff": handoff,
    "kv": kv,
    "conversations": conversations,
    "kv-transfer": kv_transfer,
    "kv-faults": kv_faults,
    "sleep": sleep,
    "scale": scale,
    "forecast": forecast,
    "plan": plan,
}
for name, command in COMMANDS.items():
    bench.command(name)(command)
