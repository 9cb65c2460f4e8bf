"""What is published, how often, and by whom after a restart; and the same again in a replay."""

from itertools import pairwise

import msgspec
import pytest

from argosy.autoscaler.core import effects, events
from argosy.autoscaler.core.autoscaler import SPEC, TICK
from argosy.autoscaler.core.state import AutoscalerState
from argosy.domain.core import SetTimer, TimerFired
from argosy.domain.demand import Machine
from argosy.domain.plan_window import PlanWindow
from argosy.domain.timing import Timing

S = 1_000_000
BEGAN_US = 1_767_571_200 * S


def slow(new_world, mode="act", at_work=1, asleep=0, **named):
    """A fleet that does nothing of what is decided."""
    world = new_world()
    world.obeys = False
    bounds = named.pop("bounds", events.PoolBounds(1, 1, 6))
    world.scale(mode, **{"bounds": bounds, "dwell_us": 60 * S, **named})
    world.crew(at_work, asleep)
    return world


def test_a_start_that_nobody_has_heard_of_yet_is_decided_once_a_slot(new_world):
    world = slow(new_world)
    world.run(2.0, 120)
    window = PlanWindow("plan", world.now_us, world.now_us + 3600 * S, "at_least", "decode", 3)
    world.feed(events.PlansChanged, windows=[window])
    world.run(2.0, 300)
    exist = [{p.role: p.exist for p in d.pools}["decode"] for d in world.decisions]
    assert set(exist) == {3}
    assert 2 <= len(exist) <= 6


def test_a_wake_that_nobody_has_heard_of_yet_is_decided_once_a_slot(new_world):
    world = slow(new_world, asleep=2)
    world.run(2.0, 120)
    window = PlanWindow("plan", world.now_us, world.now_us + 3600 * S, "at_least", "decode", 3)
    world.feed(events.PlansChanged, windows=[window])
    world.run(2.0, 300)
    times = {}
    for decision in world.sleep_decisions:
        assert isinstance(decision, effects.DecideWake)
        times.setdefault(decision.instance, []).append(decision.decision_sequence)
    assert len(times) == 2
    for sequences in times.values():
        assert all(b - a >= 60 * S for a, b in pairwise(sequences))


def test_a_sleep_that_nobody_has_heard_of_yet_is_decided_once(new_world):
    world = slow(new_world, at_work=3)
    world.run(0.1, 900)
    named = [decision.instance for decision in world.sleep_decisions]
    assert len(named) == len(set(named)) == 4


def test_a_decision_that_is_needed_otherwise_does_not_wait_for_the_slot(new_world):
    world = slow(new_world)
    world.run(2.0, 120)
    for count in (2, 3):
        window = PlanWindow("plan", 0, world.now_us + 3600 * S, "at_least", "decode", count)
        world.feed(events.PlansChanged, windows=[window])
        world.run(2.0, 5)
        assert {p.role: p.exist for p in world.decisions[-1].pools}["decode"] == count


def test_a_start_that_is_needed_no_more_is_taken_back(new_world):
    world = slow(new_world)
    world.run(2.0, 120)
    window = PlanWindow("plan", 0, world.now_us + 300 * S, "at_least", "decode", 3)
    world.feed(events.PlansChanged, windows=[window])
    world.run(2.0, 900)
    assert any(pool.exist == 3 for d in world.decisions for pool in d.pools)
    assert {p.role: p.exist for p in world.decisions[-1].pools}["decode"] == 1


def test_what_was_promised_counts_against_the_budget(new_world):
    world = slow(new_world, budget=4)
    world.run(2.0, 120)
    windows = [
        PlanWindow("plan", world.now_us + wait * S, world.now_us + 3600 * S, "at_least", role, 3)
        for role, wait in (("decode", 0), ("prefill", 30))
    ]
    for count in (1, 2):
        world.feed(events.PlansChanged, windows=windows[:count])
        world.run(2.0, 60)
    for decision in world.decisions:
        assert sum(pool.exist for pool in decision.pools) <= 4


def test_advice_moves_nobody_and_is_given_once(new_world):
    world = slow(new_world, mode="advise", asleep=4)
    world.run(2.0, 120)
    world.run(60.0, 300)
    world.run(1.0, 600)
    assert world.decisions
    assert all(decision.advisory for decision in world.decisions)
    assert world.sleep_decisions == []
    says = [[(p.role, p.awake, p.exist) for p in d.pools] for d in world.decisions]
    assert all(a != b for a, b in pairwise(says))
    assert all(member.wanted for member in world.state.members.values())


def test_where_the_file_says_nothing_of_scaling_nothing_is_decided(new_world):
    world = slow(new_world, mode="", asleep=4)
    world.run(500.0, 300)
    assert world.decisions == []


def test_generations_and_decision_sequences_only_grow(new_world):
    world = slow(new_world, asleep=3)
    world.obeys = True
    for rate in (1.0, 60.0, 0.5, 60.0):
        world.run(rate, 240)
    generations = [decision.generation for decision in world.decisions]
    assert generations == sorted(set(generations))
    sequences = {}
    for decision in world.sleep_decisions:
        assert decision.decision_sequence > sequences.get(decision.instance, 0)
        sequences[decision.instance] = decision.decision_sequence


LOG = ("sleep decision", "changed", "started")


def successor(new_world, world, order):
    """Another autoscaler, which hears the log: of each kind the last fact, kind after kind."""
    new = new_world()
    new.obeys = False
    new.now_us, new.traffic = world.now_us + 2 * S, list(world.traffic)
    for name, member in world.state.members.items():
        new.feed(events.MemberDecided, instance=name, role=member.role, node=member.node, run=True)
    for name, member in world.state.members.items():
        new.feed(
            events.MemberJoined,
            instance=name,
            epoch=f"e-{name}",
            role=member.role,
            node=member.node,
            rack="",
            change=1,
            timing=Timing(),
            machine=Machine(),
            at_us=BEGAN_US,
        )
    for kind in order:
        new.now_us += 1000
        for name, member in world.state.members.items():
            if kind == "sleep decision" and member.decision_sequence:
                new.feed(
                    events.SleepDecisionRecalled,
                    instance=name,
                    decision_sequence=member.decision_sequence,
                    wake=not member.told_to_sleep,
                    decided_by="plan",
                )
            if kind == "changed" and member.state != "active":
                new.feed(
                    events.MemberChanged,
                    instance=name,
                    epoch=f"e-{name}",
                    change=member.lifecycle.newest.change,
                    state=member.state,
                    at_us=member.since_us,
                )
            if kind == "started":
                new.feed(
                    events.MemberChanged,
                    instance=name,
                    epoch=f"e-{name}",
                    change=0,
                    state="loading",
                    at_us=BEGAN_US,
                )
    last = world.decisions[-1]
    new.feed(
        events.ScaleRecalled,
        generation=last.generation,
        awake={p.role: p.awake for p in last.pools},
        exist={p.role: p.exist for p in last.pools},
        at_us=world.state.decided.at_us,
    )
    scaling = msgspec.structs.replace(world.state.scaling, now_us=new.now_us)
    new.core.step(scaling)
    return new


@pytest.mark.parametrize("order", [LOG, LOG[::-1], ("changed", "sleep decision", "started")])
@pytest.mark.parametrize("up", [True, False])
def test_a_successor_decides_nothing_for_who_was_told_already(new_world, order, up):
    world = slow(new_world, at_work=1 if up else 4, asleep=3)
    if up:
        world.run(2.0, 120)
        window = PlanWindow("plan", 0, world.now_us + 3600 * S, "at_least", "decode", 3)
        world.feed(events.PlansChanged, windows=[window])
    while not world.sleep_decisions:
        world.run(2.0, 5)
    told = {decision.instance for decision in world.sleep_decisions}
    new = successor(new_world, world, order)
    new.feed(events.PlansChanged, windows=world.state.windows)
    states = {name: member.state for name, member in world.state.members.items()}
    assert {name: member.state for name, member in new.state.members.items()} == states
    new.run(2.0, 50)
    assert told & {decision.instance for decision in new.sleep_decisions} == set()
    assert all(d.generation > world.decisions[-1].generation for d in new.decisions)


def test_a_successor_of_one_that_was_killed_in_a_plan_ends_where_it_would_have(new_world):
    world = slow(new_world, at_work=1, asleep=3)
    world.run(2.0, 120)
    window = PlanWindow("plan", 0, world.now_us + 3600 * S, "at_least", "decode", 3)
    world.feed(events.PlansChanged, windows=[window])
    world.run(2.0, 5)
    told = [decision.instance for decision in world.sleep_decisions]
    assert len(told) == 2
    # One of them got there before the kill; what the other was told is only in the log.
    world.becomes(told[0], "waking")
    world.becomes(told[0], "active")
    new = successor(new_world, world, LOG)
    new.changes = dict(world.changes)
    new.feed(events.PlansChanged, windows=[window])
    new.run(2.0, 20)
    assert new.sleep_decisions == []
    new.becomes(told[1], "waking")
    new.becomes(told[1], "active")
    new.run(2.0, 120)
    assert new.awake("decode") == 3
    assert {decision.instance for decision in new.sleep_decisions} & set(told) == set()


def test_an_exit_of_an_older_process_changes_nothing(new_world):
    world = slow(new_world)
    world.feed(
        events.MemberChanged, instance="decode-0", epoch="older", change=0, state="failed", at_us=1
    )
    assert world.of("decode")["decode-0"].state == "active"
    world.feed(events.MemberChanged, instance="decode-0", epoch="newer", change=0, state="loading")
    world.feed(
        events.MemberChanged, instance="decode-0", epoch="e-decode-0", change=0, state="failed"
    )
    assert world.of("decode")["decode-0"].state == "loading"
    world.feed(
        events.MemberJoined,
        instance="decode-0",
        epoch="newer",
        role="decode",
        node="",
        rack="",
        change=1,
        timing=Timing(),
        machine=Machine(),
    )
    assert world.of("decode")["decode-0"].state == "active"


@pytest.mark.parametrize("state", ["draining", "silent", "waking"])
def test_a_change_that_overtakes_the_announcement_of_its_process_holds(new_world, state):
    world = slow(new_world)
    world.join("decode", "decode-9", "pending")
    world.feed(events.MemberChanged, instance="decode-9", epoch="e", change=3, state=state)
    world.feed(
        events.MemberJoined,
        instance="decode-9",
        epoch="e",
        role="decode",
        node="node",
        rack="rack",
        change=1,
        timing=Timing(),
        machine=Machine(),
    )
    member = world.of("decode")["decode-9"]
    assert (member.state, member.node, member.rack) == (state, "node", "rack")


def test_one_that_ends_before_it_ran_is_forgotten(new_world):
    world = slow(new_world)
    world.join("decode", "decode-9", "pending")
    world.feed(events.MemberDecided, instance="decode-9", role="decode", node="", run=False)
    assert "decode-9" not in world.state.members


def digest(core, happened):
    return [msgspec.json.encode(list(core.step(event))) for event in happened]


def test_the_same_events_have_the_same_effects_whatever_is_remembered(new_world):
    world = slow(new_world, asleep=3)
    world.obeys = True
    for rate in (1.0, 60.0, 3.0):
        world.run(rate, 150)
    assert world.decisions
    limits, happened = world.state.limits, world.log
    first = digest(SPEC.build(AutoscalerState(limits=limits)), happened)
    core, second = SPEC.build(AutoscalerState(limits=limits)), []
    for begin in range(0, len(happened), 97):
        image = msgspec.msgpack.encode(core.state)
        core = SPEC.build(msgspec.msgpack.decode(image, type=AutoscalerState))
        second += digest(core, happened[begin : begin + 97])
    assert first == second
    assert core.state == world.state


def test_a_tick_asks_for_the_next_one_and_a_file_for_one_now(new_world):
    world = slow(new_world)
    assert SetTimer(key=TICK, at_us=world.now_us + 5 * S) in world.feed(TimerFired, key=TICK)
    scaling = msgspec.structs.replace(world.state.scaling, generation=9)
    assert list(world.core.step(scaling)) == [SetTimer(key=TICK, at_us=scaling.now_us)]
    assert list(world.core.step(scaling)) == []
