"""Which of the two decides who sleeps: the plan, or the rules for idle fleets and demand."""

from typing import Any

import pytest

from argosy.autoscaler.core import effects
from argosy.autoscaler.core.planning.wake_on_demand import MORE_US

S = 1_000_000
IDLE_US = 5 * S


@pytest.mark.parametrize("mode", ["", "advise"])
def test_where_no_plan_is_acted_on_the_idle_rule_decides(new_idle_fleet: Any, mode: str) -> None:
    fleet = new_idle_fleet(mode=mode)
    fleet.work(arrived=1)
    found = fleet.pass_time(2 * IDLE_US)
    assert {(d.instance, d.decided_by) for d in found} == {
        ("decode-0", "rule"),
        ("prefill-0", "rule"),
    }


def test_where_the_plan_is_acted_on_idle_instances_are_its_business(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet(mode="act")
    fleet.work(arrived=1)
    assert fleet.pass_time(10 * IDLE_US) == []


def test_where_the_plan_is_acted_on_it_alone_wakes_more(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet(mode="act", decode=2)
    fleet.ask_sleep("decode-1")
    fleet.slept("decode-1")
    fleet.demand(waited_us=6 * S)
    fleet.now_us += 10 * MORE_US
    assert fleet.work(9, queued=9) == []


@pytest.mark.parametrize("mode", ["", "advise", "act"])
def test_requests_that_wait_for_a_sleeping_model_wake_it_in_every_fleet(
    new_idle_fleet: Any, mode: str
) -> None:
    fleet = new_idle_fleet(mode=mode)
    fleet.ask_sleep()
    fleet.slept()
    found = fleet.demand()
    assert {d.instance for d in found} == {"decode-0", "prefill-0"}
    assert all(isinstance(d, effects.DecideWake) for d in found)


@pytest.mark.parametrize("mode", ["", "advise", "act"])
def test_what_a_person_asks_for_is_done_in_every_fleet(new_idle_fleet: Any, mode: str) -> None:
    fleet = new_idle_fleet(mode=mode, idle_us=0)
    (slept,) = fleet.ask_sleep("decode-0")
    (woken,) = fleet.ask_wake("decode-0")
    assert isinstance(slept, effects.DecideSleep)
    assert isinstance(woken, effects.DecideWake)
    assert {slept.decided_by, woken.decided_by} == {"manual"}
    assert woken.decision_sequence > slept.decision_sequence


def test_a_refused_sleep_of_the_plan_wakes_nobody_else(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet(mode="act")
    for name in ("decode-0", "prefill-0"):
        fleet.recall(name, fleet.now_us + 1, wake=False, by="plan")
    fleet.recall("decode-0", fleet.now_us + 2, wake=False, by="plan")
    refused = effects.DecideSleep(
        instance="decode-0",
        node="n1",
        decision_sequence=fleet.now_us + 2,
        level="dram",
        drain_us=0,
        reason="",
        decided_by="plan",
    )
    assert fleet.refuse(refused) == []
    assert not fleet.instance("decode-0").told_to_sleep
    assert fleet.instance("prefill-0").told_to_sleep
