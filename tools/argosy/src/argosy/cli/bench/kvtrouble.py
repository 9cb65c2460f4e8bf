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
from pathlib import Path
from typing import Any

import yaml
from rich.progress import Progress
from rich.table import Table

from argosy.cli import console
from argosy.cli.bench.turns import ask
from argosy.cli.fleet.home import Running
from argosy.cli.fleet.remote import Remote
from argosy.cli.fleet.show import show_up
from argosy.cli.fleet.up import down, plan
from argosy.client import Client

CASES = ("none", "well", "stopped", "gone", "full")
VOCABULARY = range(20, 300)
PROMPT_TOKENS = 2000
UP_TIMEOUT_S = 120
STORE = "kvstore-0"


async def run_kvtrouble(requests: int, seed: int, *, as_json: bool) -> None:
    """Every case, and report."""
    ttft_ms: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="argosy-bench-") as scratch,
        Progress(console=console.err, transient=True) as progress,
    ):
        task = progress.add_task("prompts", total=len(CASES) * requests)
        for case in CASES:
            folder = Path(scratch) / case
            folder.mkdir()
            ttft_ms[case] = await measure(
                case, folder, requests, seed, lambda: progress.advance(task)
            )
    report = report_of(ttft_ms)
    if as_json:
        print(json.dumps(report))
    else:
        show(report)


def fleet_file(case: str, folder: Path) -> Path:
    """One instance, and the store of the case."""
    spec: dict[str, Any] = {
        "model": {"name": "sim", "source": "sim"},
        "engine": {"kind": "sim", "blockTokens": 32, "kvMemory": "4Gi"},
        "split": {"prefill": {"replicas": 0}, "decode": {"replicas": 1}},
    }
    if case != "none":
        spec["kvStore"] = {"dram": "1Mi" if case == "full" else "64Mi", "staging": "16Mi"}
    file = folder / "fleet.yaml"
    head = {"apiVersion": "argosy.dev/v1alpha1", "kind": "FedDeployment"}
    file.write_text(yaml.safe_dump({**head, "metadata": {"name": f"kv-{case}"}, "spec": spec}))
    return file


async def measure(case: str, folder: Path, requests: int, seed: int, step: Any) -> list[float]:
    """TTFT of each prompt, milliseconds, as the caller sees it."""
    chance = random.Random(seed)  # noqa: S311 - prompts, not secrets
    planned = plan(fleet_file(case, folder), folder, 0, 0)
    running = await show_up(planned, UP_TIMEOUT_S)
    try:
        async with Client(running.grpc) as client:
            for _ in range(5):
                await ask(client, "sim", chance.choices(VOCABULARY, k=PROMPT_TOKENS), 0)
            pid = await hinder(running, case)
            found = []
            for _ in range(requests):
                prompt = chance.choices(VOCABULARY, k=PROMPT_TOKENS)
                found.append(1e3 * (await ask(client, "sim", prompt, 0)).ttft_s)
                step()
            if pid:
                os.kill(pid, signal.SIGCONT)
    finally:
        await asyncio.to_thread(down, planned.home, running)
    return found


async def hinder(running: Running, case: str) -> int:
    """Do to the store what the case is about; the pid of one that has to be woken again."""
    remote = Remote(running)
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


def report_of(ttft_ms: dict[str, list[float]]) -> dict[str, Any]:
    """Means, and how much slower than without a store."""
    none = statistics.mean(ttft_ms["none"])
    return {
        case: {
            "ttft_mean_ms": round(statistics.mean(found), 1),
            "ttft_max_ms": round(max(found), 1),
            "slower": round(statistics.mean(found) / none - 1, 4),
        }
        for case, found in ttft_ms.items()
    }


def show(report: dict[str, Any]) -> None:
    """A row for each case."""
    table = Table(box=None)
    for title in ("store", "mean TTFT ms", "worst ms", "slower"):
        table.add_column(title, justify="left" if title == "store" else "right")
    for case, row in report.items():
        table.add_row(
            case, f"{row['ttft_mean_ms']:.1f}", f"{row['ttft_max_ms']:.1f}", f"{row['slower']:+.1%}"
        )
    console.out.print(table)
