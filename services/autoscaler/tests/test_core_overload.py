"""Where no fleet there may be is enough, the largest is still the best; and reports that lie."""

import pytest

from argosy.autoscaler.core import effects, events
from argosy.autoscaler.core.planning.costs import CostContext, RoleCosts
from argosy.autoscaler.core.state import ScalerLimits
from argosy.domain.demand import Demand, Machine, Slo
from argosy.domain.timing import Timing

S = 1_000_000
HIGH = 6


@pytest.mark.parametrize("role", events.ROLES)
@pytest.mark.parametrize("rate", [200.0, 500.0, 2000.0])
def test_every_instance_is_worth_having_while_all_is_late(role, rate):
    mix = Demand(0, prompt_tokens=2000, output_tokens=500)
    context = CostContext(role, mix, Timing(), Machine(max_running=64), Slo(), ScalerLimits(), HIGH)
    (costs,) = RoleCosts(context).of_slots([rate], [0.0])
    assert costs == sorted(costs, reverse=True)


def test_a_fleet_that_is_overrun_grows_as_far_as_it_may_and_stays(new_world):
    world = new_world()
    world.scale(bounds=events.PoolBounds(4, 1, 4), budget=8, dwell_us=0)
    world.crew(1, 3)
    world.run(400.0, 180)
    assert world.awake("prefill") == 4
    told = len(world.sleep_decisions)
    world.run(400.0, 300)
    asleep = [
        r.instance for r in world.sleep_decisions[told:] if isinstance(r, effects.DecideSleep)
    ]
    assert [name for name in asleep if name.startswith("prefill")] == []


def most_awake(new_world, rate, prompt=1000, queued=0):
    """Of both roles, after one report of a second that says so."""
    world = new_world(tick_us=1 * S)
    world.scale(bounds=events.PoolBounds(12, 1, 12), budget=24)
    world.crew(1, 11)
    world.run(10.0, 240)
    world.now_us += S
    world.report(rate, 1, prompt=prompt, queued=queued)
    world.tick()
    world.run(10.0, 60)
    return sum(world.awake(role) for role in events.ROLES)


@pytest.mark.parametrize(
    "spike", [{"rate": 10_000.0}, {"rate": 10.0, "prompt": 10**6}, {"rate": 10.0, "queued": 10**7}]
)
def test_one_sample_a_thousand_times_as_large_moves_no_more_than_one_ten_times(new_world, spike):
    real = most_awake(new_world, 100.0, prompt=10_000, queued=100)
    assert most_awake(new_world, **spike) <= real


@pytest.mark.parametrize("buckets", [[], [1], [5] * 500, [-1, 3], [2**70] * 3])
def test_counts_of_lateness_of_any_length_are_taken_or_left(new_world, buckets):
    world = new_world()
    world.scale()
    world.crew(2, 0)
    world.run(5.0, 60)
    for told in ([1, 2, 3], buckets, [4, 5, 6], buckets):
        world.now_us += S
        world.feed(
            events.TrafficSeen,
            router="other",
            epoch="1",
            queued=0,
            queued_tokens=0,
            requests=0.0,
            prompt_tokens=0.0,
            prompt_tokens_squared=0.0,
            cached_tokens=0.0,
            ttft_buckets=told,
        )
        world.feed(
            events.LoadSeen,
            instance="decode-0",
            epoch="e-decode-0",
            running=0,
            waiting=0,
            queued_tokens=0,
            kv_share=0.0,
            ttft_buckets=told,
            tpot_buckets=told,
        )
    world.run(5.0, 180)
