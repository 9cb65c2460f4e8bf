"""Run the demo from nothing to nothing, and report what was measured."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from argosy.cli import console
from argosy.cli.chat.session import traced_client
from argosy.cli.demo.conversation import DemoTurn, converse, lose_decode
from argosy.cli.fleet.show import show_up
from argosy.cli.models.show import show_fetch
from argosy.cli.replay.show import replay_all
from argosy.cli.traces.spans import Trace, find
from argosy.cli.traces.waterfall import waterfall
from argosy.client.control import ControlClient
from argosy.launcher.home import HOME, FleetHome, RunningFleet
from argosy.launcher.launch import UpError, down, plan

FLEETS = {"vllm": Path("deploy/local/demo.yaml"), "sim": Path("deploy/local/demo-sim.yaml")}
UP_TIMEOUT_S = 300
MODELS = Path("models")


async def run_demo(engine: str, *, as_json: bool) -> bool:
    """Everything once; True if all of it held. Raises UpError for a fleet that won't start."""
    if engine not in FLEETS:
        raise UpError(f"no engine '{engine}': write --engine vllm or --engine sim")
    began = time.monotonic()
    place = console.err if as_json else console.out
    if engine == "vllm":
        await asyncio.to_thread(
            show_fetch, "smollm2-135m", MODELS, verify=False, force=False, place=place
        )
    planned = plan(FLEETS[engine], HOME, 0, 0)
    running = await show_up(planned, UP_TIMEOUT_S)
    up_s = time.monotonic() - began

    def say(text: str) -> None:
        place.print(text, end="", markup=False, soft_wrap=True)

    try:
        turns, undisturbed, survivor = await talk(planned.home, running, say)
    finally:
        await asyncio.to_thread(down, planned.home, running)
    trace = find(planned.home.path / "traces", survivor.trace_id)[0]
    segments = replay_all(planned.home.path)
    report = report_of(
        [*turns, undisturbed, survivor],
        undisturbed,
        survivor,
        trace,
        up_s,
        time.monotonic() - began,
        sum(s.steps for s in segments),
        all(s.difference is None for s in segments),
    )
    if as_json:
        print(json.dumps(report))
    else:
        console.out.print("\n\n", waterfall(trace, console.out.width))
        show_report(report)
    return bool(report["ok"])


async def talk(
    home: FleetHome, running: RunningFleet, say: Any
) -> tuple[list[DemoTurn], DemoTurn, DemoTurn]:
    """The conversation, then the answer that loses its decode instance."""
    remote = ControlClient(running)
    try:
        async with traced_client(home, running) as client:
            turns, messages = await converse(client, running.model, say)
            undisturbed, survivor = await lose_decode(client, remote, running.model, messages, say)
    finally:
        await remote.close()
    return turns, undisturbed, survivor


def report_of(
    turns: list[DemoTurn],
    undisturbed: DemoTurn,
    survivor: DemoTurn,
    trace: Trace,
    up_s: float,
    seconds: float,
    replayed: int,
    replay_equal: bool,
) -> dict[str, Any]:
    """What was measured, and whether it is as it should be."""
    steady = turns[:-1]
    resumed = sum(turn.answer.timing.attempts > 1 for turn in turns)
    text_equal = undisturbed.answer.token_ids == survivor.answer.token_ids
    orphans = len(trace.orphans)
    disaggregated = sum(turn.answer.timing.disaggregated for turn in turns)
    ok = text_equal and resumed >= 1 and orphans == 0 and replay_equal and disaggregated >= 1
    return {
        "ok": ok,
        "requests": len(turns),
        "disaggregated": disaggregated,
        "resumed_streams": resumed,
        "text_equal_after_kill": text_equal,
        "transferred_bytes": sum(turn.answer.timing.transferred_bytes for turn in turns),
        "ttft_ms": [round(turn.ttft_ms, 1) for turn in steady],
        "tpot_ms": [round(turn.tpot_ms, 1) for turn in steady],
        "recovery_ms": round(survivor.longest_gap_ms, 1),
        "trace": {"services": trace.services, "spans": len(trace.spans), "orphans": orphans},
        "replay": {"steps": replayed, "equal": replay_equal},
        "up_seconds": round(up_s, 1),
        "seconds": round(seconds, 1),
    }


def show_report(report: dict[str, Any]) -> None:
    """The measurements as a table."""
    table = Table(box=None, title="measured", title_justify="left", show_header=False)
    for name, value in report.items():
        shown = (
            ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        )
        table.add_row(name, str(shown))
    console.out.print(table)
