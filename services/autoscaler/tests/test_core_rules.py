"""What the autoscaler keeps to: bounds, dwell, plans, budget, people; and what blocks nothing."""

import pytest

from argosy.autoscaler.core import effects, events
from argosy.domain.plan_window import PlanWindow

S = 1_000_000


def fleet(new_world, at_work=2, asleep=4, **scaling):
    world = new_world()
    world.scale(
        **{"bounds": events.PoolBounds(6, 1, 6), "budget": 12, "dwell_us": 60 * S, **scaling}
    )
    world.crew(at_work, asleep)
    return world


def window(world, kind, seconds=3600, **named):
    found = PlanWindow("plan", world.now_us, world.now_us + seconds * S, kind, **named)
    world.feed(events.PlansChanged, windows=[*world.state.windows, found])


def test_more_traffic_wakes_at_once(new_world):
    world = fleet(new_world)
    world.run(2.0, 120)
    before = world.awake("prefill")
    world.run(300.0, 30)
    assert world.awake("prefill") >= before + 2


def test_nothing_is_put_to_sleep_for_the_dwell_after_an_addition(new_world):
    world = fleet(new_world, dwell_us=600 * S)
    world.run(2.0, 120)
    world.run(100.0, 30)
    raised_us = {p.role: world.now_us for d in world.decisions for p in d.pools if p.wake}
    assert raised_us
    told = len(world.sleep_decisions)
    world.run(0.5, 540)
    asleep = [
        decision.instance
        for decision in world.sleep_decisions[told:]
        if isinstance(decision, effects.DecideSleep)
    ]
    assert [name for name in asleep if name.split("-")[0] in raised_us] == []
    world.run(0.5, 3600)
    assert world.awake("prefill") == 1


@pytest.mark.parametrize("role", ["", "prefill"])
def test_nothing_is_put_to_sleep_while_a_plan_forbids_it(new_world, role):
    world = fleet(new_world, at_work=5, asleep=1)
    world.report(1)
    window(world, "hold", role=role)
    world.run(0.5, 3590)
    assert world.awake("prefill") == 5
    assert (world.awake("decode") == 5) == (not role)
    world.run(0.5, 900)
    assert world.awake("prefill") < 5


@pytest.mark.parametrize(("role", "least"), [("decode", [1, 4]), ("", None)])
def test_at_least_so_many_are_awake_while_a_plan_says_so(new_world, role, least):
    world = fleet(new_world, at_work=1, asleep=5)
    world.run(0.5, 60)
    window(world, "at_least", role=role, count=4)
    world.run(0.5, 600)
    found = [world.awake(role) for role in events.ROLES]
    assert found == least if least else sum(found) == 4


@pytest.mark.parametrize(("role", "count"), [("decode", 2), ("", 3)])
def test_at_most_so_many_are_awake_while_a_plan_says_so(new_world, role, count):
    world = fleet(new_world)
    world.run(2.0, 60)
    window(world, "at_most", role=role, count=count)
    world.run(500.0, 300)
    awake = {role: world.awake(role) for role in events.ROLES}
    assert (awake[role] if role else sum(awake.values())) == count
    assert min(awake.values()) >= 1


def test_what_a_rack_holds_is_replaced_and_then_put_to_sleep(new_world):
    world = new_world()
    world.scale(bounds=events.PoolBounds(4, 1, 6), budget=12, dwell_us=0)
    world.crew(2, 0, rack="a")
    world.crew(0, 2, rack="b")
    window(world, "at_least", role="prefill", count=2)
    window(world, "at_least", role="decode", count=2)
    world.run(20.0, 120)
    window(world, "drain", rack="a")
    counts = []
    for _ in range(60):
        world.run(20.0, 5)
        counts += [world.awake(role) for role in events.ROLES]
    assert min(counts) >= 2
    for role in events.ROLES:
        states = {n: m.state for n, m in world.of(role).items()}
        assert {n for n, state in states.items() if state == "active"} == {
            f"{role}-b0",
            f"{role}-b1",
        }
    told = len(world.sleep_decisions)
    world.run(500.0, 300)
    woken = [r.instance for r in world.sleep_decisions[told:] if isinstance(r, effects.DecideWake)]
    assert [name for name in woken if "-a" in name] == []


def test_where_nobody_can_take_over_one_stays_in_a_rack_that_is_drained(new_world):
    world = new_world()
    world.scale(bounds=events.PoolBounds(2, 1, 2), dwell_us=0)
    world.crew(2, 0, rack="a")
    world.run(20.0, 60)
    window(world, "drain", rack="a")
    world.run(20.0, 600)
    assert [world.awake(role) for role in events.ROLES] == [1, 1]


@pytest.mark.parametrize("stuck", ["pending", "loading"])
def test_a_pending_instance_blocks_nothing(new_world, stuck):
    world = fleet(new_world, at_work=4, asleep=0)
    world.obeys = True
    for role in events.ROLES:
        world.join(role, f"{role}-stuck", "pending")
        if stuck == "loading":
            world.feed(
                events.MemberChanged,
                instance=f"{role}-stuck",
                epoch="new",
                change=0,
                state="loading",
            )
    world.run(500.0, 60)
    world.run(0.0, 5400, every=15)
    ready = {role: world.awake(role) for role in events.ROLES}
    assert ready == {"prefill": 1, "decode": 1}


def test_who_was_put_to_sleep_by_hand_sleeps_for_a_while_and_not_longer(new_world):
    world = fleet(new_world, at_work=3, asleep=0)
    world.run(2.0, 60)
    world.feed(
        events.SleepDecisionRecalled,
        instance="prefill-0",
        decision_sequence=world.now_us,
        wake=False,
        decided_by="manual",
    )
    world.becomes("prefill-0", "draining")
    world.becomes("prefill-0", "silent")
    world.run(200.0, 590)
    assert "prefill-0" not in [decision.instance for decision in world.sleep_decisions]
    world.run(200.0, 60)
    assert [type(r) for r in world.sleep_decisions if r.instance == "prefill-0"] == [
        effects.DecideWake
    ]


def test_who_was_woken_by_hand_is_awake_for_a_while_and_not_longer(new_world):
    world = fleet(new_world, at_work=1, asleep=1)
    world.run(0.0, 300)
    world.feed(
        events.SleepDecisionRecalled,
        instance="prefill-1",
        decision_sequence=world.now_us,
        wake=True,
        decided_by="manual",
    )
    world.becomes("prefill-1", "waking")
    world.becomes("prefill-1", "active")
    told = len(world.sleep_decisions)
    world.run(0.0, 590)
    assert "prefill-1" not in [decision.instance for decision in world.sleep_decisions[told:]]
    assert world.of("prefill")["prefill-1"].state == "active"
    world.run(0.0, 900)
    assert world.awake("prefill") == 1


def test_what_a_hand_did_by_a_clock_of_the_future_is_not_respected_for_ever(new_world):
    world = fleet(new_world, at_work=2, asleep=0)
    world.feed(
        events.SleepDecisionRecalled,
        instance="prefill-0",
        decision_sequence=world.now_us + 10**15,
        wake=True,
        decided_by="manual",
    )
    assert world.of("prefill")["prefill-0"].manual_until_us == world.now_us + 600 * S


def test_who_does_not_wake_is_not_waited_for(new_world):
    world = fleet(new_world, at_work=1, asleep=2)
    world.run(2.0, 120)
    world.obeys = False
    window(world, "at_least", role="decode", count=2)
    world.run(2.0, 5)
    (first,) = [r.instance for r in world.sleep_decisions if r.instance.startswith("decode")]
    world.run(2.0, 50)
    assert [r.instance for r in world.sleep_decisions if r.instance.startswith("decode")] == [first]
    world.run(2.0, 60)
    others = {r.instance for r in world.sleep_decisions if r.instance.startswith("decode")} - {
        first
    }
    assert len(others) == 1


def test_the_budget_holds_though_others_wait_and_drain(new_world):
    world = fleet(new_world, at_work=2, asleep=4, budget=6)
    world.obeys = False
    world.join("decode", "decode-stuck", "pending")
    world.becomes("prefill-1", "draining")
    world.run(2000.0, 600)
    woken = {r.instance for r in world.sleep_decisions if isinstance(r, effects.DecideWake)}
    # Two at work of decode, one of prefill, one pending, one draining that can turn round.
    assert len(woken - {"prefill-1"}) == 1


def test_wakes_come_before_starts_and_sleep_before_stops(new_world):
    world = fleet(new_world, at_work=1, asleep=2, bounds=events.PoolBounds(3, 1, 6))
    world.run(2.0, 120)
    world.run(30.0, 60)
    pools = [pool for d in world.decisions for pool in d.pools]
    assert any(pool.wake for pool in pools)
    assert all(pool.exist == 3 for pool in pools)
    told = len(world.decisions)
    world.run(0.0, 1800)
    pools = [pool for d in world.decisions[told:] for pool in d.pools]
    assert any(pool.sleep for pool in pools)
    assert not any(pool.stop for pool in pools)


def test_who_has_slept_for_long_is_stopped_but_never_below_the_file(new_world):
    world = fleet(new_world, at_work=1, asleep=5, bounds=events.PoolBounds(3, 1, 6))
    world.run(0.5, 5400, every=15)
    assert [len(world.of(role)) for role in events.ROLES] == [3, 3]
    world.run(0.0, 3600, every=15)
    assert [len(world.of(role)) for role in events.ROLES] == [3, 3]


def test_fewer_than_there_are_in_a_new_file_ends_those_beyond(new_world):
    world = fleet(new_world, at_work=5, asleep=1)
    world.run(2.0, 120)
    world.scale(bounds=events.PoolBounds(2, 1, 3), budget=12)
    world.run(2.0, 60)
    assert [len(world.of(role)) for role in events.ROLES] == [3, 3]
    assert min(world.awake(role) for role in events.ROLES) >= 1


def test_a_start_that_was_heard_of_all_at_once_teaches_nothing(new_world):
    world = fleet(new_world, at_work=6, asleep=0)
    assert all(base.start_us == 120 * S for base in world.state.baselines.values())


@pytest.mark.parametrize("took_us", [-(10**18), 10**18])
def test_one_wake_that_took_what_cannot_be_changes_little(new_world, took_us):
    world = fleet(new_world)
    world.becomes("decode-0", "active", took_us)
    assert 0 < world.state.baselines["decode"].wake_us <= 4 * 5 * S
