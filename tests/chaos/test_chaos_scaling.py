"""Whoever dies while instances come and go: nothing is done twice, undone, or left undone."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from argosy.client.control import ControlClient
from argosy.domain.errors import ArgosyError
from argosy.mesh.bus import Bus
from argosy.wire.autoscaler.v1 import events_pb2 as scaler_pb2
from argosy.wire.instance.v1 import events_pb2 as life_pb2
from argosy.wire.node_agent.v1 import events_pb2 as node_pb2
from argosy.wire.operator.v1 import events_pb2 as operator_pb2

pytestmark = pytest.mark.slow

WAKE_MS = 3500
"""About as long as a service takes to be back."""
STALE_S = 2
LATE_S = 120
"""Until something is given up on: machines are busy."""
DECODES = ("decode-0", "decode-1", "decode-2")
EVERY_DECODE = "daily 00:00-24:00 at least 3 decode"
SILENT_REPORTS = 6
"""Of a node, one a second: longer than idleSleepAfter."""
SCALING = {
    "mode": "act",
    "prefill": {"min": 0, "max": 1},
    "decode": {"min": 0, "max": 3},
    "dwell": "1s",
    "idleSleepAfter": "2s",
}
SCALER = {"tick_s": ".25", "slot_s": "1", "plan_slots": "20", "stale_s": str(STALE_S)}
DECIDED = (scaler_pb2.ScaleDecided, scaler_pb2.SleepDecided, scaler_pb2.WakeDecided)
WAKES = (life_pb2.InstanceWaking, life_pb2.InstanceWoke)


@pytest.fixture(scope="module")
def tidal(tmp_path_factory: pytest.TempPathFactory, new_fleet_launcher: Any) -> Iterator[Any]:
    """One prefill, three decodes that take a while to wake; all of them may sleep."""
    launcher = new_fleet_launcher(tmp_path_factory.mktemp("scaling_fleet"))
    yield asyncio.run(
        launcher.launch(
            name="scaling-fleet",
            decode=3,
            timing={"wake_ms": WAKE_MS},
            scaling=SCALING,
            scaler=SCALER,
        )
    )
    launcher.close()


@pytest.fixture
async def scaling_fleet(tidal: Any, eventually: Any) -> Any:
    """tidal, healed, without plans of other tests, all asleep."""
    await eventually(tidal.is_whole_or_asleep, LATE_S)
    await eventually(lambda: serves(tidal), LATE_S)
    async with asking(tidal) as remote:
        for plan in await remote.plans():
            await remote.remove_plan(plan.name)
    await eventually(lambda: are(tidal, "silent"), LATE_S)
    return tidal


@asynccontextmanager
async def asking(fleet: Any) -> AsyncIterator[ControlClient]:
    """The fleet's autoscaler and operator."""
    remote = ControlClient(fleet.running)
    try:
        yield remote
    finally:
        await remote.close()


async def are(fleet: Any, state: str, *names: str) -> bool:
    """As fleet.are; False while somebody who would know is not there."""
    try:
        return bool(await fleet.are(state, *names))
    except ArgosyError:
        return False


async def serves(fleet: Any, but: int = 0) -> bool:
    """Whether the autoscaler has read the log; `but`: and is not the process of that pid."""
    try:
        process = (await fleet.processes())["autoscaler"]
        async with asking(fleet) as remote:
            status = await remote.scaler_status()
    except ArgosyError:
        return False
    return bool(process.pid not in (0, but) and status.mode and status.signals == "fresh")


def of(facts: list[Any], *kinds: type) -> list[Any]:
    """Those facts of these types."""
    return [fact for fact in facts if isinstance(fact, kinds)]


async def slots(fleet: Any, eventually: Any, count: int) -> None:
    """Return when so many more slots of history have been told of."""
    async with fleet.follows(scaler_pb2.DemandMeasured) as told:
        await eventually(lambda: len(told) >= count, LATE_S)


async def check_once(facts: list[Any], eventually: Any) -> None:
    """Each decode woke, and nobody twice; generations only grow."""

    def woke(kind: type) -> Counter[str]:
        return Counter(fact.instance_id for fact in of(facts, kind))

    # Who is asked knows of a wake sooner than a follower of the facts.
    await eventually(lambda: all(set(woke(kind)) >= set(DECODES) for kind in WAKES), LATE_S)
    for kind in WAKES:
        assert set(woke(kind).values()) == {1}
    generations = [fact.generation for fact in of(facts, scaler_pb2.ScaleDecided)]
    assert generations == sorted(set(generations))


# -- the autoscaler


@pytest.mark.parametrize("moment", [scaler_pb2.ScaleDecided, life_pb2.InstanceWaking])
async def test_an_autoscaler_killed_in_mid_plan_has_a_successor_that_goes_on_and_repeats_nothing(
    scaling_fleet: Any, eventually: Any, moment: type
) -> None:
    async with scaling_fleet.follows(*DECIDED, *WAKES) as facts, asking(scaling_fleet) as remote:
        await remote.add_plan("all", EVERY_DECODE)
        await eventually(lambda: of(facts, moment), LATE_S)
        pid = await scaling_fleet.kill("autoscaler")
        assert not of(facts, life_pb2.InstanceWoke)
        await eventually(lambda: serves(scaling_fleet, pid), LATE_S)
        await eventually(lambda: are(scaling_fleet, "active", *DECODES), LATE_S)
        await slots(scaling_fleet, eventually, 2)
        await check_once(facts, eventually)
        before = of(facts, scaler_pb2.ScaleDecided)
        assert [plan.name for plan in await remote.plans()] == ["all"]
        await remote.remove_plan("all")
        await eventually(lambda: are(scaling_fleet, "silent"), LATE_S)
        await check_once(facts, eventually)
        last = (await remote.explain("")).decision
    assert last.generation > max(fact.generation for fact in before)


async def test_what_a_predecessor_decided_and_told_nobody_is_done_by_its_successor(
    scaling_fleet: Any, eventually: Any
) -> None:
    async with scaling_fleet.follows(*DECIDED, *WAKES) as facts, asking(scaling_fleet) as remote:
        generation = (await remote.scaler_status()).generation + 1
        bus = Bus(scaling_fleet.running.nats, scaling_fleet.running.fleet, "a predecessor")
        bus.start()
        pid = await scaling_fleet.kill("autoscaler")
        bus.publish(scaler_pb2.PlanChanged(name="all", text=EVERY_DECODE))
        pool = scaler_pb2.PoolDecided(role="decode", awake=3, exist=3, wake=DECODES)
        bus.publish(
            scaler_pb2.ScaleDecided(
                id="the last", generation=generation, pools=[pool], at_us=time.time_ns() // 1000
            )
        )
        await eventually(lambda: serves(scaling_fleet, pid), LATE_S)
        await eventually(lambda: are(scaling_fleet, "active", *DECODES), LATE_S)
        await check_once(facts, eventually)
        await bus.close()
    assert of(facts, scaler_pb2.ScaleDecided)[0].id == "the last"
    assert min(fact.generation for fact in of(facts, scaler_pb2.WakeDecided)) > generation


async def test_an_autoscaler_that_lost_its_disk_has_its_history_and_decisions_from_the_log(
    scaling_fleet: Any, eventually: Any
) -> None:
    await slots(scaling_fleet, eventually, 3)
    async with asking(scaling_fleet) as remote, scaling_fleet.follows(*DECIDED) as facts:
        before = await remote.scaler_status()
        told = await remote.history(0)
        for file in (scaling_fleet.path / "autoscaler").glob("history.sqlite*"):
            file.unlink()
        pid = await scaling_fleet.kill("autoscaler")
        await eventually(lambda: serves(scaling_fleet, pid), LATE_S)
        after, again = await remote.scaler_status(), await remote.history(0)
        explained = [(await remote.explain(known.id)).decision for known in before.recent]
        await slots(scaling_fleet, eventually, 2)
        # Nothing was asked: who comes back wakes nobody.
        assert facts == []

    assert before.slots == len(told) >= 3
    assert after.slots >= before.slots
    assert again[: len(told)] == told
    assert after.generation >= before.generation
    assert explained == list(before.recent) != []


async def test_while_an_autoscaler_is_silent_nobody_else_decides_and_all_is_served(
    scaling_fleet: Any, eventually: Any
) -> None:
    """Longer than idleSleepAfter: what it decided last holds until it is back."""
    kinds = (scaler_pb2.SleepDecided, scaler_pb2.WakeDecided)
    async with asking(scaling_fleet) as remote, scaling_fleet.follows(*kinds) as facts:
        await remote.add_plan("all", EVERY_DECODE)
        await eventually(lambda: are(scaling_fleet, "active", *DECODES), LATE_S)
        await slots(scaling_fleet, eventually, 4)
        assert not of(facts, scaler_pb2.SleepDecided)
        facts.clear()
        async with scaling_fleet.hears(node_pb2.NodeReported) as reports:
            await scaling_fleet.kill("autoscaler", signal.SIGSTOP)
            try:
                await eventually(lambda: len(reports) >= SILENT_REPORTS, LATE_S)
                async with scaling_fleet.client() as client:
                    answer = await client.answer("sim", text="who decides now?", max_tokens=4)
                assert await are(scaling_fleet, "active", *DECODES)
                assert not facts
            finally:
                await scaling_fleet.kill("autoscaler", signal.SIGCONT)
        await remote.remove_plan("all")
        await eventually(lambda: are(scaling_fleet, "silent"), LATE_S)
    assert len(answer.token_ids) == 4
    assert {fact.instance_id for fact in of(facts, scaler_pb2.SleepDecided)} >= set(DECODES)


async def test_a_request_that_finds_all_asleep_and_no_autoscaler_is_served_by_its_successor(
    scaling_fleet: Any, eventually: Any
) -> None:
    async with scaling_fleet.follows(scaler_pb2.WakeDecided) as facts:
        pid = await scaling_fleet.kill("autoscaler")
        async with scaling_fleet.client() as client:
            answer = await client.answer("sim", text="is anybody awake?", max_tokens=4)
        await eventually(lambda: serves(scaling_fleet, pid), LATE_S)
    assert len(answer.token_ids) == 4
    assert any(fact.instance_id in DECODES for fact in facts)


# -- the others


async def test_without_news_of_traffic_nothing_is_taken_away_until_there_is_a_router_again(
    scaling_fleet: Any, eventually: Any
) -> None:
    async with asking(scaling_fleet) as remote, scaling_fleet.follows(*DECIDED) as facts:
        await remote.add_plan("all", EVERY_DECODE)
        await eventually(lambda: are(scaling_fleet, "active", *DECODES), LATE_S)
        async with scaling_fleet.hears(scaler_pb2.ScalerReported) as reports:
            await scaling_fleet.kill("router", signal.SIGSTOP)
            try:
                await eventually(lambda: reports and reports[-1].signals == "held", LATE_S)
                await remote.remove_plan("all")
                facts.clear()
                reports.clear()
                await eventually(lambda: len(reports) >= 4, LATE_S)
                assert {report.signals for report in reports} == {"held"}
                assert not facts
            finally:
                await scaling_fleet.kill("router")
        await eventually(lambda: are(scaling_fleet, "silent"), LATE_S)
        assert (await remote.scaler_status()).signals == "fresh"
    assert {f.instance_id for f in of(facts, scaler_pb2.SleepDecided)} == set(DECODES)


async def test_planning_goes_on_after_the_bus_was_away(scaling_fleet: Any, eventually: Any) -> None:
    async with asking(scaling_fleet) as remote:
        pid = await scaling_fleet.kill("nats")
        await remote.add_plan("all", EVERY_DECODE)

        async def is_back() -> bool:
            return (await scaling_fleet.processes())["nats"].pid not in (0, pid)

        await eventually(is_back, LATE_S)
        await eventually(lambda: are(scaling_fleet, "active", *DECODES), LATE_S)
        await remote.remove_plan("all")
        await eventually(lambda: are(scaling_fleet, "silent"), LATE_S)


async def test_after_the_bus_was_away_a_successor_knows_who_sleeps(
    scaling_fleet: Any, eventually: Any
) -> None:
    async with scaling_fleet.follows(life_pb2.InstanceReady) as told:
        await scaling_fleet.kill("nats")
        # Instances tell anew that they are there, whatever they do.
        await eventually(lambda: {fact.instance_id for fact in told} >= set(DECODES), LATE_S)
    await eventually(lambda: serves(scaling_fleet), LATE_S)
    async with scaling_fleet.follows(*DECIDED) as facts, asking(scaling_fleet) as remote:
        pid = await scaling_fleet.kill("autoscaler")
        await eventually(lambda: serves(scaling_fleet, pid), LATE_S)
        await slots(scaling_fleet, eventually, 2)
        assert facts == []
        await remote.add_plan("all", EVERY_DECODE)
        await eventually(lambda: are(scaling_fleet, "active", *DECODES), LATE_S)


async def test_who_decides_and_comes_back_does_not_tell_instances_what_they_know(
    scaling_fleet: Any, eventually: Any
) -> None:
    async with asking(scaling_fleet) as remote:
        await remote.add_plan("all", EVERY_DECODE)
        await eventually(lambda: are(scaling_fleet, "active", *DECODES), LATE_S)
        async with scaling_fleet.follows(*DECIDED, operator_pb2.InstanceDecided, *WAKES) as facts:
            pids = [await scaling_fleet.kill(name) for name in ("operator", "autoscaler")]
            await eventually(lambda: serves(scaling_fleet, pids[1]), LATE_S)
            await eventually(lambda: are(scaling_fleet, "active", *DECODES), LATE_S)
            await slots(scaling_fleet, eventually, 2)
            told = [fact for fact in facts if not isinstance(fact, scaler_pb2.ScaleDecided)]
            assert not [fact for fact in told if fact.instance_id in DECODES]
