"""What an autoscaler knows after a restart, and what older facts do not undo."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy.autoscaler.core import effects, events

MS, S, GIB = 1_000, 1_000_000, 1 << 30
BEGAN_US = 1_767_571_200 * S
IDLE_US = 5 * S
REPORT_US = 500 * MS
NAMES = ("decode-0", "prefill-0")


def slept_all(decisions: list[Any]) -> bool:
    return bool(decisions) and all(isinstance(d, effects.DecideSleep) for d in decisions)


def woken(decisions: list[Any]) -> list[str]:
    assert all(isinstance(decision, effects.DecideWake) for decision in decisions)
    return [decision.instance for decision in decisions]


def test_a_recalled_decision_outdates_older_ones_only(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet()
    sequence = BEGAN_US + 100 * S
    fleet.recall("decode-0", sequence, wake=False)
    assert fleet.instance("decode-0").told_to_sleep
    fleet.recall("decode-0", sequence - 1, wake=True)
    assert fleet.instance("decode-0").told_to_sleep
    (decision,) = fleet.ask_wake("decode-0")
    assert decision.decision_sequence == sequence + 1


def test_a_decision_that_comes_back_from_the_log_changes_nothing(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet()
    decisions = fleet.ask_sleep()
    before = msgspec.msgpack.encode(fleet.state)
    for decision in decisions:
        fleet.recall(decision.instance, decision.decision_sequence, wake=False)
    assert msgspec.msgpack.encode(fleet.state) == before


def restarted(new_idle_fleet: Any, log: list[Any], order: list[int]) -> Any:
    """An autoscaler that reads in this order what the control log holds; the fleet file last."""
    fleet = new_idle_fleet.__new__(new_idle_fleet)
    fleet.began(BEGAN_US + 1000 * S)
    fleet.feed(events.NodeSeen, node="n1", free_bytes=100 * GIB)
    for name in NAMES:
        fleet.decide(name)
    for number in order:
        kind, fields = log[number]
        fleet.feed(kind, **fields)
    fleet.apply()
    return fleet


def change(name: str, state: str, at_us: int, epoch: str, number: int) -> Any:
    """A change in an instance's life, as the log holds it; number 0: its node agent tells."""
    fields = {"epoch": epoch, "change": number, "state": state, "at_us": at_us}
    return events.MemberChanged, {"instance": name, **fields}


def decision(name: str, sequence: int) -> Any:
    """That it shall sleep."""
    fields = {"decision_sequence": sequence, "wake": False, "decided_by": "rule"}
    return events.SleepDecisionRecalled, {"instance": name, **fields}


def slept_once() -> list[Any]:
    """Of each instance, five facts: it came up, and was put to sleep."""
    at_us, log = BEGAN_US + 10 * S, []
    for name in NAMES:
        log += [
            change(name, "loading", at_us, "e1", 0),
            change(name, "active", at_us + S, "e1", 1),
            change(name, "draining", at_us + 20 * S, "e1", 2),
            change(name, "silent", at_us + 21 * S, "e1", 3),
            decision(name, at_us + 19 * S),
        ]
    return log


def slept_and_died() -> list[Any]:
    """Of each instance, four facts: it slept, died, and started anew."""
    at_us, log = BEGAN_US + 10 * S, []
    for name in NAMES:
        log += [
            change(name, "silent", at_us, "e1", 3),
            decision(name, at_us - S),
            change(name, "loading", at_us + 9 * S, "e2", 0),
            change(name, "active", at_us + 10 * S, "e2", 1),
        ]
    return log


@settings(max_examples=100, deadline=None)
@given(order=st.permutations(range(10)))
def test_a_restarted_autoscaler_knows_who_sleeps_whatever_it_reads_first(
    new_idle_fleet: Any, order: list[int]
) -> None:
    fleet = restarted(new_idle_fleet, slept_once(), order)
    assert {m.state for m in fleet.state.members.values()} == {"silent"}
    fleet.work(arrived=1)
    assert fleet.pass_time(10 * IDLE_US) == []
    assert woken(fleet.demand()) == ["decode-0", "prefill-0"]


@settings(max_examples=100, deadline=None)
@given(order=st.permutations(range(8)))
def test_a_restarted_autoscaler_does_not_hold_the_new_process_to_what_the_old_one_was_told(
    new_idle_fleet: Any, order: list[int]
) -> None:
    fleet = restarted(new_idle_fleet, slept_and_died(), order)
    states = {(m.state, m.told_to_sleep) for m in fleet.state.members.values()}
    assert states == {("active", False)}
    fleet.work(arrived=1)
    assert slept_all(fleet.pass_time(10 * IDLE_US))


def test_a_restarted_autoscaler_puts_nothing_to_sleep_before_it_was_idle_in_its_own_time(
    new_idle_fleet: Any,
) -> None:
    fleet = restarted(new_idle_fleet, slept_once(), [0, 1, 5, 6])
    assert fleet.report("r", arrived=5) == []
    assert fleet.report("r", arrived=5) == []
    fleet.arrived = 5
    assert fleet.pass_time(IDLE_US - 1) == []
    assert slept_all(fleet.pass_time(REPORT_US))


def test_older_changes_do_not_undo_newer_ones(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet()
    fleet.hear("decode-0", "silent", change=9)
    fleet.hear("decode-0", "draining", change=8)
    assert fleet.instance("decode-0").state == "silent"


@pytest.mark.parametrize("after", ["failed", "loading", "stopped"])
def test_news_of_a_process_that_ended_does_not_undo_what_its_node_told_since(
    new_idle_fleet: Any, after: str
) -> None:
    fleet = new_idle_fleet()
    at_us = fleet.now_us + S
    fleet.now_us += 3 * S
    if after == "loading":
        fleet.epochs["decode-0"] += 1
    fleet.by_node("decode-0", after, at_us=at_us + S)
    fleet.hear("decode-0", "silent", change=3, at_us=at_us, epoch="e1")
    assert fleet.instance("decode-0").state == after


def test_a_process_that_still_stops_beside_its_successor_does_not_hide_it(
    new_idle_fleet: Any,
) -> None:
    """Its node agent died, and the next one has started another process of the instance."""
    fleet = new_idle_fleet()
    fleet.now_us += S
    fleet.loads("decode-0")
    fleet.now_us += S
    fleet.hear("decode-0", "active")
    for change, state in ((2, "draining"), (3, "stopped")):
        fleet.hear("decode-0", state, change=change, epoch="e1")
        fleet.now_us += 2 * S
        assert fleet.instance("decode-0").state == "active"


@pytest.mark.parametrize("state", ["loading", "failed"])
def test_a_new_process_starts_awake_whatever_the_old_one_was_told(
    new_idle_fleet: Any, state: str
) -> None:
    fleet = new_idle_fleet()
    fleet.ask_sleep()
    fleet.slept()
    fleet.now_us += S
    if state == "loading":
        fleet.loads("decode-0")
    else:
        fleet.by_node("decode-0", state)
    assert not fleet.instance("decode-0").told_to_sleep


def test_a_replaced_instance_is_not_held_to_what_its_predecessor_was_told(
    new_idle_fleet: Any,
) -> None:
    fleet = new_idle_fleet()
    fleet.ask_sleep()
    fleet.decide("decode-0", generation=2)
    assert not fleet.instance("decode-0").told_to_sleep
