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
    ship: Any, turn: int, *, level: str = "dram", drain_ms: int = 60_000, cause: str = "idle"
) -> events_pb2.Change:
    """As its node agent asks."""
    request = instance_pb2.SleepRequest(turn=turn, level=level, drain_ms=drain_ms, cause=cause)
    reply = await ship.instance.life.Sleep(request, Context())
    return reply.change


async def wake(ship: Any, turn: int, *, cause: str = "demand") -> events_pb2.Change:
    reply = await ship.instance.life.Wake(
        instance_pb2.WakeRequest(turn=turn, cause=cause), Context()
    )
    return reply.change


class Context:
    """What a handler needs of a call."""

    def invocation_metadata(self) -> tuple[()]:
        return ()

    async def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> None:
        raise ArgosyError(Reason.INTERNAL, f"{code}: {details}")


def told(ship: Any, name: str) -> list[Any]:
    return [fact for fact in ship.told if type(fact).__name__ == name]


async def heard(ship: Any, *names: str) -> None:
    """Until these facts, in any order, are all that were told."""
    await eventually(lambda: sorted(ship.names()) == sorted(names))


def changes(ship: Any) -> list[tuple[int, str, str]]:
    """Number, state and kind of every fact, by number."""
    return sorted(
        (fact.change.number, events_pb2.State.Name(fact.change.state), type(fact).__name__)
        for fact in ship.told
    )


async def at_rest(ship: Any) -> None:
    await eventually(lambda: ship.instance.life.state.state == "silent")


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


async def test_a_sleep_tells_its_steps_and_what_the_process_holds_still(crew: Any) -> None:
    ship = await crew()
    await sleep(ship, 1)
    await heard(ship, "InstanceReady", "InstanceDraining", "InstanceSlept")
    (slept,) = told(ship, "InstanceSlept")
    assert (slept.instance_id, slept.epoch) == ("decode-0", "e1")
    change = slept.change
    assert (change.state, change.number, change.turn) == (events_pb2.STATE_SILENT, 3, 1)
    assert (change.cause, change.level) == ("idle", "dram")
    assert [step.name for step in change.steps] == SLEEP
    assert change.resident_bytes > 1 << 20
    assert ship.hands.calls == ["hold"]


async def test_a_wake_tells_its_steps_and_takes_work_again(crew: Any) -> None:
    ship = await crew()
    await sleep(ship, 1)
    await at_rest(ship)
    await wake(ship, 2)
    await heard(
        ship, "InstanceReady", "InstanceDraining", "InstanceSlept", "InstanceWaking",
        "InstanceWoke",
    )  # fmt: skip
    (woke,) = told(ship, "InstanceWoke")
    assert (woke.change.state, woke.change.cause) == (events_pb2.STATE_ACTIVE, "demand")
    assert [step.name for step in woke.change.steps] == WAKE
    assert ship.hands.calls == ["hold", "take"]
    await asyncio.wait_for(ship.answer("a", [1] * 9, max_tokens=3), PATIENCE_S)


@pytest.mark.parametrize("ranks", [1, 2])
async def test_whoever_heard_of_its_blocks_hears_that_they_are_gone(crew: Any, ranks: int) -> None:
    ship = await crew(dp_ranks=ranks)
    for rank in range(ranks):
        await ship.answer(f"{rank}", [rank] * 21, max_tokens=2, dp_rank=rank)
    await sleep(ship, 1)
    await at_rest(ship)
    await eventually(lambda: len(ship.changes) == ship.instance._changes)
    held: list[set[int]] = [set() for _ in range(ranks)]
    for change in ship.changes:
        before = set() if change.cleared else held[change.dp_rank]
        held[change.dp_rank] = before - set(change.removed) | set(change.stored)
    assert held == [set()] * ranks
    assert [list(part.blocks) for part in ship.instance.kv_snapshot()] == [[]] * ranks
    assert [c.change_sequence for c in ship.changes] == list(range(1, len(ship.changes) + 1))


async def test_blocks_the_engine_says_nothing_of_are_said_to_be_gone(
    crew: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship = await crew()
    await ship.answer("a", [1] * 21, max_tokens=2)

    async def says_nothing(level: str) -> None:
        return

    monkeypatch.setattr(ship.instance.engine, "sleep", says_nothing)
    await sleep(ship, 1)
    await at_rest(ship)
    await eventually(lambda: ship.changes and ship.changes[-1].cleared)
    assert [list(part.blocks) for part in ship.instance.kv_snapshot()] == [[]]


async def test_its_load_says_that_it_rests_and_since_which_change(crew: Any) -> None:
    ship = await crew(heartbeat_s=0.02)
    assert not ship.instance.load().resting
    await sleep(ship, 1)
    await at_rest(ship)
    await eventually(lambda: ship.loads[-1].resting)
    await eventually(lambda: ship.loads[-1].change == 3)
    await wake(ship, 2)
    await eventually(lambda: ship.loads[-1].change == 5)
    assert not ship.loads[-1].resting


async def test_a_drain_waits_for_what_runs(crew: Any) -> None:
    ship = await crew()
    ship.hands.idle = False
    await sleep(ship, 1)
    await eventually(lambda: ship.hands.calls == ["hold"])
    assert ship.instance.life.state.state == "draining"
    ship.hands.done()
    await at_rest(ship)


async def test_what_runs_is_cut_when_the_drain_has_had_its_time(crew: Any) -> None:
    ship = await crew()
    ship.hands.idle = False
    await sleep(ship, 1, drain_ms=20)
    await at_rest(ship)
    assert ship.hands.calls == ["hold", "cut"]


async def test_a_wake_during_a_drain_turns_it_round_at_once(crew: Any) -> None:
    ship = await crew()
    ship.hands.idle = False
    await sleep(ship, 1)
    await eventually(lambda: ship.hands.calls == ["hold"])
    change = await wake(ship, 2)
    assert (change.state, change.number) == (events_pb2.STATE_ACTIVE, 3)
    assert ship.hands.calls == ["hold", "take"]
    await heard(ship, "InstanceReady", "InstanceDraining", "InstanceReady")
    assert told(ship, "InstanceReady")[-1].change.number == 3
    ship.hands.done()  # What ends now ends no later drain.
    await sleep(ship, 3)
    await eventually(lambda: ship.hands.calls[-1] == "hold")
    assert ship.instance.life.state.state == "draining"


@pytest.mark.parametrize("step", ["withdraw", "sleep"])
async def test_a_wake_during_what_cannot_be_undone_follows_it(
    crew: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    ship = await crew()
    gate = Gate(getattr(ship.instance.engine, step))
    monkeypatch.setattr(ship.instance.engine, step, gate)
    await sleep(ship, 1)
    await asyncio.wait_for(gate.entered.wait(), PATIENCE_S)
    assert (await wake(ship, 2)).state == events_pb2.STATE_DRAINING
    gate.open.set()
    await heard(
        ship, "InstanceReady", "InstanceDraining", "InstanceSlept", "InstanceWaking",
        "InstanceWoke",
    )  # fmt: skip
    assert changes(ship) == [
        (1, "STATE_ACTIVE", "InstanceReady"), (2, "STATE_DRAINING", "InstanceDraining"),
        (3, "STATE_SILENT", "InstanceSlept"), (4, "STATE_WAKING", "InstanceWaking"),
        (5, "STATE_ACTIVE", "InstanceWoke"),
    ]  # fmt: skip


async def test_blocks_are_said_to_be_gone_even_if_a_wake_followed_at_once(
    crew: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship = await crew()
    await ship.answer("a", [1] * 21, max_tokens=2)

    async def says_nothing(level: str) -> None:
        return

    gate = Gate(says_nothing)
    monkeypatch.setattr(ship.instance.engine, "sleep", gate)
    await sleep(ship, 1)
    await asyncio.wait_for(gate.entered.wait(), PATIENCE_S)
    await wake(ship, 2)
    gate.open.set()
    await eventually(lambda: ship.instance.life.state.change == 5)
    await eventually(lambda: any(change.cleared for change in ship.changes))


async def test_a_sleep_during_a_wake_follows_it(crew: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ship = await crew()
    gate = Gate(ship.instance.engine.wake)
    monkeypatch.setattr(ship.instance.engine, "wake", gate)
    await sleep(ship, 1)
    await at_rest(ship)
    await wake(ship, 2)
    await asyncio.wait_for(gate.entered.wait(), PATIENCE_S)
    await sleep(ship, 3)
    gate.open.set()
    await eventually(lambda: len(ship.told) == 7)
    assert changes(ship)[4:] == [
        (5, "STATE_ACTIVE", "InstanceWoke"), (6, "STATE_DRAINING", "InstanceDraining"),
        (7, "STATE_SILENT", "InstanceSlept"),
    ]  # fmt: skip
    assert ship.hands.calls == ["hold", "take", "hold"]


async def test_a_process_that_ends_undrained_says_each_change_as_it_was(crew: Any) -> None:
    ship = await crew()
    await heard(ship, "InstanceReady")
    await ship.instance.stop()
    await heard(ship, "InstanceReady", "InstanceDraining", "InstanceStopped")
    assert changes(ship)[1:] == [
        (2, "STATE_DRAINING", "InstanceDraining"), (3, "STATE_STOPPED", "InstanceStopped")
    ]  # fmt: skip


@pytest.mark.parametrize("step", ["withdraw", "sleep", "wake", "register"])
async def test_a_step_that_fails_ends_the_process(
    crew: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    ship, reasons = await crew(), []
    monkeypatch.setattr(ship.instance.life, "_give_up", reasons.append)

    async def breaks(*args: Any) -> None:
        raise RuntimeError("the driver is gone")

    monkeypatch.setattr(ship.instance.engine, step, breaks)
    await sleep(ship, 1)
    if step in ("wake", "register"):
        await at_rest(ship)
        await wake(ship, 2)
    await eventually(lambda: reasons)
    assert "the driver is gone" in reasons[0]


async def test_a_step_that_does_not_end_ends_the_process(
    crew: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_module, "STEP_US", 20_000)
    ship, reasons = await crew(), []
    monkeypatch.setattr(ship.instance.life, "_give_up", reasons.append)
    gate = Gate(ship.instance.engine.withdraw)
    monkeypatch.setattr(ship.instance.engine, "withdraw", gate)
    await sleep(ship, 1)
    await eventually(lambda: reasons)
    assert "withdraw" in reasons[0]
    gate.open.set()


async def test_an_older_decision_changes_nothing(crew: Any) -> None:
    ship = await crew()
    await wake(ship, 7)
    change = await sleep(ship, 6)
    assert (change.state, change.number) == (events_pb2.STATE_ACTIVE, 1)
    assert ship.hands.calls == []


async def test_a_level_there_is_not_is_refused_with_those_there_are(crew: Any) -> None:
    ship = await crew()
    with pytest.raises(ArgosyError, match="dram and disk"):
        await sleep(ship, 1, level="tape")
    assert ship.instance.life.state.turn == 0


async def test_a_silent_instance_stops_at_once(crew: Any) -> None:
    ship = await crew()
    await sleep(ship, 1)
    await at_rest(ship)
    await asyncio.wait_for(ship.instance.drain(), PATIENCE_S)
    assert ship.instance.life.state.state == "stopped"


async def test_a_silent_instance_describes_itself_anew_as_silent_when_the_bus_comes_back(
    crew: Any, nats: Any
) -> None:
    ship = await crew()
    await sleep(ship, 1)
    await heard(ship, "InstanceReady", "InstanceDraining", "InstanceSlept")
    nats.kill()
    await eventually(lambda: not ship.mesh.bus.connected.is_set())
    nats.start()
    await asyncio.wait_for(ship.mesh.bus.connected.wait(), PATIENCE_S)
    await eventually(lambda: len(told(ship, "InstanceReady")) == 2)
    assert told(ship, "InstanceReady")[-1].change.state == events_pb2.STATE_SILENT


async def test_answers_of_a_woken_instance_are_those_of_one_that_never_slept(crew: Any) -> None:
    ship = await crew()
    before = await tokens_of(ship, "a")
    for turn in range(1, 11, 2):
        await sleep(ship, turn)
        await at_rest(ship)
        await wake(ship, turn + 1)
        await eventually(lambda: ship.instance.life.state.state == "active")
        assert await tokens_of(ship, f"a{turn}") == before


async def tokens_of(ship: Any, name: str) -> list[int]:
    sampling = SamplingSpec(12, temperature=0, ignore_eos=True)
    request = EngineRequest(name, [5] * 9, sampling)
    return [t async for out in ship.instance.engine.submit(request) for t in out.token_ids]
