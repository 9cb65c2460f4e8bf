"""Who asks for much, or in the background, hardly slows those who do not. In virtual time."""

from typing import Any

import numpy as np
import pytest

from argosy.cli.sim.report import ttft_ms
from argosy.cli.sim.trace import TraceRequest
from argosy.cli.sim.world import Fleet, World

SECONDS = 15
FULL_REQUESTS_PER_S = 26
"""Of these prompts, about what two instances can prefill."""
FLEETS = {"aggregated": Fleet(aggregated=2), "apart": Fleet(prefill=2, decode=2)}
QUIET, LOUD = "quiet", "loud"
NOISY_FACTOR = 1.5
BACKGROUND_FACTOR = 1.1


def p99_ms(world: World, tenant: str) -> float:
    outcomes = [p.outcome for p in world.passages if p.request.tenant == tenant]
    return float(np.percentile([ttft_ms(outcome) for outcome in outcomes], 99))


def neighbours(traffic: Any, trace_of: Any, load: float, loudness: float) -> list[TraceRequest]:
    """Five tenants with equal shares of the load, but for one that sends a multiple of its own."""
    share = load * FULL_REQUESTS_PER_S / 5
    others = [traffic(seed).stream(share, SECONDS, tenant=f"other-{seed}") for seed in range(3)]
    quiet = traffic(seed=3).stream(share, SECONDS, tenant=QUIET)
    loud = traffic(seed=4).stream(share * loudness, SECONDS, tenant=LOUD)
    return trace_of(*others, quiet, loud)


@pytest.mark.parametrize("load", [0.9, 1.1])
@pytest.mark.parametrize("fleet", FLEETS.values(), ids=FLEETS)
def test_a_tenant_with_ten_times_its_share_hardly_slows_a_quiet_one(
    traffic: Any, trace_of: Any, play: Any, fleet: Fleet, load: float
) -> None:
    before = play(neighbours(traffic, trace_of, load, 1), fleet)
    beside = play(neighbours(traffic, trace_of, load, 10), fleet)
    assert p99_ms(beside, LOUD) > 2 * p99_ms(beside, QUIET)
    assert p99_ms(beside, QUIET) <= NOISY_FACTOR * p99_ms(before, QUIET)


@pytest.mark.parametrize("load", [0.3, 0.6])
@pytest.mark.parametrize("fleet", FLEETS.values(), ids=FLEETS)
def test_background_work_hardly_slows_what_people_wait_for_and_gets_done(
    traffic: Any, trace_of: Any, play: Any, fleet: Fleet, load: float
) -> None:
    people = traffic(seed=1).stream(load * FULL_REQUESTS_PER_S, SECONDS, tenant=QUIET)
    background = traffic(seed=2).stream(
        (1.2 - load) * FULL_REQUESTS_PER_S, SECONDS, tenant=LOUD, priority=-1
    )
    alone = play(people, fleet)
    both = play(trace_of(people, background), fleet)
    last_us = people[-1].arrived_us
    ended_us = [p.outcome.ended_us for p in both.passages if p.request.tenant == LOUD]
    assert None not in ended_us
    assert sum(at_us < last_us for at_us in ended_us) > len(background) / 20
    assert p99_ms(both, QUIET) <= BACKGROUND_FACTOR * p99_ms(alone, QUIET)
