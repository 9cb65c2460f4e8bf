"""Who sleeps and who wakes: idleness, demand, requests by people, and what was decided before."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.domain.core import Effect
from argosy.domain.pools import Pool, Template
from argosy.operator.core import effects, events
from argosy.operator.core.operator import SPEC
from argosy.operator.core.silence import (
    HEARD_US,
    MORE_US,
    PATIENCE_MAX,
    REFUSED_US,
    ROUTERS_MAX,
    SLEEP_REFUSED_US,
    STAY_US,
)
from argosy.operator.core.state import OperatorState, PlacedInstance

MS, S, GIB = 1_000, 1_000_000, 1 << 30
START_US = 1_700_000_000 * S
IDLE_US = 5 * S
TICK_US = 500 * MS
Decision = effects.DecideSleep | effects.DecideWake


class SleepingOperator:
    """An operator's core with a clock, a router that reports, and instances that obey."""

    def __init__(self, *, decode: int = 1, prefill: int = 1, idle_us: int = IDLE_US) -> None:
        self.state = OperatorState()
        self.core = SPEC.build(self.state)
        self.now_us = START_US
        self.changes: dict[str, int] = {}
        self.arrived = 0
        self.feed(events.NodeSeen, node="n1", memory_bytes=100 * GIB, promised_bytes=0)
        self.feed(
            events.FleetApplied,
            generation=1,
            pools=pools(prefill, decode),
            idle_sleep_us=idle_us,
            sleep_level="disk",
        )
        for name in list(self.state.instances):
            self.up(name)

    def feed(self, kind: Any, **fields: Any) -> list[Any]:
        return list(self.core.step(kind(now_us=self.now_us, **fields)))

    def up(self, name: str) -> None:
        """Its process loads, and is ready."""
        self.feed(
            events.InstanceChanged,
            instance=name,
            state="loading",
            reason="its process started",
            restarts=0,
        )
        self.hear(name, "active")

    def hear(
        self,
        name: str,
        state: str,
        *,
        took_us: int = 0,
        resident: int = 0,
        change: int = 0,
        epoch: str = "e1",
    ) -> list[Any]:
        self.changes[name] = change or self.changes.get(name, 0) + 1
        return self.feed(
            events.InstanceChanged,
            instance=name,
            state=state,
            reason="",
            restarts=-1,
            at_us=self.now_us,
            epoch=epoch,
            change=self.changes[name],
            took_us=took_us,
            resident_bytes=resident,
        )

    def slept(self, *names: str, took_us: int = 0, resident: int = 0) -> None:
        for name in names or self.state.instances:
            self.hear(name, "draining")
            self.hear(name, "silent", took_us=took_us, resident=resident)

    def woke(self, *names: str, took_us: int = 0) -> None:
        for name in names or self.state.instances:
            self.hear(name, "waking")
            self.hear(name, "active", took_us=took_us)

    def work(
        self, requests: int = 0, *, queued: int = 0, arrived: int = 0, router: str = "r"
    ) -> list[Any]:
        self.arrived += arrived
        return self.feed(
            events.WorkSeen,
            router=router,
            requests=requests,
            queued_requests=queued,
            arrived_requests=self.arrived,
        )

    def demand(self, held: int = 1) -> list[Any]:
        return self.feed(events.DemandSeen, router="r", held_requests=held)

    def ask(self, *names: str, wake: bool = False, **fields: Any) -> list[Any]:
        return self.feed(
            events.RestAsked, instances=list(names), wake=wake, cause="somebody asked", **fields
        )

    def refuse(self, decision: Decision, reason: str = "no room") -> Any:
        wake = isinstance(decision, effects.DecideWake)
        return self.feed(
            events.RestRefused,
            instance=decision.instance,
            turn=decision.turn,
            wake=wake,
            reason=reason,
        )

    def pass_time(self, us: int) -> list[Any]:
        """With nothing to do, as a router tells every TICK_US. Ends with the first decision."""
        until_us = self.now_us + us
        while self.now_us + TICK_US <= until_us:
            self.now_us += TICK_US
            if found := self.work():
                return found
        self.now_us = until_us
        return []

    def until_sleep(self) -> int:
        """Let it be idle until all are put to sleep, and obey; how long that took."""
        began_us = self.now_us
        self.work(arrived=1)
        found = self.pass_time(1000 * S)
        assert names(found) == sorted(self.state.instances)
        self.slept()
        return self.now_us - began_us

    def instance(self, name: str) -> PlacedInstance:
        return self.state.instances[name]

    @property
    def patience(self) -> float:
        return self.state.rest.patience


def pools(prefill: int, decode: int) -> list[Pool]:
    return [
        Pool(Template(role, 4 * GIB, 1, {}), replicas)
        for role, replicas in (("prefill", prefill), ("decode", decode))
    ]


def names(decisions: list[Any]) -> list[str]:
    return sorted(decision.instance for decision in decisions)


def slept_all(decisions: list[Effect]) -> bool:
    return bool(decisions) and all(isinstance(d, effects.DecideSleep) for d in decisions)


def woken(decisions: list[Any]) -> list[str]:
    assert all(isinstance(decision, effects.DecideWake) for decision in decisions)
    return [decision.instance for decision in decisions]


# -- idleness


def test_all_prefill_and_decode_instances_sleep_in_one_step_once_idle_for_long_enough() -> None:
    operator = SleepingOperator(decode=2, prefill=2)
    operator.work(arrived=1)
    assert operator.pass_time(IDLE_US - 1) == []
    found = operator.pass_time(TICK_US)
    assert slept_all(found)
    assert names(found) == ["decode-0", "decode-1", "prefill-0", "prefill-1"]
    assert {d.level for d in found} == {"disk"}
    assert "idle for" in found[0].reason
    assert operator.pass_time(100 * S) == []


@pytest.mark.parametrize("work", [{"requests": 1}, {"arrived": 1}])
def test_whatever_there_is_to_do_begins_the_wait_anew(work: Any) -> None:
    operator = SleepingOperator()
    operator.work(arrived=1)
    operator.pass_time(IDLE_US - TICK_US)
    assert operator.work(**work) == []
    assert operator.pass_time(IDLE_US - TICK_US) == []
    assert slept_all(operator.pass_time(TICK_US))


def test_nothing_sleeps_that_was_not_asked_to_by_the_file() -> None:
    operator = SleepingOperator(idle_us=0)
    operator.work(arrived=1)
    assert operator.pass_time(1000 * S) == []


def test_nothing_sleeps_without_a_routers_word() -> None:
    operator = SleepingOperator()
    operator.now_us += 1000 * S
    assert operator.feed(events.NodeSeen, node="n1", memory_bytes=100 * GIB, promised_bytes=0) == []
    assert operator.hear("decode-0", "active") == []


def test_one_idle_router_does_not_speak_for_a_busy_one() -> None:
    operator = SleepingOperator()
    for _ in range(100):
        operator.now_us += TICK_US
        assert (
            operator.feed(
                events.WorkSeen, router="busy", requests=3, queued_requests=0, arrived_requests=7
            )
            == []
        )
        assert (
            operator.feed(
                events.WorkSeen, router="idle", requests=0, queued_requests=0, arrived_requests=0
            )
            == []
        )


def test_what_a_router_said_long_ago_holds_nobody_awake() -> None:
    operator = SleepingOperator()
    operator.feed(events.WorkSeen, router="gone", requests=3, queued_requests=3, arrived_requests=7)
    operator.work(arrived=1)
    found = operator.pass_time(HEARD_US + IDLE_US + TICK_US)
    assert slept_all(found)


def test_a_new_file_begins_the_wait_anew() -> None:
    operator = SleepingOperator()
    operator.work(arrived=1)
    operator.pass_time(IDLE_US - TICK_US)
    operator.feed(
        events.FleetApplied,
        generation=2,
        pools=pools(1, 1),
        idle_sleep_us=IDLE_US,
        sleep_level="dram",
    )
    assert operator.pass_time(IDLE_US - TICK_US) == []


def test_a_loading_instance_is_waited_for() -> None:
    operator = SleepingOperator()
    operator.feed(
        events.InstanceChanged,
        instance="decode-0",
        state="loading",
        reason="its process started",
        restarts=1,
    )
    operator.work(arrived=1)
    assert operator.pass_time(10 * IDLE_US) == []
    operator.hear("decode-0", "active", epoch="e2")
    assert operator.pass_time(IDLE_US - TICK_US) == []
    assert names(operator.pass_time(2 * TICK_US)) == ["decode-0", "prefill-0"]


def test_nothing_sleeps_within_the_shortest_stay_after_it_woke() -> None:
    operator = SleepingOperator(idle_us=1)
    operator.work(arrived=1)
    assert slept_all(operator.pass_time(STAY_US))
    operator.slept()
    operator.ask(wake=True)
    operator.now_us += S
    operator.woke()
    assert operator.pass_time(STAY_US - 1) == []
    assert slept_all(operator.pass_time(TICK_US))


def test_nothing_sleeps_before_what_sleeping_and_waking_cost_has_passed() -> None:
    operator = SleepingOperator(idle_us=S)
    operator.ask()
    operator.slept(took_us=8 * S)
    operator.ask(wake=True)
    operator.woke(took_us=12 * S)
    operator.work(arrived=1)
    assert operator.pass_time(20 * S - 1) == []
    assert slept_all(operator.pass_time(TICK_US))


# -- flapping


def flap(operator: SleepingOperator, away_us: int) -> int:
    """Wait for a sleep, and for demand so long after; how long the wait was."""
    waited_us = operator.until_sleep()
    operator.now_us += away_us
    assert operator.demand()
    operator.woke()
    return waited_us


def flapping() -> SleepingOperator:
    """One whose sleep and wake take 4 s together."""
    operator = SleepingOperator(idle_us=S)
    operator.ask()
    operator.slept(took_us=2 * S)
    operator.ask(wake=True)
    operator.woke(took_us=2 * S)
    operator.state.rest.slept_us = 0
    return operator


def keeps_costs(operator: SleepingOperator) -> None:
    for instance in operator.state.instances.values():
        instance.slept_took_us = instance.woke_took_us = 2 * S


def test_a_sleep_that_did_not_pay_doubles_the_wait_up_to_a_bound() -> None:
    operator, waits_s = flapping(), []
    for _ in range(6):
        waits_s.append(flap(operator, S) // S)
        keeps_costs(operator)
    assert waits_s == [4, 8, 16, 32, 32, 32]
    assert operator.patience == PATIENCE_MAX == 8


def test_a_sleep_that_paid_halves_the_wait_down_to_the_break_even() -> None:
    operator, waits_s = flapping(), []
    operator.state.rest.patience = PATIENCE_MAX
    for _ in range(6):
        waits_s.append(flap(operator, 100 * S) // S)
        keeps_costs(operator)
    assert waits_s == [32, 16, 8, 4, 4, 4]
    assert operator.patience == 1


def test_a_sleep_is_judged_once_however_many_pairs_it_takes() -> None:
    operator = SleepingOperator(decode=3, prefill=3)
    operator.until_sleep()
    keeps_costs(operator)
    operator.demand()
    for _ in range(4):
        operator.now_us += MORE_US
        operator.work(requests=5, queued=5)
    assert operator.patience == 2


# -- demand


def asleep(*, decode: int = 2, prefill: int = 2) -> SleepingOperator:
    """All sleep; a wake of any of them fits."""
    operator = SleepingOperator(decode=decode, prefill=prefill)
    operator.until_sleep()
    operator.now_us += 100 * S
    return operator


def test_demand_wakes_one_decode_and_one_prefill_instance_in_one_step() -> None:
    operator = asleep()
    found = operator.demand(held=3)
    assert woken(found) == ["decode-0", "prefill-0"]
    assert {d.node for d in found} == {"n1"}
    assert "requests wait at r: 3" in found[0].reason


@pytest.mark.parametrize("state", ["", "waking", "active"])
def test_demand_while_somebody_is_on_the_way_wakes_nobody_else(state: str) -> None:
    operator = asleep()
    operator.demand()
    for before in ("waking", "active"):
        if state == "active" or before == state:
            operator.hear("decode-0", before)
            operator.hear("prefill-0", before)
    operator.now_us += 500 * MS - 1
    assert operator.demand() == []
    if state:
        operator.now_us += S
        assert operator.demand() == []


def test_the_quickest_wakes_first() -> None:
    operator = asleep(decode=3)
    for name, took_us in (("decode-0", 9 * S), ("decode-1", 2 * S), ("decode-2", 5 * S)):
        operator.instance(name).woke_took_us = took_us
    assert woken(operator.demand())[0] == "decode-1"


def test_one_still_on_its_way_to_sleep_wakes_first() -> None:
    operator = asleep(decode=3)
    operator.ask("decode-2", wake=True)
    operator.woke("decode-2", took_us=20 * S)
    operator.ask("decode-2")
    operator.hear("decode-2", "draining")
    assert woken(operator.demand())[0] == "decode-2"


def test_one_for_which_its_node_has_room_wakes_before_a_quicker_one_without() -> None:
    operator = asleep(decode=2)
    operator.instance("decode-0").node = "n2"
    operator.feed(events.NodeSeen, node="n2", memory_bytes=10 * GIB, promised_bytes=9 * GIB)
    operator.instance("decode-1").woke_took_us = 9 * S
    assert woken(operator.demand())[0] == "decode-1"


def test_of_a_sleeper_only_what_it_does_not_hold_has_to_fit() -> None:
    operator = asleep(decode=2)
    operator.instance("decode-0").node = "n2"
    operator.feed(events.NodeSeen, node="n2", memory_bytes=10 * GIB, promised_bytes=9 * GIB)
    operator.hear("decode-0", "silent", resident=3 * GIB)
    assert woken(operator.demand())[0] == "decode-0"


def test_the_prefill_instance_nearest_to_the_decode_instance_wakes_with_it() -> None:
    operator = asleep(decode=1, prefill=3)
    operator.feed(events.NodeSeen, node="n2", memory_bytes=100 * GIB, promised_bytes=0)
    for name in ("decode-0", "prefill-1"):
        operator.instance(name).node = "n2"
    operator.instance("prefill-1").woke_took_us = 9 * S
    assert woken(operator.demand()) == ["decode-0", "prefill-1"]


def test_more_pairs_wake_one_after_the_other_while_requests_wait() -> None:
    operator = asleep(decode=3, prefill=2)
    operator.demand()
    operator.woke("decode-0", "prefill-0")
    assert operator.work(requests=9, queued=5) == []
    operator.now_us += MORE_US
    assert woken(operator.work(requests=9, queued=5)) == ["decode-1", "prefill-1"]
    operator.woke("decode-1", "prefill-1")
    operator.now_us += MORE_US
    assert woken(operator.work(requests=9, queued=5)) == ["decode-2"]
    operator.woke("decode-2")
    operator.now_us += MORE_US
    assert operator.work(requests=9, queued=5) == []


def test_no_more_wake_once_nobody_waits() -> None:
    operator = asleep(decode=3)
    operator.demand()
    operator.woke("decode-0", "prefill-0")
    operator.now_us += MORE_US
    assert operator.work(requests=9, queued=0) == []


def test_demand_counts_as_work() -> None:
    operator = asleep(decode=1, prefill=1)
    operator.demand()
    operator.woke()
    assert operator.pass_time(IDLE_US - TICK_US) == []


# -- refusals


def test_after_a_refusal_the_next_best_wakes_at_once() -> None:
    operator = asleep()
    first = operator.demand()
    for decision in first:
        operator.refuse(decision)
    assert operator.instance("decode-0").rest_refused == "no room"
    assert woken(operator.demand()) == ["decode-1", "prefill-1"]


def test_a_refusal_is_forgotten_after_a_while() -> None:
    operator = asleep(decode=1, prefill=1)
    for decision in operator.demand():
        operator.refuse(decision)
    assert operator.demand() == []
    operator.now_us += REFUSED_US + 1
    assert woken(operator.demand()) == ["decode-0", "prefill-0"]
    assert operator.instance("decode-0").rest_refused == ""


def test_prefill_instances_do_not_wake_for_nobody_who_could_decode() -> None:
    operator = asleep(decode=1, prefill=3)
    (decode, prefill) = operator.demand()
    operator.refuse(decode)
    operator.hear(prefill.instance, "waking")
    operator.now_us += S
    assert operator.demand() == []


def test_a_refusal_of_an_older_decision_says_nothing() -> None:
    operator = asleep()
    (first, _) = operator.demand()
    operator.ask("decode-0", wake=True)
    operator.refuse(first)
    assert operator.instance("decode-0").rest_refused == ""
    assert not operator.instance("decode-0").rests


def test_one_request_does_not_wake_more_while_those_woken_for_it_are_on_their_way() -> None:
    operator = SleepingOperator(decode=8, prefill=8)
    operator.ask()
    operator.slept()
    assert woken(operator.demand()) == ["decode-0", "prefill-0"]
    operator.hear("decode-0", "waking")
    operator.hear("prefill-0", "waking")
    found = []
    for _ in range(40):
        operator.now_us += TICK_US
        found += operator.demand() + operator.work(1, queued=1)
    assert found == []
    operator.woke("decode-0", "prefill-0", took_us=20 * S)
    operator.now_us += 2 * MORE_US
    assert woken(operator.work(99, queued=99)) == ["decode-1", "prefill-1"]


def test_demand_ends_what_somebody_asked_for_of_all_of_the_model() -> None:
    operator = SleepingOperator(decode=3)
    operator.ask()
    operator.slept()
    operator.demand()
    operator.woke("decode-0", "prefill-0", took_us=S)
    operator.now_us += 2 * MORE_US
    assert woken(operator.work(50, queued=50)) == ["decode-1"]


def test_who_was_put_to_sleep_by_hand_sleeps_on_while_others_serve() -> None:
    operator = SleepingOperator(decode=2)
    operator.ask("decode-1")
    operator.slept("decode-1")
    operator.now_us += 2 * MORE_US
    assert operator.work(50, queued=50) == []


def test_requests_that_cannot_reach_who_is_said_to_be_up_wake_another() -> None:
    operator = SleepingOperator(decode=2)
    operator.ask("decode-1")
    operator.slept("decode-1")
    operator.now_us += MORE_US
    assert operator.feed(events.DemandSeen, router="r", held_requests=1, oldest_wait_us=S) == []
    assert woken(
        operator.feed(events.DemandSeen, router="r", held_requests=1, oldest_wait_us=6 * S)
    ) == ["decode-1"]


def test_a_refused_sleep_is_shown_and_tried_again_later_with_its_partner() -> None:
    operator = SleepingOperator()
    operator.work(arrived=1)
    (first, partner) = operator.pass_time(IDLE_US)
    assert woken(operator.refuse(first, "the pool is full")) == [partner.instance]
    assert operator.instance(first.instance).rest_refused == "the pool is full"
    assert operator.pass_time(SLEEP_REFUSED_US - TICK_US) == []
    assert names(operator.pass_time(2 * TICK_US)) == ["decode-0", "prefill-0"]


# -- asked


def test_those_named_sleep_and_wake_as_somebody_asks() -> None:
    operator = SleepingOperator(decode=2)
    (decision,) = operator.ask("decode-1", level="dram", drain_us=3 * S)
    assert (decision.instance, decision.level, decision.drain_us) == ("decode-1", "dram", 3 * S)
    assert decision.reason == "somebody asked"
    assert woken(operator.ask("decode-1", wake=True)) == ["decode-1"]


@pytest.mark.parametrize("wake", [True, False])
def test_asked_for_none_by_name_all_are_meant(wake: bool) -> None:
    operator = SleepingOperator(decode=2)
    assert names(operator.ask(wake=wake)) == ["decode-0", "decode-1", "prefill-0"]


def test_an_asked_sleep_is_as_the_file_says_where_nothing_else_is_said() -> None:
    operator = SleepingOperator()
    assert {(d.level, d.drain_us) for d in operator.ask()} == {("disk", 30 * S)}


def test_who_was_asked_to_sleep_wakes_at_demand() -> None:
    operator = SleepingOperator()
    operator.ask()
    operator.slept()
    assert woken(operator.demand()) == ["decode-0", "prefill-0"]


def test_turns_of_an_instance_only_grow() -> None:
    operator, turns = SleepingOperator(decode=1, prefill=0), []
    for wake in (False, True, False, True):
        turns += [decision.turn for decision in operator.ask(wake=wake)]
    assert turns == sorted(set(turns))


def test_an_instance_that_is_unwanted_is_neither_put_to_sleep_nor_woken() -> None:
    operator = SleepingOperator(decode=2)
    operator.feed(
        events.FleetApplied,
        generation=2,
        pools=pools(1, 1),
        idle_sleep_us=IDLE_US,
        sleep_level="dram",
    )
    assert names(operator.ask()) == ["decode-0", "prefill-0"]
    assert operator.ask("decode-1") == []


# -- what was decided before, and what became of it


def test_a_recalled_decision_outdates_older_ones_only() -> None:
    operator = SleepingOperator()
    turn = START_US + 100 * S
    operator.feed(events.RestRecalled, instance="decode-0", turn=turn, wake=False)
    assert operator.instance("decode-0").rests
    operator.feed(events.RestRecalled, instance="decode-0", turn=turn - 1, wake=True)
    assert operator.instance("decode-0").rests
    (decision,) = operator.ask("decode-0", wake=True)
    assert decision.turn == turn + 1


def test_a_decision_that_comes_back_from_the_log_changes_nothing() -> None:
    operator = SleepingOperator()
    decisions = operator.ask()
    before = msgspec.msgpack.encode(operator.state)
    for decision in decisions:
        operator.feed(
            events.RestRecalled, instance=decision.instance, turn=decision.turn, wake=False
        )
    assert msgspec.msgpack.encode(operator.state) == before


def restarted(order: list[int]) -> SleepingOperator:
    """An operator that reads in this order what the control log holds of a fleet asleep."""
    operator = SleepingOperator.__new__(SleepingOperator)
    operator.state, operator.now_us = OperatorState(), START_US + 1000 * S
    operator.core, operator.changes, operator.arrived = SPEC.build(operator.state), {}, 0
    operator.feed(events.NodeSeen, node="n1", memory_bytes=100 * GIB, promised_bytes=0)
    for pool in pools(1, 1):
        name = f"{pool.template.role}-0"
        operator.feed(
            events.InstanceDecisionRecalled,
            instance=name,
            run=True,
            node="n1",
            template=pool.template,
        )
    operator.feed(
        events.FleetApplied,
        generation=1,
        pools=pools(1, 1),
        idle_sleep_us=IDLE_US,
        sleep_level="disk",
    )
    at_us = START_US + 10 * S
    log = []
    for name in ("decode-0", "prefill-0"):
        log += [
            (events.InstanceChanged, name, "loading", "its process started", 0, at_us, "e1"),
            (events.InstanceChanged, name, "active", "", -1, at_us + S, "e1", 1),
            (events.InstanceChanged, name, "draining", "idle", -1, at_us + 20 * S, "e1", 2),
            (events.InstanceChanged, name, "silent", "idle", -1, at_us + 21 * S, "e1", 3, 0, GIB),
            (events.RestRecalled, name, at_us + 19 * S, False),
        ]
    for number in order:
        kind, *fields = log[number]
        operator.feed(kind, **dict(zip(kind.__struct_fields__[1:], fields, strict=False)))
    return operator


@given(order=st.permutations(range(10)))
def test_a_restarted_operator_knows_who_sleeps_whatever_it_reads_first(order: list[int]) -> None:
    operator = restarted(order)
    assert {i.state for i in operator.state.instances.values()} == {"silent"}
    operator.work(arrived=1)
    assert operator.pass_time(10 * IDLE_US) == []
    assert woken(operator.demand()) == ["decode-0", "prefill-0"]


@given(order=st.permutations(range(8)))
def test_a_restarted_operator_does_not_hold_the_new_process_to_what_the_old_one_was_told(
    order: list[int],
) -> None:
    """Both slept, died and started anew: all of that is on the log, in any order."""
    operator = restarted([])
    at_us = START_US + 10 * S
    log = []
    for name in ("decode-0", "prefill-0"):
        log += [
            (events.InstanceChanged, name, "silent", "idle", -1, at_us, "e1", 3),
            (events.RestRecalled, name, at_us - S, False),
            (
                events.InstanceChanged,
                name,
                "loading",
                "its process started",
                1,
                at_us + 9 * S,
                "e2",
            ),
            (events.InstanceChanged, name, "active", "", -1, at_us + 10 * S, "e2", 1),
        ]
    for number in order:
        kind, *fields = log[number]
        operator.feed(kind, **dict(zip(kind.__struct_fields__[1:], fields, strict=False)))
    assert {(i.state, i.rests) for i in operator.state.instances.values()} == {("active", False)}
    operator.work(arrived=1)
    assert slept_all(operator.pass_time(10 * IDLE_US))


def test_a_restarted_operator_puts_nothing_to_sleep_before_it_was_idle_in_its_own_time() -> None:
    operator = restarted([0, 1, 5, 6])
    operator.feed(events.WorkSeen, router="r", requests=0, queued_requests=0, arrived_requests=5)
    assert (
        operator.feed(
            events.WorkSeen, router="r", requests=0, queued_requests=0, arrived_requests=5
        )
        == []
    )
    operator.arrived = 5
    assert operator.pass_time(IDLE_US - 1) == []
    assert slept_all(operator.pass_time(TICK_US))


def test_older_changes_do_not_undo_newer_ones() -> None:
    operator = SleepingOperator()
    operator.hear("decode-0", "silent", change=9)
    operator.hear("decode-0", "draining", change=8)
    assert operator.instance("decode-0").state == "silent"


@pytest.mark.parametrize("after", ["failed", "loading", "stopped"])
def test_news_of_a_process_that_ended_does_not_undo_what_its_node_told_since(after: str) -> None:
    operator = SleepingOperator()
    at_us = operator.now_us + S
    operator.now_us += 3 * S
    operator.feed(
        events.InstanceChanged,
        instance="decode-0",
        state=after,
        reason="exit code -9",
        restarts=-1,
        at_us=at_us + S,
    )
    operator.feed(
        events.InstanceChanged,
        instance="decode-0",
        state="silent",
        reason="idle",
        restarts=-1,
        at_us=at_us,
        epoch="e1",
        change=3,
    )
    assert operator.instance("decode-0").state == after


def test_a_process_that_still_stops_beside_its_successor_does_not_hide_it() -> None:
    """Its node agent died, and the next one has started another process of the instance."""
    operator = SleepingOperator()
    fields = {"instance": "decode-0", "reason": ""}
    at_us = operator.now_us + S
    operator.feed(events.InstanceChanged, **fields, state="loading", epoch="e2", at_us=at_us)
    operator.feed(
        events.InstanceChanged, **fields, state="active", epoch="e2", at_us=at_us + S, change=1
    )
    for change, state in ((2, "draining"), (3, "stopped")):
        operator.hear("decode-0", state, change=change)
        operator.now_us += 2 * S
        assert operator.instance("decode-0").state == "active"


@pytest.mark.parametrize("state", ["loading", "failed"])
def test_a_new_process_starts_awake_whatever_the_old_one_was_told(state: str) -> None:
    operator = SleepingOperator()
    operator.ask()
    operator.slept()
    operator.now_us += S
    operator.feed(events.InstanceChanged, instance="decode-0", state=state, reason="", restarts=1)
    assert not operator.instance("decode-0").rests


def test_a_replaced_instance_is_not_held_to_what_its_predecessor_was_told() -> None:
    operator = SleepingOperator()
    operator.ask()
    template = Template("decode", 2 * GIB, 1, {})
    operator.feed(
        events.FleetApplied,
        generation=2,
        pools=[pools(1, 1)[0], Pool(template, 1)],
        idle_sleep_us=IDLE_US,
        sleep_level="dram",
    )
    assert not operator.instance("decode-0").rests


def test_what_is_known_of_routers_is_bounded() -> None:
    operator = SleepingOperator()
    for number in range(2 * ROUTERS_MAX):
        operator.feed(
            events.WorkSeen, router=f"r{number}", requests=0, queued_requests=0, arrived_requests=1
        )
    assert len(operator.state.rest.routers) <= ROUTERS_MAX
    assert len(operator.state.rest.arrived) <= ROUTERS_MAX


def test_a_router_beyond_the_bound_still_counts_as_work() -> None:
    operator = SleepingOperator()
    for number in range(ROUTERS_MAX):
        operator.feed(
            events.WorkSeen, router=f"r{number}", requests=0, queued_requests=0, arrived_requests=1
        )
    operator.now_us += S
    operator.feed(
        events.WorkSeen, router="one more", requests=1, queued_requests=0, arrived_requests=1
    )
    assert operator.state.rest.busy_us == operator.now_us


# -- whatever happens

instances = st.sampled_from(["decode-0", "decode-1", "prefill-0"])
things = st.one_of(
    st.tuples(
        st.just("hear"),
        instances,
        st.sampled_from(["loading", "active", "draining", "silent", "waking", "failed"]),
    ),
    st.tuples(st.just("work"), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.just("demand")),
    st.tuples(st.just("ask"), instances, st.booleans()),
    st.tuples(st.just("refuse")),
    st.tuples(st.just("wait"), st.sampled_from([MS, TICK_US, 2 * S, 10 * S])),
)


@settings(max_examples=examples(150))
@given(sequence=st.lists(things, max_size=60))
def test_whatever_happens_decisions_are_newer_each_time_and_never_for_those_who_work(
    sequence: list[Any],
) -> None:
    """And a twin that starts from the encoded state before each event decides the same."""
    operator = SleepingOperator(decode=2, prefill=1)
    turns: dict[str, int] = {}
    last: list[Any] = []
    busy_us = operator.now_us
    for kind, *given_ in sequence:
        image = msgspec.msgpack.encode(operator.state)
        match kind:
            case "hear":
                event: Any = events.InstanceChanged(
                    now_us=operator.now_us, instance=given_[0], state=given_[1], reason=""
                )
            case "work":
                event = events.WorkSeen(
                    now_us=operator.now_us,
                    router="r",
                    requests=sum(given_),
                    queued_requests=given_[1],
                    arrived_requests=0,
                )
            case "demand":
                event = events.DemandSeen(now_us=operator.now_us, router="r", held_requests=1)
            case "ask":
                event = events.RestAsked(
                    now_us=operator.now_us, instances=[given_[0]], wake=given_[1], cause="asked"
                )
            case "refuse":
                if not last:
                    continue
                refused = last.pop()
                wake = isinstance(refused, effects.DecideWake)
                event = events.RestRefused(
                    now_us=operator.now_us,
                    instance=refused.instance,
                    turn=refused.turn,
                    wake=wake,
                    reason="no",
                )
            case _:
                operator.now_us += given_[0]
                continue
        found = list(operator.core.step(event))
        twin = SPEC.build(msgspec.msgpack.decode(image, type=SPEC.state))
        assert list(twin.step(event)) == found
        for decision in found:
            assert decision.turn > turns.get(decision.instance, 0)
            turns[decision.instance] = decision.turn
            if isinstance(decision, effects.DecideSleep) and kind != "ask":
                instance = operator.instance(decision.instance)
                assert kind == "work"
                assert operator.now_us - busy_us >= IDLE_US
                assert instance.state == "active"
                assert operator.now_us - instance.since_us >= STAY_US
        if kind == "demand" or (kind == "work" and sum(given_)):
            busy_us = operator.now_us
        last = found or last
