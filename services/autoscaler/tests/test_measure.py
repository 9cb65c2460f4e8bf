"""What came is counted from sums, and what cannot be is not."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.autoscaler.core import events
from argosy.autoscaler.core.observe import measure
from argosy.autoscaler.core.observe.observation import observe
from argosy.autoscaler.core.planning import expected_demand
from argosy.autoscaler.core.state import AutoscalerState

S = 1_000_000
BAD = [math.nan, math.inf, -math.inf, -1.0, 1e300, 1e31]


def in_order(kind, *values, **named):
    """An event from the values of its fields, in their order."""
    return kind(**dict(zip(kind.__struct_fields__, values, strict=False)), **named)


def expected(state, now_us):
    return expected_demand.expect(state, observe(state, now_us))


def calm(new_world, rate=20.0, seconds=120):
    world = new_world()
    world.run(rate, seconds, every=1)
    return world


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("bad", BAD)
def test_a_report_of_what_cannot_be_is_not_taken(new_world, bad, place):
    world = calm(new_world)
    before = world.state.mix.prompt_tokens
    told = [0, 0.0, *world.traffic]
    told[place] = bad
    world.core.step(in_order(events.TrafficSeen, world.now_us, "router", "1", *told))
    assert world.state.mix.prompt_tokens == before
    world.run(20.0, 30, every=1)
    assert abs(measure.recent_rate(world.state, world.now_us) - 20) < 1


def test_a_counter_that_runs_backwards_counts_from_there(new_world):
    world = calm(new_world)
    world.traffic = [10.0, 1e4, 1e7, 0.0]
    world.run(20.0, 60, every=1)
    assert abs(measure.recent_rate(world.state, world.now_us) - 20) < 1


def test_a_router_that_started_anew_counts_from_zero(new_world):
    world = calm(new_world)
    came = world.state.mix.requests
    world.feed(
        events.TrafficSeen,
        router="router",
        epoch="2",
        queued=0,
        queued_tokens=0,
        requests=5.0,
        prompt_tokens=5000.0,
        prompt_tokens_squared=5e6,
        cached_tokens=0.0,
    )
    assert world.state.mix.requests == came + 5


def test_reports_that_were_lost_cost_nothing(new_world):
    world, lossy = calm(new_world, seconds=300), new_world()
    for second in range(300):
        lossy.now_us += S
        if second % 4 == 3:
            lossy.report(20.0, 4)
        lossy.tick()
    slots = [slot.requests for slot in world.slots[1:]]
    assert [slot.requests for slot in lossy.slots[1:]] == pytest.approx(slots, rel=0.1)


@pytest.mark.parametrize("field", ["requests", "tokens", "queue"])
def test_one_sample_a_thousand_times_as_large_counts_as_ten_times_at_most(new_world, field):
    real, spiked = calm(new_world), calm(new_world)
    real.report(200.0, 1, prompt=10_000, queued=50)
    rate, prompt, queued = {
        "requests": (20_000.0, 1000, 0),
        "tokens": (20.0, 1_000_000, 0),
        "queue": (20.0, 1000, 10**6),
    }[field]
    spiked.report(rate, 1, prompt=prompt, queued=queued)
    for world in (real, spiked):
        world.now_us += S
    at = expected(real.state, real.now_us)
    seen = expected(spiked.state, spiked.now_us)
    # SLACK requests are believed of any report, beside ten times as many.
    assert seen.rate_now <= at.rate_now + measure.SLACK / 15
    assert seen.mix.prompt_tokens <= 2 * at.mix.prompt_tokens
    assert max(seen.rates) <= max(at.rates) + measure.SLACK / 15
    assert sum(seen.extra.values()) <= sum(at.extra.values())


def test_what_is_real_is_believed_a_few_reports_later(new_world):
    world = calm(new_world, rate=1.0)
    world.run(1000.0, 30, every=1)
    assert measure.recent_rate(world.state, world.now_us) > 900


def test_a_long_queue_is_believed_a_few_reports_later(new_world):
    world = calm(new_world)
    world.run(20.0, 4, every=1, queued=5000)
    assert world.state.routers["router"].queued == 5000


def test_one_instance_that_tells_of_far_more_that_waits_is_believed_ten_times(new_world):
    world = calm(new_world)
    world.crew(1, 0)
    for waiting in (3, 3_000_000):
        world.now_us += S
        world.feed(
            events.LoadSeen,
            instance="decode-0",
            epoch="e-decode-0",
            running=1,
            waiting=waiting,
            queued_tokens=0,
            kv_share=0.5,
        )
    assert world.state.members["decode-0"].waiting <= 3 * measure.GROWTH + measure.SLACK


def test_a_queue_of_a_router_that_is_gone_is_no_backlog(new_world):
    world = calm(new_world)
    world.feed(
        events.TrafficSeen,
        router="gone",
        epoch="1",
        queued=30,
        queued_tokens=30,
        requests=0.0,
        prompt_tokens=0.0,
        prompt_tokens_squared=0.0,
        cached_tokens=0.0,
    )
    assert sum(expected(world.state, world.now_us).extra.values()) == 30 / (
        expected_demand.BACKLOG_US / S
    )
    world.run(20.0, 60, every=1)
    assert sum(expected(world.state, world.now_us).extra.values()) == 0


def test_a_slot_in_which_nobody_was_heard_is_a_gap_and_no_zero(new_world):
    world = calm(new_world, seconds=240)
    told = len(world.slots)
    world.run(None, 600)
    assert len(world.slots) <= told + 1
    assert all(slot.requests > 0 for slot in world.slots)


def test_zero_traffic_is_a_value_and_no_gap(new_world):
    world = calm(new_world, seconds=240)
    told = len(world.slots)
    world.run(0.0, 300)
    assert len(world.slots) == told + 5
    assert [slot.requests for slot in world.slots[-4:]] == [0.0] * 4


def test_what_came_in_a_gap_is_not_put_into_one_slot(new_world):
    world = calm(new_world, seconds=240)
    world.run(None, 600)
    world.report(20.0, 600)
    world.run(20.0, 180)
    assert max(slot.requests for slot in world.slots) < 1.3 * 20 * 60 + measure.SLACK * 2


def test_a_pause_of_the_process_is_a_gap(new_world):
    world = calm(new_world, seconds=240)
    told = len(world.slots)
    world.now_us += 150 * S
    world.report(20.0, 150)
    world.tick()
    assert len(world.slots) == told


@pytest.mark.parametrize("seconds", [0, -60, math.nan, math.inf])
def test_history_of_no_time_is_not_taken(new_world, seconds):
    world = new_world()
    world.feed(
        events.SlotRecalled,
        start_us=world.now_us - 60 * S,
        seconds=seconds,
        requests=600,
        prompt_tokens=1,
        prompt_tokens_squared=1,
        cached_tokens=0,
        finished=0,
        output_tokens=0,
        output_tokens_squared=0,
    )
    assert world.state.mix.requests == 0
    assert world.state.forecast.experts.slot < 0


def test_history_of_the_future_is_not_taken(new_world):
    world = new_world()
    world.feed(
        events.SlotRecalled,
        start_us=world.now_us + 10**15,
        seconds=60,
        requests=600,
        prompt_tokens=1,
        prompt_tokens_squared=1,
        cached_tokens=0,
        finished=0,
        output_tokens=0,
        output_tokens_squared=0,
    )
    assert world.state.forecast.experts.slot < 0


def test_history_may_be_told_again_and_out_of_order(new_world):
    world = new_world()
    for minutes in (30, 29, 28, 30, 10, 20):
        at_us = world.now_us - minutes * 60 * S
        world.feed(
            events.SlotRecalled,
            start_us=at_us,
            seconds=60,
            requests=600,
            prompt_tokens=6e5,
            prompt_tokens_squared=6e8,
            cached_tokens=0,
            finished=0,
            output_tokens=0,
            output_tokens_squared=0,
        )
    assert world.state.forecast.experts.slot == (world.now_us - 600 * S) // (60 * S)


numbers = st.one_of(st.floats(0, 1e30), st.sampled_from([0.0, 1.0, 1e15]))


@settings(max_examples=examples(80))
@given(st.lists(st.tuples(*[numbers] * 6), max_size=12), st.integers(1, 10**10))
def test_whatever_is_counted_lengths_stay_such_as_requests_can_have(reports, stride_us):
    state, sums, now_us = AutoscalerState(), [0.0] * 4, 10**15
    for queued, waiting, *more in reports:
        now_us += stride_us
        sums = [a + b for a, b in zip(sums, more, strict=True)]
        measure.traffic_seen(
            state, in_order(events.TrafficSeen, now_us, "r", "1", queued, waiting, *sums)
        )
        measure.close_slots(state, now_us)
    found = expected(state, now_us).mix
    assert 0 <= found.prompt_tokens <= 1.1 * measure.TOKENS_MAX
    assert 0 <= found.prompt_std <= 100 * measure.TOKENS_MAX
    assert 0 <= found.hit_share <= 1
