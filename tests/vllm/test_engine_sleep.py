"""Engines that sleep: what comes back, what is given back, and who can still hand over to whom."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil
import pytest
import pytest_asyncio

from argosy.engine.api import BlocksChanged, EngineRequest, Listener, SamplingSpec, SleepLevel
from argosy.engine.vllm.engine import VllmEngine
from argosy.instance.settings import InstanceSettings
from argosy.mesh.ports import free_port

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="module")]

MODEL = Path("models/smollm2-135m")
KV_BYTES = 256 << 20
WEIGHT_BYTES = MODEL.joinpath("model.safetensors").stat().st_size * 2
"""The file has two bytes for each weight, the engine four."""
TOKENS = 8
ROLES = ("prefill", "decode")


@dataclass
class EngineInChild:
    """An engine, and what its listener heard of KV blocks."""

    engine: VllmEngine
    core: psutil.Process
    changes: list[BlocksChanged] = field(default_factory=list)
    asked: int = 0

    async def ask(
        self, prompt: list[int], tokens: int = TOKENS, **request
    ) -> tuple[list[int], bytes | None]:
        """Greedy tokens, and the KV handle."""
        self.asked += 1
        sampling = SamplingSpec(max_tokens=tokens, temperature=0, ignore_eos=True)
        answer, handle = [], None
        name = f"request-{self.asked}"
        async for output in self.engine.submit(EngineRequest(name, prompt, sampling, **request)):
            answer += output.token_ids
            handle = output.kv_handle or handle
        return answer, handle

    async def sleep(self, level: SleepLevel) -> None:
        await self.engine.withdraw()
        await self.engine.sleep(level)

    async def wake(self) -> None:
        await self.engine.wake()
        await self.engine.register()
        await self.ask([1], 1)

    def memory(self) -> int:
        """Bytes of the engine core, and of this process."""
        return sum(process.memory_full_info().pss for process in (self.core, psutil.Process()))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet() -> AsyncIterator[dict[str, EngineInChild]]:
    """A prefill and a decode engine."""
    environment = dict(os.environ)
    async with child("prefill", "0") as prefill, child("decode", "1") as decode:
        yield {"prefill": prefill, "decode": decode}
    os.environ.clear()
    os.environ.update(environment)


@asynccontextmanager
async def child(role: str, cores: str) -> AsyncIterator[EngineInChild]:
    settings = InstanceSettings(
        engine="vllm",
        model="smollm2-135m",
        model_source=str(MODEL.resolve()),
        kv_bytes=KV_BYTES,
        max_model_tokens=2048,
        max_running=8,
        step_tokens=512,
        dtype="float32",
        cpu_cores=cores,
        nixl_port=free_port(),
    )
    engine = VllmEngine(settings, role)
    changes: list[BlocksChanged] = []
    before = set(psutil.Process().children(recursive=True))
    await engine.start(Listener(lambda stats: None, changes.append, pytest.fail))
    started = set(psutil.Process().children(recursive=True)) - before
    core = max(started, key=lambda process: process.memory_info().rss)
    try:
        yield EngineInChild(engine, core, changes)
    finally:
        await engine.stop()


def prompt(tokens: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(1000, 40_000), k=tokens)


@pytest.mark.parametrize("level", ["dram", "disk"])
@pytest.mark.parametrize("role", ROLES)
async def test_answers_are_the_same_after_sleep(fleet, role: str, level: SleepLevel) -> None:
    prompts = [prompt(length, length) for length in (5, 64, 300)]
    before = [await fleet[role].ask(asked) for asked in prompts]
    await fleet[role].sleep(level)
    await fleet[role].wake()
    assert [await fleet[role].ask(asked) for asked in prompts] == before


async def test_listeners_hear_that_all_blocks_are_gone_before_sleep_returns(fleet) -> None:
    child = fleet["prefill"]
    await child.ask(prompt(100, 1))
    child.changes.clear()
    await child.sleep("dram")
    assert [change.cleared for change in child.changes] == [True]
    assert not child.changes[-1].stored
    await child.wake()
    child.changes.clear()
    await child.ask(prompt(100, 1))
    async with asyncio.timeout(10):
        while not child.changes:
            await asyncio.sleep(0.01)
    assert len(child.changes[0].stored) == 100 // 32


async def test_kv_memory_is_given_back_at_either_level_and_weights_at_one(fleet) -> None:
    child = fleet["decode"]
    for number in range(4):  # As many as there are KV blocks for.
        await child.ask(prompt(1500, number))
    active = child.memory()
    await child.sleep("dram")
    dram = child.memory()
    await child.wake()
    await child.sleep("disk")
    disk = child.memory()
    await child.wake()
    assert active - dram > 0.9 * KV_BYTES
    assert dram - disk > 0.9 * WEIGHT_BYTES


@pytest.mark.parametrize("sleepers", [("prefill",), ("decode",), ROLES])
@pytest.mark.parametrize("level", ["dram", "disk"])
async def test_kv_is_handed_over_whoever_has_slept(
    fleet, sleepers: tuple[str, ...], level: SleepLevel
) -> None:
    asked = prompt(200, 7)
    salt = f"{level} {sleepers}"
    local, _ = await fleet["decode"].ask(asked, cache_salt=f"{salt} local")
    assert await handed_over(fleet, asked, f"{salt} before") == local
    for name in sleepers:
        await fleet[name].sleep(level)
        await fleet[name].wake()
    for time in ("first", "second"):
        assert await handed_over(fleet, asked, f"{salt} {time}") == local


async def handed_over(fleet: dict[str, EngineInChild], asked: list[int], salt: str) -> list[int]:
    """What decode answers with KV of prefill's; it must have come from there."""
    _, handle = await fleet["prefill"].ask(asked, 1, produce=True, cache_salt=salt)
    assert handle
    answer, _ = await fleet["decode"].ask(asked, kv_handle=handle, cache_salt=salt)
    return answer


async def test_kv_that_is_held_for_nobody_does_not_keep_an_engine_awake(fleet) -> None:
    """As of a request that was cut in the moment in which it ended."""
    prefill = fleet["prefill"]
    _, handle = await prefill.ask(prompt(200, 77), 1, produce=True)
    assert handle is not None
    await prefill.sleep("dram")
    await prefill.wake()
    assert prefill.engine.stats().kv_used_blocks == 0


async def test_who_registers_again_is_known_by_another_name(fleet) -> None:
    # Over TCP and shared memory even what peers know of withdrawn memory would still work.
    child, asked, names = fleet["prefill"], prompt(64, 8), set()
    for _ in range(2):
        _, handle = await child.ask(asked, 1, produce=True)
        assert handle
        names.add(msgspec.msgpack.decode(handle)["remote_engine_id"])
        await child.engine.release("", handle)
        await child.sleep("dram")
        await child.wake()
    assert len(names) == 2


@pytest.mark.parametrize("role", ROLES)
async def test_sleep_over_and_over_takes_no_more_memory(fleet, role: str) -> None:
    async def cycle(level: SleepLevel) -> None:
        await fleet[role].sleep(level)
        await fleet[role].wake()
        await handed_over(fleet, prompt(100, 2), f"cycle {role} {level}")

    levels: list[SleepLevel] = ["dram", "disk"]
    for level in levels * 2:
        await cycle(level)
    before = {name: child.memory() for name, child in fleet.items()}
    for level in levels * 5:
        await cycle(level)
    for name, child in fleet.items():
        assert child.memory() < 1.02 * before[name]
