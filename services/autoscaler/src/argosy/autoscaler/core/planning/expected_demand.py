"""What is going to be asked, slot by slot: the forecast, held against what comes in just now.

The forecast knows slots that have ended; what came since is news. If more comes than was expected,
but for chance, the next minutes are planned for that: fast up. If less comes, the forecast's next
slots will say so: gradual down.
"""

import math

import msgspec

from argosy.autoscaler.core.forecast.bands import Band
from argosy.autoscaler.core.forecast.forecaster import Forecaster
from argosy.autoscaler.core.observe import measure
from argosy.autoscaler.core.observe.observation import FleetObservation
from argosy.autoscaler.core.state import AutoscalerState, Sums
from argosy.domain.demand import Demand

QUANTILE = 0.9
SIGMAS = 1.2815515655446004
"""Of a normal distribution, up to QUANTILE."""
CHANCE = 2.5
"""Standard deviations of a count that are put down to chance: one or two false bursts an hour."""
NEWS_US = 120_000_000
"""What comes now, and was not forecast, is expected to decay over this time: two slots, after which
the forecast has seen it."""
BACKLOG_US = 30_000_000
"""What waits already is to be served within this: longer than a wake, so that it can be, and short
enough that callers are still there."""
MODEL_SIGMA = 0.11
"""What is unknown of a fleet's capacity, as if it were of demand: near saturation the model is 10
to 20 % off the simulator (docs/measurements.md), the 90 % quantile of this."""
GRID = 16
"""Means of lengths are rounded to a grid with this many points for each factor of e, 6 % apart, so
that cost tables that were computed for them hold for a while."""
FEWEST = 20.0
"""Requests that say enough about lengths; before that, defaults weigh too."""


class ExpectedDemand(msgspec.Struct, frozen=True):
    """Demand by slot. Rates in requests per second; sigmas: of their logs."""

    mix: Demand
    """What requests will be like, at no rate."""
    rates: list[float]
    extra: dict[str, float]
    """By role, requests per second more in the first slots: of those that wait already."""
    uppers: list[float]
    sigmas: list[float]
    rate_now: float
    burst: bool


def expect(state: AutoscalerState, observed: FleetObservation) -> ExpectedDemand:
    """What is to be planned for: the second of the four calls of a decision."""
    limits, rate_now = state.limits, observed.rate_now
    bands = Forecaster(state.forecast).path(limits.plan_slots)
    if not bands:
        bands = [Band(rate_now, rate_now)] * limits.plan_slots
    burst = beyond_chance(rate_now, bands[0].upper)
    surely = rate_now - noise(rate_now)
    rates, uppers = [], []
    for slot, band in enumerate(bands):
        mean, ratio = band.mean, band.upper / band.mean if band.mean > 0 else 1.0
        mean += max(0.0, surely - mean) * math.exp(-slot * limits.slot_us / NEWS_US)
        rates.append(mean)
        uppers.append(max(mean * ratio, band.upper))
    # What is for later is decided later, when no more is unknown than now of what is as far off.
    sigmas = [unknown(rates, uppers, lead_slots(state))] * len(rates)
    extra = {role: count / (BACKLOG_US / 1e6) for role, count in observed.waiting.items()}
    return ExpectedDemand(likely(state.mix), rates, extra, uppers, sigmas, rate_now, burst)


def in_first(rates: list[float], extra: float, slot_us: int) -> list[float]:
    """Rates with what waits added to the slots in which it is to be served."""
    count = -(-BACKLOG_US // slot_us)
    return [rate + extra if slot < count else rate for slot, rate in enumerate(rates)]


def lead_slots(state: AutoscalerState) -> float:
    """From what is known of demand until a decision is in effect, in slots.

    What is known is as old as half the time it was counted over; then a tick, and a wake.
    """
    wake_us = max((base.wake_us for base in state.baselines.values()), default=0)
    return (measure.RECENT_US // 2 + state.limits.tick_us + wake_us) / state.limits.slot_us


def unknown(rates: list[float], uppers: list[float], slots: float) -> float:
    """Sigma of demand that many slots ahead, and of the model.

    Within the first slot demand's grows as a random walk's does.
    """
    whole = min(max(math.ceil(slots), 1), len(rates)) - 1
    sigma = spread(rates[whole], uppers[whole]) * math.sqrt(min(slots, 1.0))
    return math.sqrt(sigma * sigma + MODEL_SIGMA * MODEL_SIGMA)


def beyond_chance(rate_now: float, upper: float) -> bool:
    """Whether more comes than was expected, and chance does not explain it."""
    return rate_now - CHANCE * noise(rate_now) > upper


def noise(rate: float) -> float:
    """Standard deviation of a rate as counted, by chance alone."""
    return math.sqrt(rate / (measure.RECENT_US / 1e6))


def spread(mean: float, upper: float) -> float:
    """Sigma of the log-normal with this mean of logs and this QUANTILE."""
    if mean <= 0 or upper <= mean:
        return 0.0
    return min(math.log(upper / mean) / SIGMAS, 1.0)


def likely(sums: Sums) -> Demand:
    """What requests are like, at no rate; where few were seen, defaults stand in for the rest."""
    usual = Demand(0)
    lacking = max(0.0, FEWEST - sums.requests)
    requests = sums.requests + lacking
    prompts = (sums.prompt_tokens + lacking * usual.prompt_tokens) / requests
    squares = (sums.prompt_tokens_squared + lacking * usual.prompt_tokens**2) / requests
    unfinished = max(0.0, FEWEST - sums.finished)
    finished = sums.finished + unfinished
    outputs = (sums.output_tokens + unfinished * usual.output_tokens) / finished
    squares_out = (sums.output_tokens_squared + unfinished * usual.output_tokens**2) / finished
    hits = sums.cached_tokens / sums.prompt_tokens if sums.prompt_tokens else 0.0
    return Demand(
        0,
        grid(prompts),
        grid(math.sqrt(max(0.0, squares - prompts**2))),
        grid(outputs),
        grid(math.sqrt(max(0.0, squares_out - outputs**2))),
        round(hits, 2),
    )


def grid(value: float) -> float:
    """The value, to some 6 %: so that what was worked out for it holds for a while."""
    if value < 1:
        return 0.0
    return round(math.exp(round(math.log(value) * GRID) / GRID), 1)
