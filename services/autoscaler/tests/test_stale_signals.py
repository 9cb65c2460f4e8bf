"""Without news nothing is taken away at once, and nothing stays stuck; zero is news."""

from argosy.autoscaler.core import events
from argosy.autoscaler.core.observe import observation
from argosy.domain.plan_window import PlanWindow

S = 1_000_000


def fleet(new_world, at_work=5, asleep=0, **scaling):
    world = new_world()
    world.scale(
        **{"bounds": events.PoolBounds(2, 1, 8), "budget": 16, "dwell_us": 60 * S, **scaling}
    )
    world.crew(at_work, asleep)
    return world


def test_silent_routers_change_nothing_for_a_while(new_world):
    world = fleet(new_world)
    world.run(500.0, 60)
    before = len(world.decisions), world.awake("prefill"), world.awake("decode")
    world.run(None, 590)
    assert observation.signals(world.state, world.now_us) == observation.HELD
    assert (len(world.decisions), world.awake("prefill"), world.awake("decode")) == before


def test_routers_silent_for_long_let_the_fleet_go_to_its_file_step_by_step(new_world):
    world = fleet(new_world)
    world.run(500.0, 60)
    started = {role: world.awake(role) for role in events.ROLES}
    assert max(started.values()) > 3
    world.run(None, 600)
    seen = []
    while world.awake("prefill") > 2 or world.awake("decode") > 2:
        before = {role: world.awake(role) for role in events.ROLES}
        world.run(None, 60)
        seen.append({role: before[role] - world.awake(role) for role in events.ROLES})
        assert len(seen) < 20
    assert all(fell <= 1 for step in seen for fell in step.values())
    world.run(None, 1200)
    assert [world.awake(role) for role in events.ROLES] == [2, 2]


def test_routers_silent_for_long_let_a_small_fleet_grow_to_its_file(new_world):
    world = fleet(new_world, at_work=1, asleep=3, bounds=events.PoolBounds(3, 1, 8))
    world.run(0.1, 60)
    world.run(None, 700)
    assert [world.awake(role) for role in events.ROLES] == [3, 3]


def test_routers_silent_for_long_leave_one_awake_where_the_file_asks_for_none(new_world):
    world = fleet(new_world, bounds=events.PoolBounds(0, 0, 8), at_work=3)
    world.run(500.0, 60)
    world.run(None, 2400)
    assert [world.awake(role) for role in events.ROLES] == [1, 1]


def test_without_any_news_since_the_start_nothing_changes(new_world):
    world = fleet(new_world)
    world.run(None, 3600)
    assert world.decisions == []


def test_without_news_nothing_is_taken_away_while_a_plan_holds(new_world):
    world = fleet(new_world)
    world.run(500.0, 60)
    hold = PlanWindow("hold", world.now_us, world.now_us + 3600 * S, "hold")
    world.feed(events.PlansChanged, windows=[hold])
    before = [world.awake(role) for role in events.ROLES]
    world.run(None, 1800)
    assert [world.awake(role) for role in events.ROLES] == before


def test_without_news_plans_still_hold(new_world):
    world = fleet(new_world)
    world.run(500.0, 60)
    ends_us = world.now_us + 36_000 * S
    least = PlanWindow("least", world.now_us, ends_us, "at_least", "decode", 4)
    most = PlanWindow("most", world.now_us, ends_us, "at_most", "prefill", 1)
    world.feed(events.PlansChanged, windows=[least, most])
    world.run(None, 2400)
    assert [world.awake(role) for role in events.ROLES] == [1, 4]


def test_zero_traffic_scales_down_to_one_step_by_step(new_world):
    world = fleet(new_world)
    world.run(200.0, 180)
    before = [world.awake(role) for role in events.ROLES]
    assert max(before) > 2
    for _ in range(20):
        counts = [world.awake(role) for role in events.ROLES]
        world.run(0.0, 60)
        now = [world.awake(role) for role in events.ROLES]
        assert all(old - new <= 1 for old, new in zip(counts, now, strict=True))
    assert [world.awake(role) for role in events.ROLES] == [1, 1]


def test_all_sleep_only_after_nothing_was_asked_for_as_long_as_the_file_says(new_world):
    world = fleet(new_world, bounds=events.PoolBounds(1, 0, 4), at_work=1, idle_sleep_us=900 * S)
    world.run(1.0, 60)
    world.run(0.0, 850)
    assert [world.awake(role) for role in events.ROLES] == [1, 1]
    world.run(0.0, 900)
    assert [world.awake(role) for role in events.ROLES] == [0, 0]
    world.run(1.0, 30)
    assert [world.awake(role) for role in events.ROLES] == [1, 1]


def test_where_the_file_does_not_say_so_nobody_is_ever_idle(new_world):
    world = fleet(new_world, bounds=events.PoolBounds(1, 0, 4), at_work=1)
    world.run(1.0, 60)
    world.run(0.0, 3600, every=15)
    assert [world.awake(role) for role in events.ROLES] == [1, 1]


def test_a_clock_that_jumps_hours_ahead_takes_away_one_step_at_most(new_world):
    world = fleet(new_world)
    world.run(200.0, 180)
    before = [world.awake(role) for role in events.ROLES]
    world.now_us += 5 * 3600 * S
    world.tick()
    world.run(500.0, 120)
    now = [world.awake(role) for role in events.ROLES]
    assert all(old - new <= 1 for old, new in zip(before, now, strict=True))
