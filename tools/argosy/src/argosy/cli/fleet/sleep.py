"""Sleep and wake, as people ask for them: decided at once, then watched until it is so."""

import asyncio
import json
import time

from rich.live import Live

from argosy.cli import console
from argosy.cli.fleet.show import progress_table
from argosy.client.control import ControlClient
from argosy.domain.errors import ArgosyError, Reason
from argosy.launcher.home import RunningFleet
from argosy.wire.operator.v1 import operator_pb2

POLL_S = 0.02


async def put_to_sleep(
    running: RunningFleet,
    names: list[str],
    level: str,
    drain_s: float,
    within_s: float,
    *,
    as_json: bool,
) -> None:
    """Let instances (none named: all) sleep, and wait until they do."""
    remote = ControlClient(running)
    try:
        decided = await remote.sleep(names, level, round(drain_s * 1e3))
        await watch(remote, decided, "silent", within_s, as_json=as_json)
    finally:
        await remote.close()


async def wake_up(
    running: RunningFleet, names: list[str], within_s: float, *, as_json: bool
) -> None:
    """Let instances (none named: all) wake, and wait until they have."""
    remote = ControlClient(running)
    try:
        decided = await remote.wake(names)
        await watch(remote, decided, "active", within_s, as_json=as_json)
    finally:
        await remote.close()


async def watch(
    remote: ControlClient, names: list[str], state: str, within_s: float, *, as_json: bool
) -> None:
    """Show the instances until all are in the state. Raises ArgosyError if they do not come."""
    began = time.monotonic()
    refused: dict[str, str] = {}
    with Live(console=console.err, transient=True) as live:
        while True:
            status = await remote.operator_status()
            shown = [i for i in status.instances if i.instance_id in names]
            decided = await remote.sleep_status()
            refused = {n: i.refused for n, i in decided.items() if n in names and i.refused}
            seconds = time.monotonic() - began
            if refused or all(i.state == state for i in shown) or seconds > within_s:
                break
            live.update(progress_table(operator_pb2.StatusReply(instances=shown), "", seconds))
            await asyncio.sleep(POLL_S)
    if refused:
        raise ArgosyError(Reason.OVERLOADED, "\n".join(refused.values()))
    late = [f"{i.instance_id} is {i.state}: {i.reason}" for i in shown if i.state != state]
    if late:
        raise ArgosyError(Reason.NOT_READY, f"not {state} in {within_s} s: {'; '.join(late)}")
    if as_json:
        print(json.dumps({"state": state, "instances": names, "seconds": round(seconds, 3)}))
    else:
        console.out.print(f"{', '.join(names)}: {state} after {seconds:.1f} s")
