"""A life lived: the steps of a real engine, and what the mesh hears of them, over a real bus."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.engine.api import EngineRequest, SamplingSpec
from argosy.instance.lifecycle import core as core_module
from argosy.wire.instance.v1 import events_pb2, instance_pb2

PATIENCE_S = 20
SLEEP = ["drain", "flush", "withdraw", "free"]
WAKE = ["load", "register", "warm_up"]


async def eventually(predicate: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not predicate():
        assert time.monotonic() < deadline, "what was awaited never came"
        await asyncio.sleep(0.002)


async def sleep(
    member: Any,
    decision_sequence: int,
    *,
    level: str = "dram",
    drain_ms: int = 60_000,
    cause: str = "idle",
) -> events_pb2.Change:
    """As its node agent asks."""
    request = instance_pb2.SleepRequest(
        decision_sequence=decision_sequence, level=level, drain_ms=drain_ms, cause=cause
    )
    reply = await member.instance.life.Sleep(request, RpcContext())
    return reply.change


async def wake(member: Any, decision_sequence: int, *, cause: str = "demand") -> events_pb2.Change:
    reply = await member.instance.life.Wake(
        instance_pb2.WakeRequest(decision_sequence=decision_sequence, cause=cause), RpcContext()
    )
    return reply.change


class RpcContext:
    """What a handler needs of a call."""

    def invocation_metadata(self) -> tuple[()]:
        return ()

    async def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> None:
        raise ArgosyError(Reason.INTERNAL, f"{code}: {details}")


def facts_named(member: Any, name: str) -> list[Any]:
    return [fact for fact in member.heard if type(fact).__name__ == name]


async def heard(member: Any, *names: str) -> None:
    """Until these facts, in any order, are all that were told."""
    await eventually(lambda: sorted(member.names()) == sorted(names))


def changes(member: Any) -> list[tuple[int, str, str]]:
    """Number, state and kind of every fact, by number."""
    return sorted(
        (fact.change.number, events_pb2.State.Name(fact.change.state), type(fact).__name__)
        for fact in member.heard
    )


async def at_rest(member: Any) -> None:
    await eventually(lambda: member.instance.life.state.state == "silent")


class Gate:
    """A step that waits to be let through, or raises."""

    def __init__(self, step: Any) -> None:
        self.step = step
        self.entered = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, *args: Any) -> None:
        self.entered.set()
        await self.open.wait()
        await self.step(*args)


async def test_a_sleep_tells_its_steps_and_what_the_process_holds_still(
    start_instance: Any,
) -> None:
    member = await start_instance()
    await sleep(member, 1)
    await heard(member, "InstanceReady", "InstanceDraining", "InstanceSlept")
    (slept,) = facts_named(member, "InstanceSlept")
    assert (slept.instance_id, slept.epoch) == ("decode-0", "e1")
    change = slept.change
    assert (change.state, change.number, change.decision_sequence) == (
        events_pb2.STATE_SILENT,
        3,
        1,
    )
    assert (change.cause, change.level) == ("idle", "dram")
    assert [step.name for step in change.steps] == SLEEP
    assert change.resident_bytes > 1 << 20
    assert member.work.calls == ["stop_admitting"]


async def test_a_wake_tells_its_steps_and_takes_work_again(start_instance: Any) -> None:
    member = await start_instance()
    await sleep(member, 1)
    await at_rest(member)
    await wake(member, 2)
    await heard(
        member,
        "InstanceReady",
        "InstanceDraining",
        "InstanceSlept",
        "InstanceWaking",
        "InstanceWoke",
    )
    (woke,) = facts_named(member, "InstanceWoke")
    assert (woke.change.state, woke.change.cause) == (events_pb2.STATE_ACTIVE, "demand")
    assert [step.name for step in woke.change.steps] == WAKE
    assert member.work.calls == ["stop_admitting", "resume"]
    await asyncio.wait_for(member.answer("a", [1] * 9, max_tokens=3), PATIENCE_S)


@pytest.mark.parametrize("ranks", [1, 2])
async def test_whoever_heard_of_its_blocks_hears_that_they_are_gone(
    start_instance: Any, ranks: int
) -> None:
    member = await start_instance(dp_ranks=ranks)
    for rank in range(ranks):
        await member.answer(f"{rank}", [rank] * 21, max_tokens=2, dp_rank=rank)
    await sleep(member, 1)
    await at_rest(member)
    await eventually(lambda: len(member.changes) == member.instance._changes)
    held: list[set[int]] = [set() for _ in range(ranks)]
    for change in member.changes:
        before = set() if change.cleared else held[change.dp_rank]
        held[change.dp_rank] = before - set(change.removed) | set(change.stored)
    assert held == [set()] * ranks
    assert [list(part.blocks) for part in member.instance.kv_snapshot()] == [[]] * ranks
    assert [c.change_sequence for c in member.changes] == list(range(1, len(member.changes) + 1))


async def test_blocks_the_engine_says_nothing_of_are_said_to_be_gone(
    start_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = await start_instance()
    await member.answer("a", [1] * 21, max_tokens=2)

    async def says_nothing(level: str) -> None:
        return

    monkeypatch.setattr(member.instance.engine, "sleep", says_nothing)
    await sleep(member, 1)
    await at_rest(member)
    await eventually(lambda: member.changes and member.changes[-1].cleared)
    assert [list(part.blocks) for part in member.instance.kv_snapshot()] == [[]]


async def test_its_load_says_that_it_rests_and_since_which_change(start_instance: Any) -> None:
    member = await start_instance(heartbeat_s=0.02)
    assert not member.instance.load().not_serving
    await sleep(member, 1)
    await at_rest(member)
    await eventually(lambda: member.loads[-1].not_serving)
    await eventually(lambda: member.loads[-1].change == 3)
    await wake(member, 2)
    await eventually(lambda: member.loads[-1].change == 5)
    assert not member.loads[-1].not_serving


async def test_a_drain_waits_for_what_runs(start_instance: Any) -> None:
    member = await start_instance()
    member.work.idle = False
    await sleep(member, 1)
    await eventually(lambda: member.work.calls == ["stop_admitting"])
    assert member.instance.life.state.state == "draining"
    member.work.done()
    await at_rest(member)


async def test_what_runs_is_cut_when_the_drain_has_had_its_time(start_instance: Any) -> None:
    member = await start_instance()
    member.work.idle = False
    await sleep(member, 1, drain_ms=20)
    await at_rest(member)
    assert member.work.calls == ["stop_admitting", "abort"]


async def test_a_wake_during_a_drain_turns_it_round_at_once(start_instance: Any) -> None:
    member = await start_instance()
    member.work.idle = False
    await sleep(member, 1)
    await eventually(lambda: member.work.calls == ["stop_admitting"])
    change = await wake(member, 2)
    assert (change.state, change.number) == (events_pb2.STATE_ACTIVE, 3)
    assert member.work.calls == ["stop_admitting", "resume"]
    await heard(member, "InstanceReady", "InstanceDraining", "InstanceReady")
    assert facts_named(member, "InstanceReady")[-1].change.number == 3
    member.work.done()  # What ends now ends no later drain.
    await sleep(member, 3)
    await eventually(lambda: member.work.calls[-1] == "stop_admitting")
    assert member.instance.life.state.state == "draining"


@pytest.mark.parametrize("step", ["withdraw", "sleep"])
async def test_a_wake_during_what_cannot_be_undone_follows_it(
    start_instance: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    member = await start_instance()
    gate = Gate(getattr(member.instance.engine, step))
    monkeypatch.setattr(member.instance.engine, step, gate)
    await sleep(member, 1)
    await asyncio.wait_for(gate.entered.wait(), PATIENCE_S)
    assert (await wake(member, 2)).state == events_pb2.STATE_DRAINING
    gate.open.set()
    await heard(
        member,
        "InstanceReady",
        "InstanceDraining",
        "InstanceSlept",
        "InstanceWaking",
        "InstanceWoke",
    )
    assert changes(member) == [
        (1, "STATE_ACTIVE", "InstanceReady"),
        (2, "STATE_DRAINING", "InstanceDraining"),
        (3, "STATE_SILENT", "InstanceSlept"),
        (4, "STATE_WAKING", "InstanceWaking"),
        (5, "STATE_ACTIVE", "InstanceWoke"),
    ]


async def test_blocks_are_said_to_be_gone_even_if_a_wake_followed_at_once(
    start_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = await start_instance()
    await member.answer("a", [1] * 21, max_tokens=2)

    async def says_nothing(level: str) -> None:
        return

    gate = Gate(says_nothing)
    monkeypatch.setattr(member.instance.engine, "sleep", gate)
    await sleep(member, 1)
    await asyncio.wait_for(gate.entered.wait(), PATIENCE_S)
    await wake(member, 2)
    gate.open.set()
    await eventually(lambda: member.instance.life.state.change == 5)
    await eventually(lambda: any(change.cleared for change in member.changes))


async def test_a_sleep_during_a_wake_follows_it(
    start_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = await start_instance()
    gate = Gate(member.instance.engine.wake)
    monkeypatch.setattr(member.instance.engine, "wake", gate)
    await sleep(member, 1)
    await at_rest(member)
    await wake(member, 2)
    await asyncio.wait_for(gate.entered.wait(), PATIENCE_S)
    await sleep(member, 3)
    gate.open.set()
    await eventually(lambda: len(member.heard) == 7)
    assert changes(member)[4:] == [
        (5, "STATE_ACTIVE", "InstanceWoke"),
        (6, "STATE_DRAINING", "InstanceDraining"),
        (7, "STATE_SILENT", "InstanceSlept"),
    ]
    assert member.work.calls == ["stop_admitting", "resume", "stop_admitting"]


async def test_a_process_that_ends_undrained_says_each_change_as_it_was(
    start_instance: Any,
) -> None:
    member = await start_instance()
    await heard(member, "InstanceReady")
    await member.instance.stop()
    await heard(member, "InstanceReady", "InstanceDraining", "InstanceStopped")
    assert changes(member)[1:] == [
        (2, "STATE_DRAINING", "InstanceDraining"),
        (3, "STATE_STOPPED", "InstanceStopped"),
    ]


@pytest.mark.parametrize("step", ["withdraw", "sleep", "wake", "register"])
async def test_a_step_that_fails_ends_the_process(
    start_instance: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    member, reasons = await start_instance(), []
    monkeypatch.setattr(member.instance.life, "_give_up", reasons.append)

    async def breaks(*args: Any) -> None:
        raise RuntimeError("the driver is gone")

    monkeypatch.setattr(member.instance.engine, step, breaks)
    await sleep(member, 1)
    if step in ("wake", "register"):
        await at_rest(member)
        await wake(member, 2)
    await eventually(lambda: reasons)
    assert "the driver is gone" in reasons[0]


async def test_a_step_that_does_not_end_ends_the_process(
    start_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_module, "STEP_US", 20_000)
    member, reasons = await start_instance(), []
    monkeypatch.setattr(member.instance.life, "_give_up", reasons.append)
    gate = Gate(member.instance.engine.withdraw)
    monkeypatch.setattr(member.instance.engine, "withdraw", gate)
    await sleep(member, 1)
    await eventually(lambda: reasons)
    assert "withdraw" in reasons[0]
    gate.open.set()


async def test_an_older_decision_changes_nothing(start_instance: Any) -> None:
    member = await start_instance()
    await wake(member, 7)
    change = await sleep(member, 6)
    assert (change.state, change.number) == (events_pb2.STATE_ACTIVE, 1)
    assert member.work.calls == []


async def test_a_level_there_is_not_is_refused_with_those_there_are(start_instance: Any) -> None:
    member = await start_instance()
    with pytest.raises(ArgosyError, match="dram and disk"):
        await sleep(member, 1, level="tape")
    assert member.instance.life.state.decision_sequence == 0


async def test_a_silent_instance_stops_at_once(start_instance: Any) -> None:
    member = await start_instance()
    await sleep(member, 1)
    await at_rest(member)
    await asyncio.wait_for(member.instance.drain(), PATIENCE_S)
    assert member.instance.life.state.state == "stopped"


async def test_a_silent_instance_describes_itself_anew_as_silent_when_the_bus_comes_back(
    start_instance: Any, nats: Any
) -> None:
    member = await start_instance()
    await sleep(member, 1)
    await heard(member, "InstanceReady", "InstanceDraining", "InstanceSlept")
    nats.kill()
    await eventually(lambda: not member.mesh.bus.connected.is_set())
    nats.start()
    await asyncio.wait_for(member.mesh.bus.connected.wait(), PATIENCE_S)
    await eventually(lambda: len(facts_named(member, "InstanceReady")) == 2)
    assert facts_named(member, "InstanceReady")[-1].change.state == events_pb2.STATE_SILENT


async def test_answers_of_a_woken_instance_are_those_of_one_that_never_slept(
    start_instance: Any,
) -> None:
    member = await start_instance()
    before = await tokens_of(member, "a")
    for decision_sequence in range(1, 11, 2):
        await sleep(member, decision_sequence)
        await at_rest(member)
        await wake(member, decision_sequence + 1)
        await eventually(lambda: member.instance.life.state.state == "active")
        assert await tokens_of(member, f"a{decision_sequence}") == before


async def tokens_of(member: Any, name: str) -> list[int]:
    sampling = SamplingSpec(12, temperature=0, ignore_eos=True)
    request = EngineRequest(name, [5] * 9, sampling)
    return [t async for out in member.instance.engine.submit(request) for t in out.token_ids]
