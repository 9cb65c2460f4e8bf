"""The order rules of an instance's life, over every order in which its facts can come."""

from collections.abc import Iterator
from itertools import permutations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.domain.lifecycle import TABLE, LifecycleState
from argosy.domain.lifecycle_view import PROCESSES_MAX, LifecycleFact, LifecycleView

S = 1_000_000
IN_PROCESS = {row for row in TABLE if row.fact not in ("InstanceStarted", "InstanceExited")}
"""Changes a process tells of itself."""


def fact(
    state: str,
    at_us: int,
    epoch: str = "e1",
    change: int = 0,
    *,
    exact: bool = True,
    cause: str = "",
) -> LifecycleFact:
    return LifecycleFact(
        state=state, at_us=at_us, epoch=epoch, change=change, exact=exact, cause=cause
    )


def view_of(*facts: LifecycleFact) -> LifecycleView:
    view = LifecycleView()
    for told in facts:
        view.apply(told)
    return view


def shown(view: LifecycleView) -> tuple[str, LifecycleState]:
    return view.newest.epoch, view.state


@st.composite
def histories(draw: st.DrawFn) -> list[LifecycleFact]:
    """What an instance's processes and its node agent tell, in the order in which it happens."""
    told: list[LifecycleFact] = []
    at_us = 0
    for number in range(1, draw(st.integers(1, 4)) + 1):
        at_us = draw(refusals(told, at_us))
        at_us = draw(lives(told, f"e{number}", at_us))
    return told


@st.composite
def refusals(draw: st.DrawFn, told: list[LifecycleFact], at_us: int) -> int:
    """The node has no room for a while; the first refusal may be of the very moment of an exit."""
    for number in range(draw(st.integers(0, 2))):
        at_us += draw(st.integers(0 if told and not number else 1, 3))
        told.append(fact("pending", at_us, "", cause=f"no room at {at_us}"))
    return at_us


@st.composite
def lives(draw: st.DrawFn, told: list[LifecycleFact], epoch: str, at_us: int) -> int:
    """One process from its start to its end, by the transition table; the last may live on."""
    state = LifecycleState.LOADING
    # An exit and the next start may be told in the same moment.
    at_us += 0 if told and told[-1].state in ("failed", "stopped") else 1
    told.append(fact(state, at_us, epoch))
    for change in range(1, draw(st.integers(0, 8)) + 1):
        ways = sorted({row.after for row in IN_PROCESS if row.before is state})
        if not ways:
            break
        state, at_us = draw(st.sampled_from(ways)), at_us + draw(st.integers(1, 3))
        told.append(fact(state, at_us, epoch, change, cause=f"change {change}"))
    at_us += 1
    told.append(fact(draw(st.sampled_from(["failed", "stopped"])), at_us, epoch))
    return at_us


def with_reports(facts: list[LifecycleFact]) -> list[LifecycleFact]:
    """And what load reports repeat of each change, a moment later."""
    busy = (LifecycleState.DRAINING, LifecycleState.SILENT, LifecycleState.WAKING)
    return [
        report
        for told in facts
        if told.change
        for report in (
            [fact("draining", told.at_us, told.epoch, told.change, exact=False)]
            if told.state in busy
            else [told]
        )
    ]


@settings(max_examples=examples(300))
@given(history=histories(), data=st.data())
def test_every_order_of_the_facts_ends_in_the_same_view(
    history: list[LifecycleFact], data: st.DataObject
) -> None:
    """However often each is told, and wherever the history is cut off."""
    history = history[: data.draw(st.integers(1, len(history)))]
    in_order = view_of(*history)
    again = data.draw(st.lists(st.sampled_from(history), max_size=5))
    reports = with_reports(history)
    mixed = data.draw(st.permutations([*history, *again, *reports]))
    assert msgspec.msgpack.encode(view_of(*mixed)) == msgspec.msgpack.encode(in_order)


@settings(max_examples=examples(300))
@given(history=histories(), data=st.data())
def test_the_view_never_shows_a_state_older_than_the_newest_fact_it_has_been_told(
    history: list[LifecycleFact], data: st.DataObject
) -> None:
    view, newest = LifecycleView(), -1
    for number in data.draw(st.permutations(range(len(history)))):
        told, before = history[number], shown(view)
        is_news = view.apply(told)
        newest = max(number, newest)
        assert shown(view) == (history[newest].epoch, history[newest].state)
        assert view.newest.cause == history[newest].cause
        assert is_news or shown(view) == before
        assert is_news == (number == newest)


@given(history=histories(), data=st.data())
def test_a_view_restored_from_its_encoding_goes_on_as_the_one_it_was_made_from(
    history: list[LifecycleFact], data: st.DataObject
) -> None:
    mixed = data.draw(st.permutations(history))
    view = view_of(*mixed[: len(mixed) // 2])
    restored = msgspec.msgpack.decode(msgspec.msgpack.encode(view), type=LifecycleView)
    for told in mixed[len(mixed) // 2 :]:
        assert restored.apply(told) == view.apply(told)
    assert restored == view


@given(history=histories(), data=st.data())
def test_what_is_told_again_is_no_news(history: list[LifecycleFact], data: st.DataObject) -> None:
    mixed = data.draw(st.permutations(history))
    view = view_of(*mixed)
    before = msgspec.msgpack.encode(view)
    assert not any(view.apply(told) for told in mixed)
    assert msgspec.msgpack.encode(view) == before


def every_order(*facts: LifecycleFact) -> Iterator[LifecycleView]:
    return (view_of(*order) for order in permutations(facts))


def test_a_newer_process_replaces_an_older_one_whatever_that_one_said() -> None:
    for view in every_order(
        fact("silent", 10, "e1", 9), fact("loading", 20, "e2"), fact("active", 21, "e2", 1)
    ):
        assert shown(view) == ("e2", LifecycleState.ACTIVE)


def test_a_process_that_still_stops_beside_its_successor_does_not_hide_it() -> None:
    """Its node agent died: it is told to stop, and another agent has started the next."""
    for view in every_order(
        fact("active", 10, "e1", 1),
        fact("loading", 20, "e2"),
        fact("draining", 21, "e1", 2),
        fact("active", 22, "e2", 1),
        fact("stopped", 23, "e1", 3),
    ):
        assert shown(view) == ("e2", LifecycleState.ACTIVE)


def test_within_a_process_the_change_number_decides_and_no_clock_does() -> None:
    for view in every_order(fact("draining", 30, change=2), fact("silent", 20, change=3)):
        assert view.state is LifecycleState.SILENT


def test_nothing_a_process_said_counts_once_its_node_agent_says_that_it_ended() -> None:
    for view in every_order(
        fact("loading", 10), fact("waking", 99, change=7), fact("failed", 50), fact("stopped", 60)
    ):
        assert view.state in (LifecycleState.FAILED, LifecycleState.STOPPED)
        assert view.ended("e1")


def test_the_start_of_a_process_is_remembered_even_if_it_is_heard_of_last() -> None:
    for view in every_order(fact("active", 12, change=1), fact("loading", 10)):
        assert (view.state, view.newest.started_us) == (LifecycleState.ACTIVE, 10)


def test_an_end_heard_of_before_its_start_holds() -> None:
    for view in every_order(fact("failed", 12), fact("loading", 10), fact("active", 11, change=1)):
        assert view.state is LifecycleState.FAILED


def test_a_late_end_of_an_older_process_leaves_the_newer_one_alone() -> None:
    view = view_of(fact("active", 10, "e1", 1), fact("active", 20, "e2", 1))
    assert not view.apply(fact("failed", 30, "e1"))
    assert shown(view) == ("e2", LifecycleState.ACTIVE)
    assert view.ended("e1")
    assert not view.ended("e2")


def test_a_refusal_to_start_is_newer_than_the_exit_of_the_same_moment() -> None:
    for view in every_order(
        fact("active", 9, change=1), fact("failed", 10), fact("pending", 10, "")
    ):
        assert view.state is LifecycleState.PENDING


def test_a_later_refusal_is_news_for_its_reason() -> None:
    view = view_of(fact("pending", 10, "", cause="4 GiB are free"))
    assert view.apply(fact("pending", 20, "", cause="5 GiB are free"))
    assert not view.apply(fact("pending", 15, "", cause="3 GiB are free"))
    assert view.newest.cause == "5 GiB are free"


@pytest.mark.parametrize("state", ["draining", "silent", "waking"])
def test_a_fact_says_better_what_a_load_report_said_first(state: str) -> None:
    view = view_of(fact("active", 1, change=1), fact("draining", 3, change=3, exact=False))
    assert view.apply(fact(state, 2, change=3))
    assert view.state == state
    assert not view.apply(fact("draining", 4, change=3, exact=False))
    assert view.state == state


def test_of_two_processes_told_of_in_one_moment_the_one_heard_to_begin_last_is_newer() -> None:
    view = view_of(fact("active", 10, "e1", 1))
    assert not view.apply(fact("silent", 10, "e0", 9))
    assert view.apply(fact("active", 10, "e2", 1))
    assert not view.apply(fact("active", 10, "e1", 1))
    assert shown(view) == ("e2", LifecycleState.ACTIVE)


def test_what_is_remembered_of_past_processes_is_bounded_and_the_oldest_go_first() -> None:
    view = LifecycleView()
    for number in range(10 * PROCESSES_MAX):
        view.apply(fact("loading", 10 * number, f"e{number}"))
        view.apply(fact("failed", 10 * number + 5, f"e{number}"))
    assert len(view.processes) == PROCESSES_MAX
    assert not view.apply(fact("silent", 7, "e0", 3))
    assert view.newest.epoch == f"e{10 * PROCESSES_MAX - 1}"


@pytest.mark.parametrize("state", sorted({state for row in TABLE for state in row[:2]}))
def test_every_state_of_the_transition_table_is_taken(state: LifecycleState) -> None:
    view = view_of(fact(state, 1))
    assert view.state is state


@pytest.mark.parametrize("state", ["unspecified", "", "ACTIVE", "resting", "ready"])
def test_a_state_that_is_not_in_the_transition_table_is_ignored(state: str) -> None:
    view = view_of(fact("active", 1, change=1))
    before = msgspec.msgpack.encode(view)
    assert not view.apply(fact(state, 2, change=2))
    assert msgspec.msgpack.encode(view) == before


def test_before_any_fact_an_instance_is_pending() -> None:
    assert shown(LifecycleView()) == ("", LifecycleState.PENDING)
