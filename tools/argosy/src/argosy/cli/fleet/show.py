"""A fleet as people see it: while it comes up, and while it runs."""

import json
import time
from typing import Any

from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from argosy.cli import console
from argosy.client import Client
from argosy.client.control import ControlClient
from argosy.domain.errors import ArgosyError
from argosy.launcher.home import RunningFleet
from argosy.launcher.launch import LaunchPlan, up
from argosy.wire.operator.v1 import operator_pb2

STATE_COLOURS = {
    "active": "green",
    "running": "green",
    "silent": "blue",
    "waking": "cyan",
    "failed": "red",
}


async def show_up(planned: LaunchPlan, timeout_s: float) -> RunningFleet:
    """Bring a fleet up with its instances' states on show."""
    for field in planned.fleet.not_acted_on():
        console.err.print(f"note: {field} is checked, but nothing acts on it yet")
    began = time.monotonic()
    waiting = f"starting {planned.running.fleet}"
    with Live(Spinner("dots", waiting), console=console.err, transient=True) as live:

        def progress(status: operator_pb2.StatusReply, trouble: str) -> None:
            live.update(progress_table(status, trouble, time.monotonic() - began))

        running = await up(planned, progress, timeout_s)
    console.err.print(f"{running.fleet} is up after {time.monotonic() - began:.1f} s")
    return running


def say_how_to_use(running: RunningFleet) -> None:
    """Addresses, and what to try next."""
    console.out.print(
        f"  OpenAI HTTP  {running.http}/v1   (model: {running.model})\n"
        f"  gRPC         {running.grpc}\n"
        "  try          argosy chat · argosy status · argosy logs · argosy trace · argosy down",
        soft_wrap=True,
    )


def progress_table(status: operator_pb2.StatusReply, trouble: str, seconds: float) -> Table:
    """Instances and what each is doing."""
    table = Table(box=None, title=f"{seconds:4.0f} s", title_justify="left")
    for title in ("instance", "state", ""):
        table.add_column(title)
    for instance in status.instances:
        colour = STATE_COLOURS.get(instance.state, "yellow")
        table.add_row(instance.instance_id, f"[{colour}]{instance.state}[/]", instance.reason)
    table.add_row("router", "[green]ready[/]" if not trouble else "[yellow]waiting[/]", trouble)
    return table


async def refusals(remote: ControlClient) -> dict[str, str]:
    """By instance, why its node did not let it sleep or wake; none while the autoscaler is away."""
    try:
        return {name: one.refused for name, one in (await remote.sleep_status()).items()}
    except ArgosyError:
        return {}


async def show_status(running: RunningFleet, *, as_json: bool) -> None:
    """What the operator, the node agent and the router know, joined by name."""
    remote = ControlClient(running)
    try:
        async with Client(running.grpc) as client:
            router = await client.status()
        operator = await remote.operator_status()
        processes = {process.name: process for process in await remote.processes()}
        refused = await refusals(remote)
    finally:
        await remote.close()
    views = {view.instance_id: view for view in router.instances}
    rows = []
    for instance in operator.instances:
        view, process = views.get(instance.instance_id), processes.get(instance.instance_id)
        rows.append(
            {
                "name": instance.instance_id,
                "state": instance.state,
                "age_s": round(time.time() - instance.since_ms / 1e3),
                "restarts": process.restarts if process else 0,
                "rss_mib": process.rss_bytes >> 20 if process else 0,
                "routed": bool(view and view.live),
                "requests": (view.load.running_requests + view.load.waiting_requests)
                if view
                else 0,
                "kv_blocks": f"{view.load.kv_used_blocks}/{view.load.kv_total_blocks}"
                if view
                else "",
                "reason": refused.get(instance.instance_id)
                or instance.reason
                or (view.reason if view else ""),
            }
        )
    for name, process in processes.items():
        if name not in {instance.instance_id for instance in operator.instances}:
            rows.append(
                {
                    "name": name,
                    "state": str(process.state),
                    "restarts": process.restarts,
                    "age_s": round(time.time() - process.since_ms / 1e3),
                    "rss_mib": process.rss_bytes >> 20,
                    "reason": process.reason,
                }
            )
    report = {
        "fleet": running.fleet,
        "ready": router.ready,
        "waiting_for": router.waiting_for,
        "queued": router.queued_requests,
        "running": router.running_requests,
        "processes": rows,
    }
    if as_json:
        print(json.dumps(report))
    else:
        print_status(report)


def print_status(report: dict[str, Any]) -> None:
    """The report as a table."""
    health = "[green]ready[/]" if report["ready"] else f"[red]{report['waiting_for']}[/]"
    console.out.print(
        f"fleet {report['fleet']}: {health}, {report['running']} running, {report['queued']} queued"
    )
    columns = ("name", "state", "age_s", "restarts", "rss_mib", "requests", "kv_blocks", "reason")
    table = Table(box=None)
    for column in columns:
        table.add_column(column, justify="right" if column.endswith(("_s", "mib")) else "left")
    for row in report["processes"]:
        colour = STATE_COLOURS.get(row["state"], "yellow")
        shown = {**row, "state": f"[{colour}]{row['state']}[/]"}
        table.add_row(*(str(shown.get(column, "")) for column in columns))
    console.out.print(table)
