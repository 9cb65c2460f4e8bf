"""What an instance can do: announced, and corrected by its steps as far as they are believed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.autoscaler.core import events
from argosy.autoscaler.core.capacity import baseline
from argosy.autoscaler.core.state import AutoscalerState, Member
from argosy.domain.demand import Machine
from argosy.domain.timing import Timing

S = 1_000_000
ANNOUNCED = Timing()
NOW_US = 10_000 * S
TOKENS = [64, 200, 700, 1500, 3000, 8000]
SHARES = [0.0, 0.1, 0.3, 0.5, 0.8, 1.0]


def started(role="decode", timing=ANNOUNCED):
    state = AutoscalerState(members={"a": Member(role, state="active", since_us=0)})
    joined = events.MemberJoined(
        now_us=NOW_US,
        instance="a",
        epoch="1",
        role=role,
        node="node",
        rack="",
        change=1,
        timing=timing,
        machine=Machine(),
    )
    baseline.joined(state, joined)
    return state


def see(state, steps, now_us=NOW_US):
    load = events.LoadSeen(
        now_us=now_us,
        instance="a",
        epoch="1",
        running=0,
        waiting=0,
        queued_tokens=0,
        kv_share=0.0,
        steps=steps,
    )
    baseline.steps_seen(state, state.members["a"], load)


def prefills(count, slower=1.0):
    sizes = [TOKENS[i % len(TOKENS)] for i in range(count)]
    return [
        events.MeasuredStep(round(1e3 * slower * ANNOUNCED.prefill_step_ms(n)), n, 0, 0.0)
        for n in sizes
    ]


def decodes(count, slower=1.0):
    shares = [SHARES[i % len(SHARES)] for i in range(count)]
    return [
        events.MeasuredStep(round(1e3 * slower * ANNOUNCED.decode_step_ms(p)), 0, 8, p)
        for p in shares
    ]


def timing_of(state, role="decode"):
    timing = state.baselines[role].timing
    assert timing is not None
    return timing


def ratios(timing):
    found = [timing.prefill_step_ms(n) / ANNOUNCED.prefill_step_ms(n) for n in (1, *TOKENS)]
    return found + [
        timing.decode_step_ms(p, b) / ANNOUNCED.decode_step_ms(p, b)
        for p in (0.0, 0.25, *SHARES)
        for b in (1, 64, 256)
    ]


def test_what_was_announced_holds_before_anything_was_measured():
    assert timing_of(started()) == ANNOUNCED


def test_few_steps_change_little_of_what_was_announced():
    state = started()
    see(state, decodes(3, 2.0))
    assert timing_of(state) == ANNOUNCED


@pytest.mark.parametrize(("slower", "near"), [(0.5, 0.2), (2.0, 0.1)])
def test_an_engine_at_another_pace_is_known_after_some_hundred_passes(slower, near):
    state = started()
    for _ in range(7):
        see(state, prefills(30, slower) + decodes(30, slower))
    assert all(abs(ratio / slower - 1) < near for ratio in ratios(timing_of(state)))


def test_steps_as_announced_change_nothing():
    state = started()
    for _ in range(10):
        see(state, prefills(30) + decodes(30))
    assert timing_of(state) == ANNOUNCED


def test_steps_of_an_instance_that_has_just_come_up_are_left_out():
    state = started()
    state.members["a"].since_us = NOW_US - 10 * S
    for _ in range(10):
        see(state, decodes(60, 5.0))
    assert timing_of(state) == ANNOUNCED


@pytest.mark.parametrize("state_name", ["silent", "draining", "waking", "loading"])
def test_steps_of_an_instance_that_is_not_at_work_are_left_out(state_name):
    state = started()
    state.members["a"].state = state_name
    for _ in range(10):
        see(state, decodes(60, 5.0))
    assert timing_of(state) == ANNOUNCED


POISON = st.one_of(
    st.floats(), st.integers(-(2**70), 2**70), st.sampled_from([0, 1, 1e300, 2**64, -1])
)
steps = st.builds(events.MeasuredStep, POISON, POISON, POISON, st.one_of(POISON, st.floats(0, 1)))


@settings(max_examples=examples(60))
@given(st.lists(steps, max_size=40), st.integers(0, 3))
def test_no_steps_whatever_move_a_baseline_beyond_its_bounds(poison, often):
    state = started()
    see(state, decodes(30) + prefills(30))
    for _ in range(often):
        see(state, poison + decodes(20) + prefills(20))
    least, most = baseline.LEAST - 1e-9, baseline.MOST + 1e-9
    assert all(least <= ratio <= most for ratio in ratios(timing_of(state)))


@pytest.mark.parametrize("slower", [1e-6, 1e6])
def test_an_engine_is_believed_within_bounds_only(slower):
    state = started()
    for _ in range(20):
        see(state, prefills(30, slower) + decodes(30, slower))
    least, most = baseline.LEAST - 1e-9, baseline.MOST + 1e-9
    assert all(least <= ratio <= most for ratio in ratios(timing_of(state)))


@pytest.mark.parametrize(
    "timing",
    [
        Timing(prefill_ms=(float("nan"), 1, 1)),
        Timing(decode_ms=(0, 0, 0)),
        Timing(decode_ms=(-5.0, 1, 1)),
        Timing(transfer_gb_per_s=(0, 0, 0)),
        Timing(prefill_ms=(float("inf"), 1, 1)),
    ],
)
def test_what_no_engine_can_do_is_not_taken_as_announced(timing):
    assert timing_of(started(timing=timing)) == ANNOUNCED


def test_a_machine_that_holds_nothing_is_not_taken_as_announced():
    state = started()
    nothing = Machine(0, 0, 0)
    joined = events.MemberJoined(
        now_us=NOW_US,
        instance="a",
        epoch="2",
        role="decode",
        node="node",
        rack="",
        change=1,
        timing=ANNOUNCED,
        machine=nothing,
    )
    baseline.joined(state, joined)
    assert state.baselines["decode"].machine == Machine()
