"""To sleep and back, again and again, with conversations that go on across it.

In every cycle a conversation has its first turn, the instances go to sleep, and its second turn
wakes them. In every other cycle that turn comes at a random moment of the sleep itself, and
another caller asks all the time. Tokens are compared with those of the same conversation held
without any sleep. Memory is that of the instances' processes, pages that several share counted
once (PSS): active, once KV memory has been filled by prompts, as it is after a while of any
work; silent, after every sleep. The store that keeps the context is not in it.
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

from argosy.bench.fleet_variants import plan_in, read_fleet
from argosy.bench.handoff.handoff import VOCABULARY
from argosy.bench.kv.conversations import ask
from argosy.bench.sleep.sleep_report import Cycle, SleepFigures, report_of, show
from argosy.cli import console
from argosy.cli.fleet.show import show_up
from argosy.client import Client
from argosy.client.control import ControlClient
from argosy.domain.errors import ArgosyError
from argosy.engine.memory import resident_bytes
from argosy.launcher.home import RunningFleet
from argosy.launcher.launch import down
from argosy.mesh.bus import Bus, Envelope
from argosy.mesh.stdio import engines_off_stdout
from argosy.wire.instance.v1 import events_pb2

FIRST_TOKENS, QUESTION_TOKENS, ANSWER_TOKENS = 600, 120, 16
FILL_TOKENS = 1400
DRAIN_MS = 30_000
TRAFFIC_TOKENS = 40
UP_TIMEOUT_S, STATE_S = 300, 120
POLL_S = 0.01
COLD_STARTS, COLD_CACHES = 2, 3


@dataclass
class SleepBench:
    """A fleet that is put to sleep, and what is known of it."""

    running: RunningFleet
    client: Client
    remote: ControlClient
    chance: random.Random
    block_tokens: int
    found: SleepFigures = field(default_factory=SleepFigures)

    async def fill(self) -> None:
        """Prompts that nobody has, until they must have filled all KV memory."""
        status = await self.client.status()
        blocks = max(i.load.kv_total_blocks for i in status.instances)
        for _ in range(blocks * self.block_tokens // FILL_TOKENS + 1):
            await self.turn(self.chance.choices(VOCABULARY, k=FILL_TOKENS), 0, "fill")
        self.found.filled_mb = await self.memory_mb()

    async def states(self) -> dict[str, str]:
        """Of the instances that can sleep."""
        status = await self.remote.operator_status()
        return {i.instance_id: i.state for i in status.instances if i.role != "kvstore"}

    def heard(self, fact: Any, envelope: Envelope) -> None:
        """An instance fell asleep, or woke."""
        self.found.changes.append(fact.change)

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
        return await ask(self.client, self.running.model, prompt, reusable, tenant, ANSWER_TOKENS)

    async def converse(self, tenant: str, first: list[int], question: list[int]) -> list[list[int]]:
        """Both turns' tokens, without any sleep."""
        first_turn = await self.turn(first, 0, tenant)
        more = [*first, *first_turn.answer.token_ids, *question]
        return [first_turn.answer.token_ids, (await self.turn(more, 0, tenant)).answer.token_ids]

    async def cycle(
        self, number: int, first: list[int], question: list[int], expected: list[list[int]]
    ) -> Cycle:
        """One cycle; see the module."""
        found = Cycle(quiet=number % 2 == 0)
        traffic: asyncio.Task[bool] | None = None
        done = asyncio.Event()
        try:
            first_turn = await self.turn(first, 0, f"cycle-{number}")
            known = [*first, *first_turn.answer.token_ids]
            found.reusable_tokens = (len(known) - 1) // self.block_tokens * self.block_tokens
            found.active_mb = await self.memory_mb()
            if not found.quiet:
                traffic = asyncio.create_task(self.traffic(number, done))
            began = time.monotonic()
            await self.remote.sleep([], "", DRAIN_MS)
            if found.quiet:
                await self.until("silent")
                found.sleep_s = time.monotonic() - began
                found.silent_mb = await self.memory_mb()
            else:
                usual = statistics.mean(
                    [c.sleep_s for c in self.found.cycles if c.sleep_s] or [0.5]
                )
                await asyncio.sleep(self.chance.uniform(0, 1.2 * usual))
            second_turn = await self.turn(
                [*known, *question], found.reusable_tokens, f"cycle-{number}"
            )
            found.wake_to_first_token_s = second_turn.ttft_s
            found.hit_tokens = min(second_turn.answer.usage.cached_tokens, found.reusable_tokens)
            found.tokens_equal = expected == [
                first_turn.answer.token_ids,
                second_turn.answer.token_ids,
            ]
            done.set()
            if traffic is not None:
                found.tokens_equal &= await traffic
            await self.until("active")
        except (ArgosyError, TimeoutError) as error:
            console.err.print(f"cycle {number}: {error!r}")
            found.failed = 1
        self.found.cycles.append(found)
        return found

    async def traffic(self, number: int, done: asyncio.Event) -> bool:
        """Another caller, who asks the same again and again; whether all answers were alike."""
        prompt = list(VOCABULARY)[:TRAFFIC_TOKENS]
        answers: list[list[int]] = []
        while not done.is_set() or len(answers) < 2:
            first_turn = await self.turn(prompt, 0, f"traffic-{number}")
            answers.append(first_turn.answer.token_ids)
        return all(answer == answers[0] for answer in answers)

    async def cold_start_s(self, prompt: list[int]) -> float:
        """From the death of all instances to the first token of one that was asked then."""
        named = await self.states()
        for process in await self.remote.processes():
            if process.name in named:
                os.kill(process.pid, signal.SIGKILL)
        took_s: float = (await self.turn(prompt, 0, "cold")).ttft_s
        await self.until("active")
        return took_s

    async def cold_cache_s(self, number: int, prompt: list[int]) -> float:
        """From a request to its first token, where weights have to be read from the disk."""
        await self.remote.sleep([], "", DRAIN_MS)
        await self.until("silent")
        await asyncio.to_thread(drop_page_cache, Path(self.running.model_source))
        took_s: float = (await self.turn(prompt, 0, f"cold-cache-{number}")).ttft_s
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
        remote = ControlClient(running)
        bus = Bus(running.nats, running.fleet, "bench-sleep")
        bus.start()
        try:
            async with Client(running.grpc) as client:
                chance = random.Random(seed)  # noqa: S311 - prompts and moments, not secrets
                sleeper = SleepBench(
                    running, client, remote, chance, planned.fleet.spec.engine.block_tokens
                )
                for kind in (events_pb2.InstanceSlept, events_pb2.InstanceWoke):
                    bus.follow(kind, sleeper.heard, f"bench-{kind.__name__}")
                await measure(sleeper, cycles, progress)
        finally:
            await bus.close()
            await remote.close()
            await asyncio.to_thread(down, planned.home, running)
    report = report_of(sleeper.found, scaling.get("sleepLevel", "dram"))
    if as_json:
        print(json.dumps(report))
    else:
        show(report)


async def measure(sleeper: SleepBench, cycles: int, progress: Progress) -> None:
    """Every cycle, wakes with a cold page cache, and starts from nothing."""
    chance = sleeper.chance
    first = chance.choices(VOCABULARY, k=FIRST_TOKENS)
    question = chance.choices(VOCABULARY, k=QUESTION_TOKENS)
    expected = await sleeper.converse("reference", first, question)
    with console.err.status("filling KV memory"):
        await sleeper.fill()
    for number in progress.track(range(cycles), description="sleeping and waking"):
        await sleeper.cycle(number, first, question, expected)
    for number in progress.track(range(COLD_CACHES), description="waking from the disk"):
        prompt = chance.choices(VOCABULARY, k=FIRST_TOKENS)
        sleeper.found.cold_cache.append(await sleeper.cold_cache_s(number, prompt))
    for _ in progress.track(range(COLD_STARTS), description="starting from nothing"):
        prompt = chance.choices(VOCABULARY, k=FIRST_TOKENS)
        sleeper.found.cold_start.append(await sleeper.cold_start_s(prompt))


def drop_page_cache(folder: Path) -> None:
    """What the system remembers of these files goes: the next reader has to ask the disk."""
    for file in folder.iterdir():
        if file.is_file():
            with file.open("rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
