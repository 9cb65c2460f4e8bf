"""Who wakes because requests wait."""

from typing import Any

import pytest

from argosy.autoscaler.core import effects, events
from argosy.autoscaler.core.planning.wake_on_demand import MORE_US

MS, S, GIB = 1_000, 1_000_000, 1 << 30
IDLE_US = 5 * S
REPORT_US = 500 * MS


def woken(decisions: list[Any]) -> list[str]:
    assert all(isinstance(decision, effects.DecideWake) for decision in decisions)
    return [decision.instance for decision in decisions]


def asleep(new_idle_fleet: Any, *, decode: int = 2, prefill: int = 2) -> Any:
    """All sleep; a wake of any of them fits."""
    fleet = new_idle_fleet(decode=decode, prefill=prefill)
    fleet.until_sleep()
    fleet.now_us += 100 * S
    return fleet


def test_demand_wakes_one_decode_and_one_prefill_instance_in_one_step(new_idle_fleet: Any) -> None:
    fleet = asleep(new_idle_fleet)
    found = fleet.demand(held=3)
    assert woken(found) == ["decode-0", "prefill-0"]
    assert {d.node for d in found} == {"n1"}
    assert "requests wait at r: 3" in found[0].reason


@pytest.mark.parametrize("state", ["", "waking", "active"])
def test_demand_while_somebody_is_on_the_way_wakes_nobody_else(
    new_idle_fleet: Any, state: str
) -> None:
    fleet = asleep(new_idle_fleet)
    fleet.demand()
    for before in ("waking", "active"):
        if state == "active" or before == state:
            fleet.hear("decode-0", before)
            fleet.hear("prefill-0", before)
    fleet.now_us += 500 * MS - 1
    assert fleet.demand() == []
    if state:
        fleet.now_us += S
        assert fleet.demand() == []


def test_the_quickest_wakes_first(new_idle_fleet: Any) -> None:
    fleet = asleep(new_idle_fleet, decode=3)
    for name, took_us in (("decode-0", 9 * S), ("decode-1", 2 * S), ("decode-2", 5 * S)):
        fleet.instance(name).woke_took_us = took_us
    assert woken(fleet.demand())[0] == "decode-1"


def test_one_still_on_its_way_to_sleep_wakes_first(new_idle_fleet: Any) -> None:
    fleet = asleep(new_idle_fleet, decode=3)
    fleet.ask_wake("decode-2")
    fleet.woke("decode-2", took_us=20 * S)
    fleet.ask_sleep("decode-2")
    fleet.hear("decode-2", "draining")
    assert woken(fleet.demand())[0] == "decode-2"


def test_one_for_which_its_node_has_room_wakes_before_a_quicker_one_without(
    new_idle_fleet: Any,
) -> None:
    fleet = asleep(new_idle_fleet, decode=2)
    fleet.instance("decode-0").node = "n2"
    fleet.feed(events.NodeSeen, node="n2", free_bytes=GIB)
    fleet.instance("decode-1").woke_took_us = 9 * S
    assert woken(fleet.demand())[0] == "decode-1"


def test_of_a_sleeper_only_what_it_does_not_hold_has_to_fit(new_idle_fleet: Any) -> None:
    fleet = asleep(new_idle_fleet, decode=2)
    fleet.instance("decode-0").node = "n2"
    fleet.feed(events.NodeSeen, node="n2", free_bytes=GIB)
    fleet.hear("decode-0", "silent", resident=3 * GIB)
    assert woken(fleet.demand())[0] == "decode-0"


def test_the_prefill_instance_nearest_to_the_decode_instance_wakes_with_it(
    new_idle_fleet: Any,
) -> None:
    fleet = asleep(new_idle_fleet, decode=1, prefill=3)
    fleet.feed(events.NodeSeen, node="n2", free_bytes=100 * GIB)
    for name in ("decode-0", "prefill-1"):
        fleet.instance(name).node = "n2"
    fleet.instance("prefill-1").woke_took_us = 9 * S
    assert woken(fleet.demand()) == ["decode-0", "prefill-1"]


def test_more_pairs_wake_one_after_the_other_while_requests_wait(new_idle_fleet: Any) -> None:
    fleet = asleep(new_idle_fleet, decode=3, prefill=2)
    fleet.demand()
    fleet.woke("decode-0", "prefill-0")
    assert fleet.work(requests=9, queued=5) == []
    fleet.now_us += MORE_US
    assert woken(fleet.work(requests=9, queued=5)) == ["decode-1", "prefill-1"]
    fleet.woke("decode-1", "prefill-1")
    fleet.now_us += MORE_US
    assert woken(fleet.work(requests=9, queued=5)) == ["decode-2"]
    fleet.woke("decode-2")
    fleet.now_us += MORE_US
    assert fleet.work(requests=9, queued=5) == []


def test_no_more_wake_once_nobody_waits(new_idle_fleet: Any) -> None:
    fleet = asleep(new_idle_fleet, decode=3)
    fleet.demand()
    fleet.woke("decode-0", "prefill-0")
    fleet.now_us += MORE_US
    assert fleet.work(requests=9, queued=0) == []


def test_demand_counts_as_work(new_idle_fleet: Any) -> None:
    fleet = asleep(new_idle_fleet, decode=1, prefill=1)
    fleet.demand()
    fleet.woke()
    assert fleet.pass_time(IDLE_US - REPORT_US) == []
