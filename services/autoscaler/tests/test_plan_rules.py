"""What a plan keeps to, and what of it is to be done now."""

import pytest

from argosy.autoscaler.core import events
from argosy.autoscaler.core.planning import bounds as within
from argosy.autoscaler.core.planning.dp import PlanPath, PlanProblem, RoleProblem, solve
from argosy.autoscaler.core.planning.targets import targets

S = 1_000_000
SLOTS, MOST = 12, 8


def role(need, now=1, **named):
    """One that misses 100 with each instance too few."""
    costs = [[n + 100.0 * max(0, n_needed - n) for n in range(MOST + 1)] for n_needed in need]
    fields = {
        "low": [0] * SLOTS,
        "high": [MOST] * SLOTS,
        "reach": [MOST] * SLOTS,
        "up": [5.0] * (MOST + 1),
        "down": 5.0,
        "step_down": 1,
        "keep": [False] * SLOTS,
        **named,
    }
    return RoleProblem(now, costs, **fields)


def planned(prefill, decode, high=2 * MOST, low=0, ratio=(0, 0)):
    return solve(PlanProblem(prefill, decode, [low] * SLOTS, [high] * SLOTS, *ratio))


def test_it_goes_up_at_once_and_down_step_by_step():
    found = planned(role([8] + [1] * (SLOTS - 1)), role([1] * SLOTS))
    assert found.prefill == [8, 7, 6, 5, 4, 3, 2, 1, 1, 1, 1, 1]


def test_what_is_needed_later_is_not_there_before():
    found = planned(role([1] * 6 + [5] * 6), role([1] * SLOTS))
    assert found.prefill == [1] * 6 + [5] * 6


def test_a_cap_that_begins_later_takes_nobody_away_now():
    high = [MOST] * 6 + [2] * 6
    found = planned(role([8] * SLOTS, now=8, high=high), role([1] * SLOTS))
    assert found.prefill[0] == 8
    assert found.prefill[6:] == [2] * 6


def test_where_none_may_be_taken_away_a_cap_of_later_waits():
    high, keep = [MOST] * 6 + [2] * 6, [True] * 5 + [False] * 7
    found = planned(role([1] * SLOTS, now=8, high=high, keep=keep), role([1] * SLOTS))
    assert found.prefill[:5] == [8] * 5
    assert max(found.prefill[6:]) <= 2


def test_the_most_there_may_be_comes_before_the_least():
    found = planned(role([5] * SLOTS, low=[4] * SLOTS, high=[2] * SLOTS), role([1] * SLOTS))
    assert found.prefill == [2] * SLOTS


def test_the_budget_is_kept_and_goes_where_it_saves_most():
    found = planned(role([4] * SLOTS), role([6] * SLOTS), high=7)
    assert all(p + d == 7 for p, d in zip(found.prefill, found.decode, strict=True))


def test_the_ratio_is_kept_where_that_is_possible():
    found = planned(role([1] * SLOTS), role([4] * SLOTS), ratio=(1.0, 0))
    assert found.prefill == found.decode == [4] * SLOTS
    stuck = role([1] * SLOTS, high=[1] * SLOTS, low=[1] * SLOTS)
    found = planned(stuck, role([4] * SLOTS, low=[4] * SLOTS), ratio=(1.0, 0))
    assert found.prefill == [1] * SLOTS
    assert found.decode == [4] * SLOTS


def test_a_floor_of_both_together_is_met_by_whoever_is_cheaper():
    found = planned(role([1] * SLOTS), role([1] * SLOTS, up=[50.0] * (MOST + 1)), low=5)
    assert all(p + d == 5 for p, d in zip(found.prefill, found.decode, strict=True))
    assert found.decode == [1] * SLOTS


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_a_rise_is_begun_by_as_much_earlier_as_a_start_takes(new_world, lag):
    world = new_world()
    world.scale(bounds=events.PoolBounds(1, 1, 4))
    world.crew(1, 0)
    world.report(1)
    for base in world.state.baselines.values():
        base.start_us = lag * 60 * S
    kept = within.fleet_bounds(world.state, world.now_us)
    for rise in range(6):
        counts = [1] * rise + [3] * (20 - rise)
        path = PlanPath(counts, [1] * 20, 0.0)
        found = targets(world.state, path, kept, world.now_us)
        assert found["prefill"].exist == (3 if rise <= lag else 1)
        assert found["decode"].exist == 1


def test_a_rise_that_needs_a_wake_waits_for_its_time_and_nobody_starts(new_world):
    world = new_world()
    world.scale(bounds=events.PoolBounds(3, 1, 4))
    world.crew(1, 2)
    world.report(1)
    kept = within.fleet_bounds(world.state, world.now_us)
    path = PlanPath([1, 1, 3] + [3] * 17, [1] * 20, 0.0)
    assert targets(world.state, path, kept, world.now_us)["prefill"].awake == 1
    path = PlanPath([3] * 20, [1] * 20, 0.0)
    found = targets(world.state, path, kept, world.now_us)["prefill"]
    assert (found.awake, found.exist) == (3, 3)


def test_an_instance_counts_when_it_has_warmed_up_and_not_before(new_world):
    world = new_world()
    world.scale(bounds=events.PoolBounds(1, 1, 4))
    world.crew(1, 1)
    for base in world.state.baselines.values():
        base.start_us, base.wake_us = 180 * S, 60 * S
    world.join("decode", "decode-9", "pending")
    world.feed(events.MemberChanged, instance="decode-9", epoch="new", change=0, state="loading")
    reach = within.fleet_bounds(world.state, world.now_us).roles["decode"].reach
    # Ready now; the sleeper after a wake; the one that loads and one more after a start.
    assert reach[:5] == [1, 2, 2, 4, 4]
