"""Sleep and wake as people ask for them, in a fleet without a plan."""

from typing import Any

import pytest

from argosy.autoscaler.core import effects

S = 1_000_000


def names(decisions: list[Any]) -> list[str]:
    return sorted(decision.instance for decision in decisions)


def woken(decisions: list[Any]) -> list[str]:
    assert all(isinstance(decision, effects.DecideWake) for decision in decisions)
    return [decision.instance for decision in decisions]


def test_those_named_sleep_and_wake_as_somebody_asks(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet(decode=2)
    (decision,) = fleet.ask_sleep("decode-1", level="dram", drain_us=3 * S)
    assert (decision.instance, decision.level, decision.drain_us) == ("decode-1", "dram", 3 * S)
    assert decision.reason == "somebody asked"
    assert woken(fleet.ask_wake("decode-1")) == ["decode-1"]


@pytest.mark.parametrize("wake", [True, False])
def test_asked_for_none_by_name_all_are_meant(new_idle_fleet: Any, wake: bool) -> None:
    fleet = new_idle_fleet(decode=2)
    assert names(fleet.ask_wake() if wake else fleet.ask_sleep()) == [
        "decode-0",
        "decode-1",
        "prefill-0",
    ]


def test_an_asked_sleep_is_as_the_file_says_where_nothing_else_is_said(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet()
    assert {(d.level, d.drain_us) for d in fleet.ask_sleep()} == {("disk", 30 * S)}


def test_who_was_asked_to_sleep_wakes_at_demand(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet()
    fleet.ask_sleep()
    fleet.slept()
    assert woken(fleet.demand()) == ["decode-0", "prefill-0"]


def test_decision_sequences_of_an_instance_only_grow(new_idle_fleet: Any) -> None:
    fleet, sequences = new_idle_fleet(decode=1, prefill=0), []
    for wake in (False, True, False, True):
        sequences += [
            d.decision_sequence for d in (fleet.ask_wake() if wake else fleet.ask_sleep())
        ]
    assert sequences == sorted(set(sequences))


def test_an_instance_that_is_unwanted_is_neither_put_to_sleep_nor_woken(
    new_idle_fleet: Any,
) -> None:
    fleet = new_idle_fleet(decode=2)
    fleet.decide("decode-1", run=False)
    assert names(fleet.ask_sleep()) == ["decode-0", "prefill-0"]
    assert fleet.ask_sleep("decode-1") == []
