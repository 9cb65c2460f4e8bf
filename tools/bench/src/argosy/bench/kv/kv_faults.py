"""What a KV store in trouble costs its callers: nothing, as far as can be.

The same prompts go to fleets of sim engines: without a store, with one, with one that was
stopped (each call to it hangs), with one that is gone, and with one that is full.
"""

import asyncio
import json
import os
import random
import signal
import statistics
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from rich.progress import Progress
from rich.table import Table

from argosy.bench.kv.conversations import ask
from argosy.cli import console
from argosy.cli.fleet.show import show_up
from argosy.client import Client
from argosy.client.control import ControlClient
from argosy.launcher.home import RunningFleet
from argosy.launcher.launch import down, plan

NONE = "none"
CASES = ("well", "stopped", "gone", "full")
VOCABULARY = range(20, 300)
PROMPT_TOKENS = 2000
WARM_UP_PROMPTS = 5
UP_TIMEOUT_S = 120
STORE = "kvstore-0"


async def run_kv_faults(requests: int, seed: int, *, as_json: bool) -> None:
    """Every case against a fleet without a store, prompt by prompt in turn; and report."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    chance = random.Random(seed)  # noqa: S311 - prompts, not secrets
    with (
        tempfile.TemporaryDirectory(prefix="argosy-bench-") as scratch,
        Progress(console=console.err, transient=True) as progress,
    ):
        task = progress.add_task("prompts", total=len(CASES) * requests)
        async with brought_up(NONE, Path(scratch)) as plain:
            for case in CASES:
                async with brought_up(case, Path(scratch)) as stored:
                    await warm_up(plain, chance)
                    await warm_up(stored, chance)
                    pid = await hinder(stored, case)
                    try:
                        found[case] = await alternate(
                            plain, stored, requests, chance, lambda: progress.advance(task)
                        )
                    finally:
                        if pid:
                            os.kill(pid, signal.SIGCONT)
    report = report_of(found)
    if as_json:
        print(json.dumps(report))
    else:
        show(report)


@asynccontextmanager
async def brought_up(case: str, scratch: Path) -> AsyncIterator[RunningFleet]:
    """The fleet of the case, as long as the block lasts."""
    folder = scratch / case
    folder.mkdir()
    planned = plan(fleet_file(case, folder), folder, 0, 0)
    running = await show_up(planned, UP_TIMEOUT_S)
    try:
        yield running
    finally:
        await asyncio.to_thread(down, planned.home, running)


async def warm_up(running: RunningFleet, chance: random.Random) -> None:
    """Prompts that nobody measures."""
    async with Client(running.grpc) as client:
        for _ in range(WARM_UP_PROMPTS):
            await ask(client, "sim", chance.choices(VOCABULARY, k=PROMPT_TOKENS), 0)


async def alternate(
    plain: RunningFleet, stored: RunningFleet, requests: int, chance: random.Random, step: Any
) -> tuple[list[float], list[float]]:
    """TTFT in milliseconds, as callers see it, without a store and with that of the case."""
    found: tuple[list[float], list[float]] = ([], [])
    async with Client(plain.grpc) as first, Client(stored.grpc) as second:
        for number in range(requests):
            prompt = chance.choices(VOCABULARY, k=PROMPT_TOKENS)
            pair = list(zip((first, second), found, strict=True))
            # Who comes first has no advantage in the long run.
            for client, taken in pair if number % 2 else pair[::-1]:
                taken.append(1e3 * (await ask(client, "sim", prompt, 0)).ttft_s)
            step()
    return found


def fleet_file(case: str, folder: Path) -> Path:
    """One instance, and the store of the case."""
    spec: dict[str, Any] = {
        "model": {"name": "sim", "source": "sim"},
        "engine": {"kind": "sim", "blockTokens": 32, "kvMemory": "4Gi"},
        "split": {"prefill": {"replicas": 0}, "decode": {"replicas": 1}},
    }
    if case != NONE:
        spec["kvStore"] = {"dram": "1Mi" if case == "full" else "64Mi", "staging": "16Mi"}
    file = folder / "fleet.yaml"
    head = {"apiVersion": "argosy.dev/v1alpha1", "kind": "FedDeployment"}
    file.write_text(yaml.safe_dump({**head, "metadata": {"name": f"kv-{case}"}, "spec": spec}))
    return file


async def hinder(running: RunningFleet, case: str) -> int:
    """Do to the store what the case is about; the pid of one that has to be woken again."""
    remote = ControlClient(running)
    try:
        pid = next((p.pid for p in await remote.processes() if p.name == STORE), 0)
    finally:
        await remote.close()
    if case == "gone":
        os.kill(pid, signal.SIGKILL)
    if case == "stopped":
        os.kill(pid, signal.SIGSTOP)
        return pid
    return 0


def report_of(found: dict[str, tuple[list[float], list[float]]]) -> dict[str, Any]:
    """Means, and how much slower than without a store in the very same minutes."""
    return {
        case: {
            "ttft_mean_ms": round(statistics.mean(stored), 1),
            "ttft_max_ms": round(max(stored), 1),
            "without_mean_ms": round(statistics.mean(plain), 1),
            "slower": round(statistics.mean(stored) / statistics.mean(plain) - 1, 4),
            "slower_median": round(statistics.median(stored) / statistics.median(plain) - 1, 4),
        }
        for case, (plain, stored) in found.items()
    }


def show(report: dict[str, Any]) -> None:
    """A row for each case."""
    table = Table(box=None)
    for title in ("store", "mean TTFT ms", "worst ms", "without ms", "slower", "medians"):
        table.add_column(title, justify="left" if title == "store" else "right")
    for case, row in report.items():
        table.add_row(
            case,
            f"{row['ttft_mean_ms']:.1f}",
            f"{row['ttft_max_ms']:.1f}",
            f"{row['without_mean_ms']:.1f}",
            f"{row['slower']:+.1%}",
            f"{row['slower_median']:+.1%}",
        )
    console.out.print(table)
