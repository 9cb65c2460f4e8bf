"""What follows when a node refuses a sleep or a wake, and who wakes beside whom."""

from typing import Any

from argosy.autoscaler.core import effects
from argosy.autoscaler.core.planning.idle_sleep import SLEEP_REFUSED_US
from argosy.autoscaler.core.planning.wake_on_demand import MORE_US, WAKE_REFUSED_US

MS, S = 1_000, 1_000_000
IDLE_US = 5 * S
REPORT_US = 500 * MS


def names(decisions: list[Any]) -> list[str]:
    return sorted(decision.instance for decision in decisions)


def woken(decisions: list[Any]) -> list[str]:
    assert all(isinstance(decision, effects.DecideWake) for decision in decisions)
    return [decision.instance for decision in decisions]


def asleep(new_idle_fleet: Any, *, decode: int = 2, prefill: int = 2) -> Any:
    """All sleep; a wake of any of them fits."""
    fleet = new_idle_fleet(decode=decode, prefill=prefill)
    fleet.until_sleep()
    fleet.now_us += 100 * S
    return fleet


def test_after_a_refusal_the_next_best_wakes_at_once(new_idle_fleet: Any) -> None:
    fleet = asleep(new_idle_fleet)
    first = fleet.demand()
    for decision in first:
        fleet.refuse(decision)
    assert fleet.instance("decode-0").refused == "no room"
    assert woken(fleet.demand()) == ["decode-1", "prefill-1"]


def test_a_refusal_is_forgotten_after_a_while(new_idle_fleet: Any) -> None:
    fleet = asleep(new_idle_fleet, decode=1, prefill=1)
    for decision in fleet.demand():
        fleet.refuse(decision)
    assert fleet.demand() == []
    fleet.now_us += WAKE_REFUSED_US + 1
    assert woken(fleet.demand()) == ["decode-0", "prefill-0"]
    assert fleet.instance("decode-0").refused == ""


def test_prefill_instances_do_not_wake_for_nobody_who_could_decode(new_idle_fleet: Any) -> None:
    fleet = asleep(new_idle_fleet, decode=1, prefill=3)
    (decode, prefill) = fleet.demand()
    fleet.refuse(decode)
    fleet.hear(prefill.instance, "waking")
    fleet.now_us += S
    assert fleet.demand() == []


def test_a_refusal_of_an_older_decision_says_nothing(new_idle_fleet: Any) -> None:
    fleet = asleep(new_idle_fleet)
    (first, _) = fleet.demand()
    fleet.ask_wake("decode-0")
    fleet.refuse(first)
    assert fleet.instance("decode-0").refused == ""
    assert not fleet.instance("decode-0").told_to_sleep


def test_one_request_does_not_wake_more_while_those_woken_for_it_are_on_their_way(
    new_idle_fleet: Any,
) -> None:
    fleet = new_idle_fleet(decode=8, prefill=8)
    fleet.ask_sleep()
    fleet.slept()
    assert woken(fleet.demand()) == ["decode-0", "prefill-0"]
    fleet.hear("decode-0", "waking")
    fleet.hear("prefill-0", "waking")
    found = []
    for _ in range(40):
        fleet.now_us += REPORT_US
        found += fleet.demand() + fleet.work(1, queued=1)
    assert found == []
    fleet.woke("decode-0", "prefill-0", took_us=20 * S)
    fleet.now_us += 2 * MORE_US
    assert woken(fleet.work(99, queued=99)) == ["decode-1", "prefill-1"]


def test_demand_ends_what_somebody_asked_for_of_all_of_the_model(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet(decode=3)
    fleet.ask_sleep()
    fleet.slept()
    fleet.demand()
    fleet.woke("decode-0", "prefill-0", took_us=S)
    fleet.now_us += 2 * MORE_US
    assert woken(fleet.work(50, queued=50)) == ["decode-1"]


def test_who_was_put_to_sleep_by_hand_sleeps_on_while_others_serve(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet(decode=2)
    fleet.ask_sleep("decode-1")
    fleet.slept("decode-1")
    fleet.now_us += 2 * MORE_US
    assert fleet.work(50, queued=50) == []


def test_requests_that_cannot_reach_who_is_said_to_be_up_wake_another(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet(decode=2)
    fleet.ask_sleep("decode-1")
    fleet.slept("decode-1")
    fleet.now_us += MORE_US
    assert fleet.demand(waited_us=S) == []
    assert woken(fleet.demand(waited_us=6 * S)) == ["decode-1"]


def test_a_refused_sleep_is_shown_and_tried_again_later_with_its_partner(
    new_idle_fleet: Any,
) -> None:
    fleet = new_idle_fleet()
    fleet.work(arrived=1)
    (first, partner) = fleet.pass_time(IDLE_US)
    assert woken(fleet.refuse(first, "the pool is full")) == [partner.instance]
    assert fleet.instance(first.instance).refused == "the pool is full"
    assert fleet.pass_time(SLEEP_REFUSED_US - REPORT_US) == []
    assert names(fleet.pass_time(2 * REPORT_US)) == ["decode-0", "prefill-0"]
