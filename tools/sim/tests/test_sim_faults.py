"""Whatever dies, and whatever news is lost: requests live on, each token comes once, the books
balance. In virtual time."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.domain.core import Event
from argosy.router.core import events
from argosy.sim.fleet.router import SimRouter
from argosy.sim.fleet.simulation import Simulation
from argosy.sim.fleet.spec import InstanceFault, SimFleet

MS, S = 1_000, 1_000_000
SETTLE_US = 40 * S
"""Longer than the router believes in a dispatch it hears nothing of."""

fleets = st.sampled_from(
    [
        SimFleet(aggregated=3),
        SimFleet(aggregated=2, dp_ranks=2),
        SimFleet(prefill=2, decode=2),
        SimFleet(prefill=1, decode=2, dp_ranks=2),
        SimFleet(flexible=3),
        SimFleet(aggregated=3, routers=2),
        SimFleet(prefill=2, decode=2, routers=2),
        SimFleet(flexible=3, routers=2, kv_tokens=16_384),
    ]
)
Deaths = list[tuple[int, int, int]]
deaths = st.lists(
    st.tuples(st.integers(0, 6 * S), st.integers(0, 10), st.integers(100 * MS, 3 * S)), max_size=8
)


def held(router: SimRouter, holder: str) -> Counter[int]:
    """What a router believes a rank caches."""
    return Counter(router.core.state.index.blocks_of(holder))


def assert_index_is_right(simulation: Simulation) -> None:
    for router in simulation.routers:
        for name, instance in simulation.instances.items():
            for number, rank in enumerate(instance.scheduler.ranks):
                assert held(router, f"{name}/{number}") == Counter(rank.pool.known_blocks())


def assert_nothing_is_left(simulation: Simulation) -> None:
    for instance in simulation.instances.values():
        for rank in instance.scheduler.ranks:
            rank.pool.check()
            assert rank.pool.used == 0
            assert not [*rank.waiting, *rank.running, *rank.pulling, *rank.held]
    for router in simulation.routers:
        state = router.core.state
        assert not state.requests
        assert state.queued_requests == 0
        for instance in state.instances.values():
            for rank in instance.ranks:
                assert (rank.requests, rank.kv_blocks) == (0, 0)


@settings(max_examples=examples(60))
@given(fleet=fleets, deaths=deaths, seed=st.integers(0, 99))
def test_killing_any_instance_at_any_time_loses_no_request_and_repeats_no_token(
    traffic: Any, play: Any, settle: Any, fleet: SimFleet, deaths: Deaths, seed: int
) -> None:
    trace = traffic(seed).chats(10, 4, turns=2)
    names = [name for name, _ in fleet.instances()]
    faults = [
        InstanceFault(at_us, names[n % len(names)], after_us) for at_us, n, after_us in deaths
    ]
    simulation = play(trace, fleet, faults)
    assert [p.outcome.output_tokens for p in simulation.requests] == [
        r.output_tokens for r in trace
    ]
    assert not any(p.outcome.rejected for p in simulation.requests)
    settle(simulation, SETTLE_US)
    assert_nothing_is_left(simulation)
    assert_index_is_right(simulation)


def test_an_instance_that_died_leaves_no_phantom_blocks(traffic: Any, play: Any) -> None:
    at_us, counts = 10 * S, []

    def prepare(simulation: Simulation) -> None:
        def count() -> None:
            counts.append(
                [router.core.state.index.held_by("decode-001/0") for router in simulation.routers]
            )

        simulation.queue.at(at_us - 1, count)
        # What it said last has arrived; it starts again later.
        simulation.queue.at(at_us + 1 * MS, count)

    trace = traffic(seed=1).chats(5, 15, turns=3)
    play(
        trace,
        SimFleet(aggregated=3, routers=2),
        [InstanceFault(at_us, "decode-001", 1 * S)],
        prepare,
    )
    before, after = counts
    assert min(before) > 0
    assert after == [0, 0]


def test_the_index_is_right_in_the_end_though_news_of_blocks_was_lost(
    traffic: Any, play: Any, settle: Any
) -> None:
    many, lost = traffic(seed=2), Counter[str]()

    def loses(event: Event) -> bool:
        if not isinstance(event, events.KvChanged) or event.now_us > 15 * S:
            return False
        lost["asked"] += 1
        lost["lost"] += lost["asked"] % 7 == 0
        return lost["asked"] % 7 == 0

    def prepare(simulation: Simulation) -> None:
        simulation.bus.drop_fact = loses

    fleet = SimFleet(prefill=2, decode=2, routers=2, kv_tokens=131_072)
    simulation = play(
        many.chats(6, 15, turns=4), fleet, [InstanceFault(7 * S, "decode-001", 1 * S)], prepare
    )
    settle(simulation)
    assert lost["lost"] > 20
    assert_index_is_right(simulation)


def test_without_news_of_load_no_instance_is_given_up_and_all_is_served_from_the_ledger(
    traffic: Any, play: Any
) -> None:
    trace = traffic(seed=3).stream(25, 40)
    gone: set[str] = set()

    def prepare(simulation: Simulation) -> None:
        def loses(event: Event) -> bool:
            instances = simulation.routers[0].core.state.instances.values()
            gone.update(instance.name for instance in instances if not instance.live)
            return (
                isinstance(event, events.LoadReported | events.IdlePredicted)
                and event.now_us > 5 * S
            )

        simulation.bus.drop_fact = loses

    told, untold = (
        play(trace, SimFleet(aggregated=4)),
        play(trace, SimFleet(aggregated=4), (), prepare),
    )
    assert not gone
    assert [p.outcome.output_tokens for p in untold.requests] == [r.output_tokens for r in trace]
    assert mean_ttft_us(untold) <= 2 * mean_ttft_us(told)


def mean_ttft_us(simulation: Simulation) -> float:
    outcomes = [p.outcome for p in simulation.requests]
    return sum((o.first_us or o.arrived_us) - o.arrived_us for o in outcomes) / len(outcomes)
