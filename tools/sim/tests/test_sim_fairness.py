"""Who asks for much, or in the background, hardly slows those who do not. In virtual time."""

from typing import Any

import numpy as np
import pytest
from suite_plugin import half

from argosy.sim.fleet.simulation import Simulation
from argosy.sim.fleet.spec import SimFleet
from argosy.sim.reports.report import ttft_ms
from argosy.sim.traces.trace import TraceRequest

pytestmark = pytest.mark.slow

SECONDS = 5
FLEETS = {
    "aggregated": (SimFleet(aggregated=16), 200),
    "apart": (SimFleet(prefill=12, decode=8), 200),
}
"""With about as many requests a second as it can prefill. Engines do not interrupt a prompt
for another: with two instances, those they are at decide how long anybody waits.
"""
SLOWER = {"aggregated": 1.1, "apart": 1.2}
"""By how much at most background work slows others: apart, its answers also share the way of KV
into decode."""
QUIET, LOUD = "quiet", "loud"


def p99_ms(simulation: Simulation, tenant: str) -> float:
    outcomes = [p.outcome for p in simulation.requests if p.request.tenant == tenant]
    return float(np.percentile([ttft_ms(outcome) for outcome in outcomes], 99))


def neighbours(traffic: Any, trace_of: Any, per_s: float, loudness: float) -> list[TraceRequest]:
    """Tenants with equal shares of the load, but for a quiet one and one that sends more."""
    others = [traffic(seed).stream(per_s / 5, SECONDS, tenant=f"other-{seed}") for seed in range(3)]
    quiet = traffic(seed=3).stream(per_s / 10, SECONDS, tenant=QUIET)
    loud = traffic(seed=4).stream(per_s / 5 * loudness, SECONDS, tenant=LOUD)
    return trace_of(*others, quiet, loud)


@pytest.mark.parametrize(
    ("fleet", "full_per_s", "load", "factor"),
    [
        pytest.param(*FLEETS["aggregated"], 1.1, 1.5, id="aggregated, full"),
        pytest.param(*FLEETS["apart"], 1.1, 2.0, id="apart, full", marks=pytest.mark.deep),
        # An engine finishes the step it is at: where nobody waited before, that shows.
        pytest.param(
            *FLEETS["aggregated"], 0.9, 1.9, id="aggregated, with room", marks=pytest.mark.deep
        ),
        pytest.param(*FLEETS["apart"], 0.9, 2.6, id="apart, with room"),
    ],
)
def test_a_tenant_with_ten_times_its_share_hardly_slows_a_quiet_one(
    traffic: Any,
    trace_of: Any,
    play: Any,
    fleet: SimFleet,
    full_per_s: float,
    load: float,
    factor: float,
) -> None:
    before = play(neighbours(traffic, trace_of, load * full_per_s, 1), fleet)
    beside = play(neighbours(traffic, trace_of, load * full_per_s, 10), fleet)
    assert p99_ms(beside, LOUD) > 2 * p99_ms(beside, QUIET)
    assert p99_ms(beside, QUIET) <= factor * p99_ms(before, QUIET)


@pytest.mark.parametrize(("fleet", "load"), half(FLEETS, [0.3, 0.6]))
def test_background_work_hardly_slows_what_people_wait_for_and_gets_done(
    traffic: Any, trace_of: Any, play: Any, fleet: str, load: float
) -> None:
    spec, full_per_s = FLEETS[fleet]
    people = traffic(seed=1).stream(load * full_per_s, SECONDS, tenant=QUIET)
    background = traffic(seed=2).stream(
        (1.2 - load) * full_per_s, SECONDS, tenant=LOUD, priority=-1
    )
    alone = play(people, spec)
    both = play(trace_of(people, background), spec)
    last_us = people[-1].arrived_us
    ended_us = [p.outcome.ended_us for p in both.requests if p.request.tenant == LOUD]
    assert None not in ended_us
    assert any(at_us < last_us for at_us in ended_us)
    assert p99_ms(both, QUIET) <= SLOWER[fleet] * p99_ms(alone, QUIET)
