"""When an idle fleet goes to sleep, and when it does not."""

from typing import Any

import pytest

from argosy.autoscaler.core import effects, events
from argosy.autoscaler.core.observe.measure import ROUTERS_MAX
from argosy.autoscaler.core.planning.idle_sleep import STAY_US
from argosy.autoscaler.core.planning.sleep_rules import REPORT_VALID_US

MS, S, GIB = 1_000, 1_000_000, 1 << 30
IDLE_US = 5 * S
REPORT_US = 500 * MS


def names(decisions: list[Any]) -> list[str]:
    return sorted(decision.instance for decision in decisions)


def slept_all(decisions: list[Any]) -> bool:
    return bool(decisions) and all(isinstance(d, effects.DecideSleep) for d in decisions)


def test_all_prefill_and_decode_instances_sleep_in_one_step_once_idle_for_long_enough(
    new_idle_fleet: Any,
) -> None:
    fleet = new_idle_fleet(decode=2, prefill=2)
    fleet.work(arrived=1)
    assert fleet.pass_time(IDLE_US - 1) == []
    found = fleet.pass_time(REPORT_US)
    assert slept_all(found)
    assert names(found) == ["decode-0", "decode-1", "prefill-0", "prefill-1"]
    assert {d.level for d in found} == {"disk"}
    assert "idle for" in found[0].reason
    assert fleet.pass_time(100 * S) == []


@pytest.mark.parametrize("work", [{"requests": 1}, {"arrived": 1}])
def test_whatever_there_is_to_do_begins_the_wait_anew(new_idle_fleet: Any, work: Any) -> None:
    fleet = new_idle_fleet()
    fleet.work(arrived=1)
    fleet.pass_time(IDLE_US - REPORT_US)
    assert fleet.work(**work) == []
    assert fleet.pass_time(IDLE_US - REPORT_US) == []
    assert slept_all(fleet.pass_time(REPORT_US))


def test_nothing_sleeps_that_was_not_asked_to_by_the_file(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet(idle_us=0)
    fleet.work(arrived=1)
    assert fleet.pass_time(1000 * S) == []


def test_nothing_sleeps_without_a_routers_word(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet()
    fleet.now_us += 1000 * S
    assert fleet.feed(events.NodeSeen, node="n1", free_bytes=GIB) == []
    assert fleet.hear("decode-0", "active") == []


def test_one_idle_router_does_not_speak_for_a_busy_one(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet()
    for _ in range(100):
        fleet.now_us += REPORT_US
        assert fleet.report("busy", requests=3, arrived=7) == []
        assert fleet.report("idle") == []


def test_what_a_router_said_long_ago_holds_nobody_awake(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet()
    fleet.report("gone", requests=3, queued=3, arrived=7)
    fleet.work(arrived=1)
    found = fleet.pass_time(REPORT_VALID_US + IDLE_US + REPORT_US)
    assert slept_all(found)


def test_a_new_file_begins_the_wait_anew(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet()
    fleet.work(arrived=1)
    fleet.pass_time(IDLE_US - REPORT_US)
    fleet.apply()
    assert fleet.pass_time(IDLE_US - REPORT_US) == []


def test_a_loading_instance_is_waited_for(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet()
    fleet.loads("decode-0")
    fleet.work(arrived=1)
    assert fleet.pass_time(10 * IDLE_US) == []
    fleet.hear("decode-0", "active")
    assert fleet.pass_time(IDLE_US - REPORT_US) == []
    assert names(fleet.pass_time(2 * REPORT_US)) == ["decode-0", "prefill-0"]


def test_nothing_sleeps_within_the_shortest_stay_after_it_woke(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet(idle_us=1)
    fleet.work(arrived=1)
    assert slept_all(fleet.pass_time(STAY_US))
    fleet.slept()
    fleet.ask_wake()
    fleet.now_us += S
    fleet.woke()
    assert fleet.pass_time(STAY_US - 1) == []
    assert slept_all(fleet.pass_time(REPORT_US))


def test_nothing_sleeps_before_what_sleeping_and_waking_cost_has_passed(
    new_idle_fleet: Any,
) -> None:
    fleet = new_idle_fleet(idle_us=S)
    fleet.ask_sleep()
    fleet.slept(took_us=8 * S)
    fleet.ask_wake()
    fleet.woke(took_us=12 * S)
    fleet.work(arrived=1)
    assert fleet.pass_time(20 * S - 1) == []
    assert slept_all(fleet.pass_time(REPORT_US))


def test_what_is_known_of_routers_is_bounded(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet()
    for number in range(2 * ROUTERS_MAX):
        fleet.report(f"r{number}", arrived=1)
    assert len(fleet.state.routers) <= ROUTERS_MAX


def test_a_router_beyond_the_bound_still_counts_as_work(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet()
    for number in range(ROUTERS_MAX):
        fleet.report(f"r{number}", arrived=1)
    fleet.now_us += S
    fleet.report("one more", requests=1, arrived=1)
    assert fleet.state.busy_us == fleet.now_us
