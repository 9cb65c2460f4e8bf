"""Fleets whose instances come and go with the traffic: who asks them sees nothing of it."""

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from argosy.client import Answer
from argosy.client.control import ControlClient
from argosy.domain.errors import ArgosyError, Reason
from argosy.launcher.home import RunningFleet
from argosy.launcher.nats_process import nats_command
from argosy.mesh.bus import Bus
from argosy.mesh.ports import free_port
from argosy.mesh.rpc import Channels
from argosy.wire.autoscaler.v1 import events_pb2 as scaler_pb2
from argosy.wire.instance.v1 import events_pb2 as life_pb2
from argosy.wire.node_agent.v1 import events_pb2 as node_pb2
from argosy.wire.operator.v1 import events_pb2 as operator_pb2

pytestmark = pytest.mark.slow

TTFT_S = 2.0
"""What callers are promised."""
GRACE_S = 3.0
"""Until somebody can be awake who slept when the first request came."""
HOLD_S = 4
LATE_S = 90
"""Until something is given up on: machines are busy."""
TOKENS = 25
OPTIONS: dict[str, Any] = {"max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
TIMING = {"prefill_ms": [20, 0.01, 0], "decode_ms": [40, 0, 0], "wake_ms": 400}
MAX_RUNNING = 4
"""Four at once, 25 tokens of 40 ms each: an instance answers some four requests a second."""
RATES = (1, 2, 3, 4, 5, 6, 7, 8, 8)
"""Requests per second, for STEP_S each."""
STEP_S = 1.4
FILE_PLAN = "2099-12-24 18:00-23:00 at least 2 decode"
SCALING: dict[str, Any] = {
    "mode": "act",
    "prefill": {"min": 0, "max": 1},
    "decode": {"min": 0, "max": 4},
    "dwell": "2s",
    "idleSleepAfter": "3s",
    "slo": {"ttftP99": f"{TTFT_S:.0f}s", "tpotP99": "100ms"},
    "plans": [FILE_PLAN],
}
SCALER = {
    "tick_s": ".25",
    "slot_s": "1",
    "plan_slots": "20",
    "stale_s": "3",
    "manual_hold_s": str(HOLD_S),
}
ALL_DAY = "daily 00:00-24:00"
DECIDED = (scaler_pb2.ScaleDecided, scaler_pb2.SleepDecided, scaler_pb2.WakeDecided)
CHANGED = (life_pb2.InstanceSlept, life_pb2.InstanceWoke)
STEPS = (
    ("autoscaler.load", "autoscaler"),
    ("autoscaler.forecast", "autoscaler"),
    ("autoscaler.decide", "autoscaler"),
    ("autoscaler.tell", "autoscaler"),
    ("node_agent.wake", "node-agent"),
    ("life.wake", "decode"),
)
"""Of one trace, each below the one before."""


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory, new_fleet_launcher: Any) -> Iterator[Any]:
    """For fleets that all tests of this module share."""
    found = new_fleet_launcher(tmp_path_factory.mktemp("scaling"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def tidal(launcher: Any) -> Any:
    """One prefill, four decodes; all of them may sleep."""
    return asyncio.run(
        launcher.launch(
            name="scaling-fleet",
            prefill=1,
            decode=4,
            max_running=MAX_RUNNING,
            timing=TIMING,
            scaling=SCALING,
            scaler=SCALER,
        )
    )


@pytest.fixture
async def scaling_fleet(tidal: Any, eventually: Any) -> Any:
    """tidal, without plans of other tests, all asleep."""
    async with asking(tidal) as remote:
        for plan in await remote.plans():
            if plan.source == "operator":
                await remote.remove_plan(plan.name)
    await eventually(lambda: tidal.are("silent"), LATE_S)
    return tidal


@pytest.fixture(scope="module")
def growing_fleet(launcher: Any) -> Any:
    """One of each, and room for two more decodes. What is planned reaches beyond a start."""
    scaling = {"prefill": {"max": 1}, "decode": {"max": 3}, "dwell": "2s", "slo": SCALING["slo"]}
    return asyncio.run(
        launcher.launch(
            name="growing",
            max_running=MAX_RUNNING,
            timing=TIMING,
            scaling=scaling,
            scaler={**SCALER, "slot_s": "2", "plan_slots": "80"},
        )
    )


@asynccontextmanager
async def asking(fleet: Any) -> AsyncIterator[ControlClient]:
    """The fleet's autoscaler and operator."""
    remote = ControlClient(fleet.running)
    try:
        yield remote
    finally:
        await remote.close()


async def awake(fleet: Any, role: str = "decode") -> int:
    """How many of a role are active, as the operator knows."""
    lives = (await fleet.lives()).values()
    return sum(life.role == role and life.state == "active" for life in lives)


def of(facts: list[Any], *kinds: type) -> list[Any]:
    """Those facts of these types."""
    return [fact for fact in facts if isinstance(fact, kinds)]


async def slots(fleet: Any, eventually: Any, count: int) -> None:
    """Return when so many more slots of history have been told of."""
    async with fleet.follows(scaler_pb2.DemandMeasured) as told:
        await eventually(lambda: len(told) >= count, LATE_S)


@dataclass
class Answered:
    """A request that was answered: when it was sent, and until its first token, seconds."""

    sent_s: float
    ttft_s: float
    answer: Answer


async def ask(client: Any, text: str, began_s: float, **options: Any) -> Answered:
    """One answer, with its times."""
    sent_s, first_s, answer = time.monotonic(), 0.0, Answer()
    async for chunk in client.generate("sim", text=text, **{**OPTIONS, **options}):
        answer.add(chunk)
        if not first_s and answer.token_ids:
            first_s = time.monotonic()
    return Answered(sent_s - began_s, first_s - sent_s, answer)


async def traffic(fleet: Any, rates: Iterable[int] = RATES) -> list[Answered]:
    """Requests at these rates, one after the other, whether or not others have been answered."""
    async with fleet.client() as client:
        began_s, asked = time.monotonic(), []
        for rate in rates:
            for number in range(round(rate * STEP_S)):
                text = f"what does ship {number} of convoy {rate} carry?"
                asked.append(asyncio.create_task(ask(client, text, began_s)))
                await asyncio.sleep(1 / rate)
        return await asyncio.gather(*asked)


# -- up and down with the traffic


async def test_instances_wake_before_the_slo_breaks_and_sleep_when_traffic_has_ended(
    scaling_fleet: Any, eventually: Any
) -> None:
    async with scaling_fleet.follows(*DECIDED, *CHANGED) as facts:
        asked = await traffic(scaling_fleet)
        await eventually(lambda: scaling_fleet.are("silent"), LATE_S)
        async with asking(scaling_fleet) as remote:
            last = await remote.explain("")
            status = await remote.scaler_status()
    scaled = of(facts, scaler_pb2.ScaleDecided)
    awake_decodes = [pool.awake for s in scaled for pool in s.pools if pool.role == "decode"]

    assert [len(a.answer.token_ids) for a in asked] == [TOKENS] * len(asked)
    late = [a.ttft_s for a in asked if a.sent_s > GRACE_S and a.ttft_s > TTFT_S]
    assert len(late) <= len(asked) / 100
    assert max(awake_decodes) >= 2
    # Down by steps: one is left while there may be more to come, none when nothing has come.
    assert awake_decodes[-2:] == [1, 0]
    assert (status.mode, status.signals) == ("act", "fresh")
    assert status.generation == last.decision.generation == scaled[-1].generation
    assert any(" slept in " in line for line in last.outcomes)
    check_causes(facts)
    check_trace(scaling_fleet, facts)


def check_causes(facts: list[Any]) -> None:
    """Every sleep and wake goes back to a decision, that to one on how many, and all say why."""
    scaled = {fact.id: fact for fact in of(facts, scaler_pb2.ScaleDecided)}
    told = of(facts, *DECIDED[1:])
    why = {(part.instance_id, part.decision_sequence): part.reason for part in told}
    for part in told:
        if part.decided_by != scaler_pb2.DECIDED_BY_PLAN:
            # The first request that finds all asleep waits for no plan.
            assert isinstance(part, scaler_pb2.WakeDecided)
            assert part.decided_by == scaler_pb2.DECIDED_BY_RULE
            assert part.reason.startswith("requests wait at")
            continue
        whole = scaled[part.decision]
        assert (part.generation, part.reason) == (whole.generation, whole.reason)
        wakes = isinstance(part, scaler_pb2.WakeDecided)
        named = [name for pool in whole.pools for name in (pool.wake if wakes else pool.sleep)]
        assert part.instance_id in named
    assert len({fact.generation for fact in scaled.values()}) == len(scaled)
    changes = of(facts, *CHANGED)
    assert changes
    for change in changes:
        assert why[change.instance_id, change.change.decision_sequence] == change.change.cause != ""


def check_trace(fleet: Any, facts: list[Any]) -> None:
    """From the load that was seen to the instance that woke, one trace."""
    wakes = [wake for wake in of(facts, scaler_pb2.WakeDecided) if wake.decision]
    woken = [wake for wake in wakes if wake.instance_id.startswith("decode")]
    decisions = {fact.id: fact for fact in of(facts, scaler_pb2.ScaleDecided)}
    for wake in woken:
        trace_id = decisions[wake.decision].load_traceparent.split("-")[1]
        trace = fleet.trace(trace_id)
        assert [span.name for span in trace.roots] == ["autoscaler.load"]
        assert trace.orphans == []
        assert all(span.status != "ERROR" for span in trace.spans)
        below = trace.roots
        for name, service in STEPS:
            mine = {"node_agent.wake": wake.instance_id}.get(name)
            found = [
                span
                for span in below
                if span.name == name
                and span.service.startswith(service)
                and (mine is None or span.attributes["instance"] == mine)
            ]
            assert found, f"{name} is not in {[(s.name, s.service) for s in trace.spans]}"
            below = [child for span in found for child in trace.children(span)]
    assert woken


async def test_what_was_decided_and_why_can_be_read_by_people(scaling_fleet: Any) -> None:
    shown = await scaling_fleet.command("why")
    async with asking(scaling_fleet) as remote:
        last = (await remote.explain("")).decision
        with pytest.raises(ArgosyError) as refused:
            await remote.explain("no such decision")

    assert last.id in str(shown)
    assert last.reason in str(shown)
    assert refused.value.reason is Reason.NO_DECISION
    assert last.id in refused.value.message


async def test_scaling_down_aborts_no_answer(scaling_fleet: Any, eventually: Any) -> None:
    """Long answers run on all; then fewer are wanted."""
    texts = [f"tell all about voyage {number}" for number in range(8)]
    # Twelve seconds: longer than it takes to decide, on a busy machine too.
    tokens = 300
    async with asking(scaling_fleet) as remote, scaling_fleet.follows(*CHANGED, *DECIDED) as facts:
        await remote.add_plan("all", f"{ALL_DAY} at least 4 decode")
        await eventually(
            lambda: scaling_fleet.are("active", *(f"decode-{n}" for n in range(4))), LATE_S
        )
        async with scaling_fleet.client() as client:
            running = [asyncio.create_task(ask(client, t, 0, max_tokens=tokens)) for t in texts]
            await remote.remove_plan("all")
            answers = [(await one).answer for one in running]
        slept = await eventually(
            lambda: [
                fact
                for fact in of(facts, life_pb2.InstanceSlept)
                if any(step.name == "drain" and step.ms >= 1000 for step in fact.change.steps)
            ],
            LATE_S,
        )
    by_plan = {
        (p.instance_id, p.decision_sequence)
        for p in of(facts, scaler_pb2.SleepDecided)
        if p.decided_by == scaler_pb2.DECIDED_BY_PLAN
    }
    async with scaling_fleet.client() as client:
        again = await asyncio.gather(*(ask(client, t, 0, max_tokens=tokens) for t in texts))

    assert {(fact.instance_id, fact.change.decision_sequence) for fact in slept} <= by_plan
    assert [answer.token_ids for answer in answers] == [a.answer.token_ids for a in again]
    assert {len(answer.token_ids) for answer in answers} == {tokens}
    assert {answer.timing.attempts for answer in answers} == {1}


# -- what people say


async def test_a_plan_that_holds_now_wakes_as_many_as_it_says_and_lets_go_when_removed(
    scaling_fleet: Any, eventually: Any
) -> None:
    async with asking(scaling_fleet) as remote, scaling_fleet.follows(*DECIDED, *CHANGED) as facts:
        plan = await remote.add_plan("", f"{ALL_DAY} at least 3")
        assert plan.from_us <= time.time_ns() // 1000 < plan.until_us
        assert {p.name: p.source for p in await remote.plans()} == {
            "file-1": "fleet file",
            plan.name: "operator",
        }
        assert [p.text for p in await remote.plans()] == [FILE_PLAN, plan.text]

        async def three_are_awake() -> bool:
            return await awake(scaling_fleet) + await awake(scaling_fleet, "prefill") == 3

        await eventually(three_are_awake, LATE_S)
        # Nobody asks anything for longer than idleSleepAfter: the plan holds, not the idle rule.
        await slots(scaling_fleet, eventually, 5)
        assert await three_are_awake()
        decided = of(facts, scaler_pb2.ScaleDecided)
        assert sum(pool.awake for pool in decided[-1].pools) == 3
        assert f"plan {plan.name}" in decided[-1].constraints
        assert (await remote.remove_plan(plan.name)).text == plan.text
        await eventually(lambda: scaling_fleet.are("silent"), LATE_S)
    by = {part.decided_by for part in of(facts, *DECIDED[1:])}
    assert by == {scaler_pb2.DECIDED_BY_PLAN}
    check_causes(facts)


async def test_a_plan_that_contradicts_another_is_refused_with_both_named(
    scaling_fleet: Any,
) -> None:
    async with asking(scaling_fleet) as remote:
        await remote.add_plan("many", f"{ALL_DAY} at least 3 decode")
        refusals = {}
        for name, text in (
            ("few", f"{ALL_DAY} at most 2 decode"),
            ("beyond", f"{ALL_DAY} at least 5 decode"),
            ("file-1", f"{ALL_DAY} at least 1"),
            ("odd", "as many as it takes"),
        ):
            with pytest.raises(ArgosyError) as refused:
                await remote.add_plan(name, text)
            refusals[name] = refused.value
        named = [plan.name for plan in await remote.plans()]
        with pytest.raises(ArgosyError) as unknown:
            await remote.remove_plan("few")

    assert named == ["file-1", "many"]
    reasons = [refusal.reason for refusal in refusals.values()]
    assert reasons == [Reason.PLAN_CONFLICT] * 3 + [Reason.BAD_REQUEST]
    assert "'few'" in refusals["few"].message
    assert "'many'" in refusals["few"].message
    assert "max is 4" in refusals["beyond"].message
    assert (unknown.value.reason, "many" in unknown.value.message) == (Reason.NO_DECISION, True)


async def test_while_scaling_down_is_forbidden_nobody_is_put_to_sleep(
    scaling_fleet: Any, eventually: Any
) -> None:
    day_after_tomorrow = time.strftime("%A", time.gmtime(time.time() + 2 * 86_400))
    async with (
        asking(scaling_fleet) as remote,
        scaling_fleet.follows(scaler_pb2.SleepDecided) as slept,
    ):
        await remote.add_plan("some", f"{ALL_DAY} at least 2 decode")

        async def two_are_awake() -> bool:
            return await awake(scaling_fleet) == 2

        await eventually(two_are_awake, LATE_S)
        await remote.add_plan("hold", f"no scale-down until {day_after_tomorrow}")
        await remote.remove_plan("some")
        slept.clear()
        await slots(scaling_fleet, eventually, 5)
        assert not slept
        await remote.remove_plan("hold")
        await eventually(lambda: scaling_fleet.are("silent"), LATE_S)
    assert slept


async def test_who_was_put_to_sleep_by_hand_is_left_so_for_a_while(
    scaling_fleet: Any, eventually: Any
) -> None:
    names = [f"decode-{number}" for number in range(4)]
    kinds = (scaler_pb2.SleepDecided, scaler_pb2.WakeDecided)
    async with asking(scaling_fleet) as remote, scaling_fleet.follows(*kinds) as facts:
        await remote.add_plan("all", f"{ALL_DAY} at least 4 decode")
        await eventually(lambda: scaling_fleet.are("active", *names), LATE_S)
        await scaling_fleet.sleep("decode-2")
        await eventually(lambda: scaling_fleet.are("silent", "decode-2"), LATE_S)
        (slept,) = await eventually(lambda: of(facts, scaler_pb2.SleepDecided), LATE_S)

        def later() -> list[Any]:
            """Wakes of before may still be on their way here."""
            woken = of(facts, scaler_pb2.WakeDecided)
            return [wake for wake in woken if wake.decision_sequence > slept.decision_sequence]

        await eventually(later, LATE_S)
        await eventually(lambda: scaling_fleet.are("active", *names), LATE_S)
        (woken,) = later()

    assert (slept.decided_by, slept.instance_id) == (scaler_pb2.DECIDED_BY_MANUAL, "decode-2")
    assert (woken.decided_by, woken.instance_id) == (scaler_pb2.DECIDED_BY_PLAN, "decode-2")
    held_us = woken.decision_sequence - slept.decision_sequence
    assert HOLD_S <= held_us / 1e6 <= HOLD_S + LATE_S


# -- more than there are


async def test_where_more_are_needed_than_exist_they_are_started_and_stay(
    growing_fleet: Any, eventually: Any
) -> None:
    async def all_work() -> bool:
        try:
            return bool(await awake(growing_fleet) == 3 and await growing_fleet.is_whole())
        except ArgosyError:
            return False

    async with growing_fleet.follows(scaler_pb2.ScaleDecided) as facts:
        # Traffic goes on for as long as this looks: without it one would be put to sleep.
        seen = asyncio.Event()
        rates = itertools.takewhile(lambda _: not seen.is_set(), itertools.repeat(6))
        flood = asyncio.create_task(traffic(growing_fleet, rates))
        await eventually(all_work, LATE_S)
        before = {name: p.pid for name, p in (await growing_fleet.processes()).items()}
        async with growing_fleet.follows(operator_pb2.InstanceDecided) as redecided:
            killed = await growing_fleet.kill("operator")

            async def is_back() -> bool:
                return (await growing_fleet.processes())["operator"].pid not in (0, killed)

            await eventually(is_back, LATE_S)
            await eventually(all_work, LATE_S)
            await slots(growing_fleet, eventually, 2)
            assert not redecided
        seen.set()
        asked = await flood
    after = {name: p.pid for name, p in (await growing_fleet.processes()).items()}

    assert {name for name in before if before[name] != after[name]} == {"operator"}
    assert [len(a.answer.token_ids) for a in asked] == [TOKENS] * len(asked)
    pools = [pool for fact in facts for pool in fact.pools]
    assert max(pool.exist for pool in pools if pool.role == "decode") == 3
    assert all(pool.awake <= pool.exist <= pool.at_most for pool in pools)


async def test_whom_a_decision_names_is_stopped_and_a_later_one_starts_it_again(
    growing_fleet: Any, eventually: Any
) -> None:
    async with asking(growing_fleet) as remote:
        generation = (await remote.scaler_status()).generation
    bus = Bus(growing_fleet.running.nats, growing_fleet.running.fleet, "a planner")
    bus.start()

    def decide(number: int, exist: int, *stop: str) -> None:
        pool = scaler_pb2.PoolDecided(role="decode", awake=1, exist=exist, stop=stop)
        bus.publish(
            scaler_pb2.ScaleDecided(
                id=f"by hand {number}", generation=generation + number, pools=[pool]
            )
        )

    async def run(*numbers: int) -> bool:
        found = (await growing_fleet.processes()).values()
        running = {p.name for p in found if p.state == "running" and p.name.startswith("decode")}
        return running == {f"decode-{number}" for number in numbers}

    # Whose decisions these could have been says nothing meanwhile.
    await growing_fleet.kill("autoscaler", signal.SIGSTOP)
    try:
        async with growing_fleet.follows(node_pb2.InstanceStarted) as started:
            decide(1, 2)
            await eventually(lambda: run(0, 1), LATE_S)
            decide(2, 1, "decode-0")
            await eventually(lambda: run(1), LATE_S)
            started.clear()
            decide(1, 3)
            decide(3, 2)
            await eventually(lambda: run(0, 1), LATE_S)
    finally:
        await growing_fleet.kill("autoscaler", signal.SIGCONT)
        await bus.close()
    assert [fact.instance_id for fact in started] == ["decode-0"]


# -- advice alone


async def test_what_is_only_advised_nobody_does(launcher: Any, eventually: Any) -> None:
    scaling = {"mode": "advise", "prefill": {"max": 2}, "decode": {"max": 2}, "dwell": "1s"}
    fleet = await launcher.launch(
        name="advised", prefill=2, decode=2, timing=TIMING, scaling=scaling, scaler=SCALER
    )
    async with fleet.follows(*DECIDED, life_pb2.InstanceDraining) as facts, asking(fleet) as remote:
        async with fleet.client() as client:
            await client.answer("sim", text="anybody there?", max_tokens=1)

        async def has_advised() -> bool:
            return bool((await remote.scaler_status()).recent)

        await eventually(has_advised, LATE_S)
        await slots(fleet, eventually, 3)
        last = (await remote.explain("")).decision

    assert last.advisory
    assert any(pool.sleep for pool in last.pools)
    assert {type(fact) for fact in facts} <= {scaler_pb2.ScaleDecided}
    assert await fleet.are("active")


# -- alone


@asynccontextmanager
async def started(folder: Path, *command: str, **settings: str) -> AsyncIterator[Path]:
    """A process, ended at the end; gives its log."""
    log = folder / f"{command[-1].rpartition('/')[2]}.log"
    given = {f"ARGOSY_AUTOSCALER_{name.upper()}": value for name, value in settings.items()}
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=out, stderr=out, env={**os.environ, **given}
        )
    try:
        yield log
    finally:
        process.terminate()
        await process.wait()


async def test_an_autoscaler_alone_waits_for_nats_says_so_and_then_serves(
    tmp_path: Path, eventually: Any
) -> None:
    nats, address = free_port(), f"127.0.0.1:{free_port()}"
    settings = {
        "listen": address,
        "nats_url": f"nats://127.0.0.1:{nats}",
        "fleet": "nobody",
        "data_dir": str(tmp_path / "data"),
    }
    there = RunningFleet("nobody", "sim", 0, 0, "", "http://127.0.0.1:1", "", "", "", "", address)
    channels, remote = Channels(), ControlClient(there)

    async def health() -> int:
        stub = health_pb2_grpc.HealthStub(channels.get(address))
        reply = await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        return int(reply.status)

    async with started(tmp_path, sys.executable, "-m", "argosy.autoscaler", **settings) as log:
        waits = f"waiting for NATS at nats://127.0.0.1:{nats}"
        await eventually(lambda: waits in log.read_text(), LATE_S)
        assert await health() == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(ArgosyError) as refused:
            await remote.add_plan("", f"{ALL_DAY} at least 1")
        async with started(tmp_path, *nats_command(nats, tmp_path / "nats")):
            serving = health_pb2.HealthCheckResponse.SERVING

            async def serves() -> bool:
                return await health() == serving

            await eventually(serves, LATE_S)
            status = await remote.scaler_status()
            plan = await remote.add_plan("", f"{ALL_DAY} at least 1")
            with pytest.raises(ArgosyError) as none_yet:
                await remote.explain("")
            assert [p.name for p in await remote.plans()] == [plan.name]
            assert await remote.history(0) == []
            (file,) = (tmp_path / "data").rglob("history.sqlite")
            file.unlink()
            file.mkdir()  # Nothing that could be read.
            with pytest.raises(ArgosyError) as unreadable:
                await remote.history(0)
    await remote.close()
    await channels.close()

    assert (refused.value.reason, waits in refused.value.message) == (Reason.NOT_READY, True)
    assert (status.mode, status.generation, status.slots) == ("", 0, 0)
    assert none_yet.value.message == "no decision was made yet"
    assert unreadable.value.reason is Reason.INTERNAL
    assert "autoscaler.history" in unreadable.value.message


# -- afterwards


async def test_what_an_autoscaler_decided_replays_without_a_difference(
    scaling_fleet: Any, argosy: Any
) -> None:
    report = await argosy("replay", str(scaling_fleet.path / "journal"))

    assert report["ok"]
    rows = [row for row in report["segments"] if row["core"] == "autoscaler"]
    assert rows
    assert all(row["steps"] for row in rows)
