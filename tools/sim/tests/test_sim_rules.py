"""What the router must never do with a fleet, whatever the load: in virtual time, small."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from argosy.router.policies import policy_names
from argosy.sim.fleet.instance import SimInstance
from argosy.sim.fleet.simulation import Simulation, simulate
from argosy.sim.fleet.spec import InstanceFault, SimFleet
from argosy.sim.reports.report import report_of, ttft_ms
from argosy.sim.traces.trace import TraceRequest

S = 1_000_000
LOOK_US = 500
TOLERATED_US = 10_000
"""An instance that only decodes is open: who is sent there waits for the step to end."""
FAIR = 1 / 5
"""Of five instances' work."""
FLEETS = {
    "aggregated": SimFleet(aggregated=4),
    "apart": SimFleet(prefill=2, decode=2),
    "flexible": SimFleet(flexible=4),
    "ranks": SimFleet(aggregated=2, dp_ranks=2),
    "ranks apart": SimFleet(prefill=1, decode=1, dp_ranks=2),
}


class IdleWatch:
    """Looks at a simulation often: how long did instances idle while requests waited?"""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.since_us: int | None = None
        self.worst_us = 0
        self.seen: Counter[str] = Counter()
        simulation.queue.at(0, self.look)

    def look(self) -> None:
        simulation, now_us = self.simulation, self.simulation.queue.now_us
        instances = list(simulation.instances.values())
        roles = {instance.role for instance in instances}
        able = [s for s in instances if s.role == "prefill" or "prefill" not in roles]
        idle = sum(map(is_idle, able))
        queued = any(router.core.state.queued_requests for router in simulation.routers)
        queued = queued or any(
            rank.waiting for instance in able for rank in instance.scheduler.ranks
        )
        self.seen["idle"] += idle >= 2
        self.seen["queued"] += queued
        if idle >= 2 and queued:
            self.since_us = now_us if self.since_us is None else self.since_us
            self.worst_us = max(self.worst_us, now_us - self.since_us)
        else:
            self.since_us = None
        simulation.queue.at(now_us + LOOK_US, self.look)


def is_idle(instance: SimInstance) -> bool:
    ranks = instance.scheduler.ranks
    return not any(rank.waiting or rank.running or rank.pulling for rank in ranks)


def shares(simulation: Simulation, picked: list[TraceRequest]) -> list[float]:
    """The share of these requests that each instance had, in order of the instances' names."""
    wanted = {id(request) for request in picked}
    had = Counter(p.outcome.instance for p in simulation.requests if id(p.request) in wanted)
    return [had[name] / had.total() for name in sorted(simulation.instances)]


@pytest.mark.parametrize("requests_per_s", [15, 30, 45])
@pytest.mark.parametrize("fleet", [SimFleet(aggregated=5), SimFleet(prefill=5, decode=2)])
def test_two_of_five_instances_never_idle_while_requests_queue(
    traffic: Any, play: Any, fleet: SimFleet, requests_per_s: float
) -> None:
    trace = traffic(seed=1).stream(requests_per_s, 10, output_tokens=(1, 8))
    watches: list[IdleWatch] = []
    play(trace, fleet, prepare=lambda simulation: watches.append(IdleWatch(simulation)))
    (watch,) = watches
    assert watch.seen["idle"]
    assert watch.seen["queued"]
    assert watch.worst_us <= TOLERATED_US


def test_a_cold_miss_does_not_flood_the_emptiest_cache(traffic: Any, play: Any) -> None:
    stream = traffic(seed=2).stream(25, 30)
    simulation = play(stream, SimFleet(aggregated=5), [InstanceFault(20 * S, "decode-003", 1 * S)])
    had = shares(simulation, [r for r in stream if 21 * S < r.arrived_us < 26 * S])
    assert min(had) > FAIR / 2
    assert max(had) < FAIR * 2


def test_a_shared_system_prompt_does_not_pin_all_traffic_to_one_instance(
    traffic: Any, play: Any
) -> None:
    many = traffic(seed=3)
    stream = many.stream(60, 20, shared=many.blocks(64), prompt_tokens=(200, 1500))
    had = shares(play(stream, SimFleet(aggregated=5)), stream)
    assert min(had) > FAIR / 2
    assert max(had) < FAIR * 2


@pytest.mark.parametrize("policy", policy_names())
@pytest.mark.parametrize("fleet", FLEETS.values(), ids=FLEETS)
def test_every_request_of_any_fleet_and_policy_completes(
    traffic: Any, play: Any, fleet: SimFleet, policy: str
) -> None:
    trace = traffic(seed=4).chats(4, 10, turns=3)
    simulation = play(trace, replace(fleet, policy=policy))
    assert [p.outcome.output_tokens for p in simulation.requests] == [
        r.output_tokens for r in trace
    ]
    assert all(p.outcome.ended_us is not None for p in simulation.requests)
    assert not any(p.outcome.rejected for p in simulation.requests)


def test_who_is_refused_early_would_have_missed_the_limit(traffic: Any) -> None:
    trace = traffic(seed=5).stream(40, 15)
    simulated = simulate(
        trace, SimFleet(aggregated=2, ttft_limit_ms=500), lambda ended, total: None
    )
    report = report_of(
        simulated.outcomes,
        slo_ttft_ms=500,
        slo_itl_ms=1e9,
        virtual_us=simulated.virtual_us,
        instance_seconds=simulated.instance_seconds,
        wall_s=0,
    )
    within = sum(
        o.first_us is not None and ttft_ms(o) <= 500 for o in simulated.outcomes if not o.rejected
    )
    assert report["rejected"] > 0
    assert report["completed"] == len(trace) - report["rejected"]
    assert 0 < report["slo"]["share"] == pytest.approx(within / len(trace), abs=1e-6)
