"""Two routers do as well as one: they share index and ledger, and do not herd. In virtual time."""

from collections.abc import Callable
from dataclasses import replace
from statistics import mean
from typing import Any

import pytest

from argosy.sim.fleet.simulation import Simulation
from argosy.sim.fleet.spec import SimFleet
from argosy.sim.reports.report import ttft_ms

REUSE_SHARE = 0.02
"""Of the reuse where caches have room; of the prompts where they do not, and chance rules."""
TTFT_FACTOR = 1.15


@pytest.fixture(
    scope="module", params=[(0, SimFleet(aggregated=5)), (1, SimFleet(prefill=3, decode=3))]
)
def simulations(
    request: Any, traffic: Any, play: Callable[..., Simulation]
) -> tuple[Simulation, Simulation]:
    """The same conversations by one router, and by two."""
    seed, fleet = request.param
    trace = traffic(seed).chats(8, 30, turns=5)
    return play(trace, fleet), play(trace, replace(fleet, routers=2))


def reuse(simulation: Simulation) -> float:
    outcomes = [p.outcome for p in simulation.requests]
    return sum(o.cached_tokens for o in outcomes) / sum(o.prompt_tokens for o in outcomes)


def mean_ttft_ms(simulation: Simulation) -> float:
    return sum(ttft_ms(p.outcome) for p in simulation.requests) / len(simulation.requests)


def test_two_routers_reuse_as_much_as_one(simulations: tuple[Simulation, Simulation]) -> None:
    one, two = simulations
    assert reuse(one) > 0.3
    assert reuse(two) == pytest.approx(reuse(one), rel=REUSE_SHARE)


def test_two_routers_do_not_herd(simulations: tuple[Simulation, Simulation]) -> None:
    one, two = simulations
    assert mean_ttft_ms(two) <= TTFT_FACTOR * mean_ttft_ms(one)


@pytest.mark.parametrize("fleet", [SimFleet(aggregated=5), SimFleet(prefill=3, decode=3)])
def test_two_routers_reuse_as_much_as_one_of_caches_that_are_too_small(
    traffic: Any, play: Callable[..., Simulation], fleet: SimFleet
) -> None:
    small = replace(fleet, kv_tokens=131_072)
    traces = [traffic(seed).chats(8, 20, turns=5) for seed in range(4)]
    one = mean(reuse(play(trace, small)) for trace in traces)
    two = mean(reuse(play(trace, replace(small, routers=2))) for trace in traces)
    assert 0.2 < one < 0.6
    assert two == pytest.approx(one, abs=REUSE_SHARE)
