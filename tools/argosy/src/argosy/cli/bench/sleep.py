"""To sleep and back, again and again, with conversations that go on across it.

In every cycle a conversation has its first turn, the instances go to sleep, and its second turn
wakes them. In every other cycle that turn comes at a random moment of the sleep itself. Tokens
are compared with those of the same conversation held without any sleep. Memory is that of the
instances' processes, pages that several share counted once (PSS).
"""

import asyncio
import json
import os
import random
import signal
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import Progress
from rich.table import Table

from argosy.cli import console
from argosy.cli.bench.fleets import plan_in, read_fleet
from argosy.cli.bench.handover import VOCABULARY, engines_off_stdout
from argosy.cli.bench.turns import ask
from argosy.cli.fleet.home import Running
from argosy.cli.fleet.remote import Remote
from argosy.cli.fleet.show import show_up
from argosy.cli.fleet.up import down
from argosy.client import Client
from argosy.engine.memory import resident_bytes
from argosy.mesh.errors import ArgosyError

FIRST_TOKENS, QUESTION_TOKENS = 600, 120
UP_TIMEOUT_S, STATE_S = 300, 120
POLL_S = 0.01
COLD_STARTS = 2
ENDS = 5
"""Cycles at either end whose memory is compared."""


@dataclass
class Cycle:
    """What one cycle showed. MB are 10^6 bytes."""

    quiet: bool
    """Nobody asked before all were silent."""
    sleep_s: float = 0
    wake_to_first_token_s: float = 0
    active_mb: float = 0
    silent_mb: float = 0
    hit_tokens: int = 0
    reusable_tokens: int = 0
    tokens_equal: bool = False
    failed: int = 0


@dataclass
class Sleeper:
    """A fleet that is put to sleep, and what is known of it."""

    running: Running
    client: Client
    remote: Remote
    chance: random.Random
    block_tokens: int
    cycles: list[Cycle] = field(default_factory=list)

    async def states(self) -> dict[str, str]:
        """Of the instances that can sleep."""
        status = await self.remote.operator_status()
        return {i.instance_id: i.state for i in status.instances if i.role != "kvstore"}

    async def until(self, state: str) -> None:
        """Return when all are in that state."""
        async with asyncio.timeout(STATE_S):
            while set((await self.states()).values()) != {state}:
                await asyncio.sleep(POLL_S)

    async def memory_mb(self) -> float:
        """Of all instances' processes."""
        named = await self.states()
        pids = [p.pid for p in await self.remote.processes() if p.name in named]
        return await asyncio.to_thread(lambda: sum(map(resident_bytes, pids)) / 1e6)

    async def turn(self, prompt: list[int], reusable: int, tenant: str) -> Any:
        """One turn of a conversation."""
        return await ask(self.client, self.running.model, prompt, reusable, tenant)

    async def converse(self, tenant: str, first: list[int], question: list[int]) -> list[list[int]]:
        """Both turns' tokens, without any sleep."""
        said = await self.turn(first, 0, tenant)
        more = [*first, *said.answer.token_ids, *question]
        return [said.answer.token_ids, (await self.turn(more, 0, tenant)).answer.token_ids]

    async def cycle(self, number: int, first: list[int], question: list[int],
                    expected: list[list[int]]) -> Cycle:  # fmt: skip
        """One cycle; see the module."""
        found = Cycle(quiet=number % 2 == 0)
        try:
            said = await self.turn(first, 0, f"cycle-{number}")
            known = [*first, *said.answer.token_ids]
            found.reusable_tokens = (len(known) - 1) // self.block_tokens * self.block_tokens
            found.active_mb = await self.memory_mb()
            began = time.monotonic()
            await self.remote.sleep([], "", 0)
            if found.quiet:
                await self.until("silent")
                found.sleep_s = time.monotonic() - began
                found.silent_mb = await self.memory_mb()
            else:
                usual = statistics.mean([c.sleep_s for c in self.cycles if c.quiet])
                await asyncio.sleep(self.chance.uniform(0, 1.2 * usual))
            went_on = await self.turn([*known, *question], found.reusable_tokens, f"cycle-{number}")
            found.wake_to_first_token_s = went_on.ttft_s
            found.hit_tokens = min(went_on.answer.usage.cached_tokens, found.reusable_tokens)
            found.tokens_equal = expected == [said.answer.token_ids, went_on.answer.token_ids]
            await self.until("active")
        except (ArgosyError, TimeoutError) as error:
            console.err.print(f"cycle {number}: {error!r}")
            found.failed = 1
        self.cycles.append(found)
        return found

    async def cold_start_s(self, prompt: list[int]) -> float:
        """From the death of all instances to the first token of one that was asked then."""
        named = await self.states()
        for process in await self.remote.processes():
            if process.name in named:
                os.kill(process.pid, signal.SIGKILL)
        began = time.monotonic()
        await self.turn(prompt, 0, "cold")
        took_s = time.monotonic() - began
        await self.until("active")
        return took_s


async def run_sleep(fleet: Path, cycles: int, seed: int, *, as_json: bool) -> None:
    """All cycles, then starts from nothing, and report."""
    text = read_fleet(fleet)
    scaling = text["spec"].setdefault("scaling", {})
    scaling.pop("idleSleepAfter", None)  # Here it is told when to sleep.
    with (
        tempfile.TemporaryDirectory(prefix="argosy-bench-") as scratch,
        engines_off_stdout(),
        Progress(console=console.err, transient=True) as progress,
    ):
        planned = plan_in(Path(scratch) / "sleep", text)
        running = await show_up(planned, UP_TIMEOUT_S)
        remote = Remote(running)
        try:
            async with Client(running.grpc) as client:
                chance = random.Random(seed)  # noqa: S311 - prompts and moments, not secrets
                sleeper = Sleeper(
                    running, client, remote, chance, planned.fleet.spec.engine.block_tokens
                )
                cold_s = await measure(sleeper, cycles, progress)
        finally:
            await remote.close()
            await asyncio.to_thread(down, planned.home, running)
    report = report_of(sleeper.cycles, cold_s, scaling.get("sleepLevel", "dram"))
    if as_json:
        print(json.dumps(report))
    else:
        show(report)


async def measure(sleeper: Sleeper, cycles: int, progress: Progress) -> list[float]:
    """Every cycle; returns how long starts from nothing took."""
    chance = sleeper.chance
    first = chance.choices(VOCABULARY, k=FIRST_TOKENS)
    question = chance.choices(VOCABULARY, k=QUESTION_TOKENS)
    expected = await sleeper.converse("reference", first, question)
    for number in progress.track(range(cycles), description="sleeping and waking"):
        await sleeper.cycle(number, first, question, expected)
    prompt = chance.choices(VOCABULARY, k=FIRST_TOKENS)
    starts = progress.track(range(COLD_STARTS), description="starting from nothing")
    return [await sleeper.cold_start_s(prompt) for _ in starts]


def report_of(cycles: list[Cycle], cold_s: list[float], level: str) -> dict[str, Any]:
    """Medians over the cycles in which nobody asked before all were silent, and all failures."""
    quiet = [c for c in cycles if c.quiet and not c.failed]
    served = [c for c in cycles if not c.failed]
    cold, wake = statistics.median(cold_s), median(quiet, "wake_to_first_token_s")
    active, silent = median(served, "active_mb"), median(quiet, "silent_mb")
    return {
        "level": level,
        "sleep_s": round(median(quiet, "sleep_s"), 3),
        "sleep_max_s": round(max(c.sleep_s for c in quiet), 3),
        "wake_to_first_token_s": round(wake, 3),
        "wake_to_first_token_max_s": round(max(c.wake_to_first_token_s for c in quiet), 3),
        "interrupted_to_first_token_s": round(
            median([c for c in served if not c.quiet], "wake_to_first_token_s"), 3
        ),
        "cold_start_s": round(cold, 2),
        "wake_speedup": round(cold / wake, 1),
        "rss_active_mb": round(active),
        "rss_silent_mb": round(silent),
        "rss_silent_share": round(silent / active, 3),
        "growth_active": growth([c.active_mb for c in served]),
        "growth_silent": growth([c.silent_mb for c in quiet]),
        "tokens_equal": all(c.tokens_equal for c in served),
        "context_hit_share": round(
            sum(c.hit_tokens for c in served) / sum(c.reusable_tokens for c in served), 4
        ),
        "cycles": len(cycles),
        "failed": sum(c.failed for c in cycles),
    }  # fmt: skip


def median(cycles: list[Cycle], name: str) -> float:
    """Of one figure."""
    return float(statistics.median(getattr(cycle, name) for cycle in cycles))


def growth(found_mb: list[float]) -> float:
    """The last few against the first few; the very first still allocates."""
    first, last = found_mb[1 : 1 + ENDS], found_mb[-ENDS:]
    return round(statistics.mean(last) / statistics.mean(first) - 1, 4)


def show(report: dict[str, Any]) -> None:
    """A line for each figure."""
    table = Table(box=None, show_header=False)
    for name, value in report.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    console.out.print(table)
