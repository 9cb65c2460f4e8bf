"""What an instance tells the mesh about its engine, over a real bus."""

import asyncio
import os
import time
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from argosy.engine.api import BlocksChanged, EngineFailed, EngineRequest, SamplingSpec
from argosy.engine.sim.scheduler import Scheduler
from argosy.instance import instance as instance_module
from argosy.instance.convert import timing_message
from argosy.instance.instance import REPORT_S, EngineInstance
from argosy.launcher.nats_process import NatsProcess
from argosy.mesh.tasks import EXIT_FAILED
from argosy.wire.inference.v1.inference_pb2 import KvChange
from argosy.wire.instance.v1.events_pb2 import InstanceReady

PATIENCE_S = 20


async def eventually(predicate: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not predicate():
        assert time.monotonic() < deadline, "what was awaited never came"
        await asyncio.sleep(0.002)


async def test_a_ready_instance_says_who_it_is_and_what_its_engine_can_hold(
    start_instance: Any,
) -> None:
    member = await start_instance(max_running=3, dp_ranks=2, rack="r1", step_tokens=64)
    await eventually(lambda: member.heard)
    (fact,) = member.heard
    assert (fact.instance_id, fact.epoch, fact.role, fact.node) == ("decode-0", "e1", 2, "n1")
    assert fact.address == member.mesh.address
    info = member.instance.info
    assert (fact.block_tokens, fact.max_running_requests) == (4, 3)
    assert fact.kv_total_blocks == info.kv_total_blocks
    assert fact.max_model_tokens == info.max_model_tokens
    assert (fact.dp_ranks, fact.rack, fact.tokens_per_step) == (2, "r1", 64)
    assert fact.timing == timing_message(info.timing)
    assert fact.timing.prefill_ms[0] > 0


async def test_the_last_load_is_never_lost(start_instance: Any) -> None:
    member = await start_instance()
    sampling = SamplingSpec(1)
    requests = [EngineRequest(str(n), [n] * 9, sampling, produce=True) for n in range(5)]
    for request in requests:
        async for _ in member.instance.engine.submit(request):
            pass
    expected = member.instance.load()
    assert expected.kv_used_blocks == 5 * 3
    await eventually(lambda: member.loads and member.loads[-1].kv_used_blocks == 15)


async def test_loads_are_told_no_more_often_than_promised(start_instance: Any) -> None:
    member = await start_instance(sim_speed=20)
    await member.answer("a", [1] * 9, max_tokens=200)
    await eventually(lambda: len(member.loads) > 3 and member.loads[-1].running_requests == 0)
    times = [load.at_us for load in member.loads]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) > 0.9e6 * REPORT_S


async def test_a_silent_engine_is_heard_of_at_every_heartbeat(start_instance: Any) -> None:
    member = await start_instance(heartbeat_s=0.03)
    await eventually(lambda: len(member.loads) >= 4)
    assert {load.instance_id for load in member.loads} == {"decode-0"}


def sum_of(changes: list[KvChange], ranks: int) -> list[set[int]]:
    """What a router that heard every change thinks each rank holds."""
    held: list[set[int]] = [set() for _ in range(ranks)]
    for change in changes:
        before = set() if change.cleared else held[change.dp_rank]
        held[change.dp_rank] = before - set(change.removed) | set(change.stored)
    return held


def snapshot_of(instance: EngineInstance, ranks: int) -> list[set[int]]:
    """What a router that asks for all blocks learns; each is told once."""
    held: list[set[int]] = [set() for _ in range(ranks)]
    for part in instance.kv_snapshot():
        assert (part.instance_id, part.epoch) == ("decode-0", "e1")
        assert part.change_sequence == instance._changes
        assert not held[part.dp_rank] & set(part.blocks)
        held[part.dp_rank] |= set(part.blocks)
    return held


@pytest.mark.parametrize("ranks", [1, 2])
async def test_block_changes_are_numbered_without_a_jump_and_add_up_to_the_snapshot(
    start_instance: Any, ranks: int
) -> None:
    member = await start_instance(kv_bytes=6 << 20, dp_ranks=ranks)
    for number in range(6):
        await member.answer(str(number), [number] * 21, max_tokens=2, dp_rank=number % ranks)
    engine = member.instance.engine
    resident = [set(rank.pool.known_blocks()) for rank in engine._scheduler.ranks]
    await eventually(lambda: len(member.changes) == member.instance._changes)
    assert sum_of(member.changes, ranks) == snapshot_of(member.instance, ranks) == resident
    assert all(resident)
    assert [c.change_sequence for c in member.changes] == list(range(1, len(member.changes) + 1))
    assert any(change.removed for change in member.changes)


async def test_a_snapshot_is_all_changes_told_before_it_in_parts_of_a_bounded_size(
    start_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance_module, "SNAPSHOT_PART_BLOCKS", 5)
    member = await start_instance(dp_ranks=2)
    chance = Random(1)
    for number in range(60):
        held = sum_of(member.changes, 2)
        rank, cleared = chance.randrange(2), chance.random() < 0.05
        removed = [] if cleared else [block for block in held[rank] if chance.random() < 0.3]
        stored = [chance.randrange(1 << 64) for _ in range(chance.randrange(1, 9))]
        member.instance.engine._listener.blocks_changed(
            BlocksChanged(stored, removed, cleared, rank)
        )
        await eventually(lambda told=number + 1: len(member.changes) == told)
        assert snapshot_of(member.instance, 2) == sum_of(member.changes, 2)
        assert max(len(part.blocks) for part in member.instance.kv_snapshot()) <= 5
    assert any(change.cleared for change in member.changes)


async def test_an_instance_that_holds_nothing_says_so_for_every_rank(start_instance: Any) -> None:
    member = await start_instance(dp_ranks=3)
    parts = list(member.instance.kv_snapshot())
    assert [(part.dp_rank, list(part.blocks)) for part in parts] == [(0, []), (1, []), (2, [])]


async def test_an_instance_says_when_it_drains_and_when_it_has_stopped(start_instance: Any) -> None:
    member = await start_instance()
    member.work.idle = False
    draining = asyncio.ensure_future(member.instance.drain())
    await eventually(lambda: "InstanceDraining" in member.names())
    assert member.heard[-1].change.cause == "asked to stop"
    assert not draining.done()
    member.work.done()
    await asyncio.wait_for(draining, PATIENCE_S)
    await member.instance.stop()
    await eventually(lambda: "InstanceStopped" in member.names())


async def test_a_bus_that_comes_back_is_told_again_who_is_ready(
    start_instance: Any, nats: NatsProcess
) -> None:
    member = await start_instance()
    await eventually(lambda: member.names() == ["InstanceReady"])
    nats.kill()
    await eventually(lambda: not member.mesh.bus.connected.is_set())
    nats.start()
    await eventually(lambda: member.names() == ["InstanceReady"] * 2)


async def test_a_draining_instance_does_not_call_itself_ready_again(
    start_instance: Any, nats: NatsProcess
) -> None:
    member = await start_instance()
    await eventually(lambda: member.names() == ["InstanceReady"])
    member.work.idle = False
    draining = asyncio.ensure_future(member.instance.drain())
    await eventually(lambda: "InstanceDraining" in member.names())
    nats.kill()
    await eventually(lambda: not member.mesh.bus.connected.is_set())
    nats.start()
    await asyncio.wait_for(member.mesh.bus.connected.wait(), PATIENCE_S)
    draining.cancel()
    member.mesh.bus.publish(InstanceReady(instance_id="the next one"))
    await eventually(lambda: member.heard[-1].instance_id == "the next one")
    assert member.names() == ["InstanceReady", "InstanceDraining", "InstanceReady"]


async def test_an_engine_beyond_use_ends_the_process_to_be_started_anew(
    start_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    member = await start_instance()
    monkeypatch.setattr(os, "_exit", ended.append)
    member.instance.engine._listener.died("it is gone")
    assert ended == [EXIT_FAILED]


async def test_an_engine_whose_steps_raise_ends_the_process_to_be_started_anew(
    start_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a defect in a step")

    ended: list[int] = []
    member = await start_instance()
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(Scheduler, "plan", broken)
    with pytest.raises(EngineFailed, match="a defect in a step"):
        async with asyncio.timeout(PATIENCE_S):
            await member.answer("a", [1, 2, 3])
    assert ended == [EXIT_FAILED]
