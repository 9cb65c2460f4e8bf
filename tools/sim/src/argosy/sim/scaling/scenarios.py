"""What a scaling benchmark serves: llm-d's ramp, or a trace made as large as a fleet."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from argosy.domain.demand import Demand, Machine, Slo
from argosy.domain.timing import Timing
from argosy.sim.scaling import lengths, rates, workload
from argosy.sim.scaling.closed_form import largest_factor
from argosy.sim.scaling.oracle import kv
from argosy.sim.scaling.workload import Workload
from argosy.sim.traces.trace import read_trace

TICK_S = 5.0
LONG_S = 2 * 86_400.0
LONG_TICK_S = 10.0
"""Of traces of rates longer than that."""
PEAK_S = 60.0
"""The peak is of spans so long: shorter bursts are for queues to bear."""
FIRST_S = 300.0
"""What a fleet begins with is enough for so long."""
PEAK_USE = 0.85
"""Of what the fleet can do, by the model, that a trace's peak asks: as much as the ramp's."""
RAMP_FACTOR = 1.8
"""llm-d's lengths times this make Dynamo's mocker need as much of 8 instances at 10 requests/s
as its H100s were: about 1.45 requests/s of each, 85 %."""
ALL = 1 << 30


@dataclass(frozen=True)
class Scenario:
    """A workload, and how it came to be."""

    load: Workload
    source: str
    lengths: str
    factor: float
    """Of the rate, so that the peak needs the fleet."""
    mean: Demand
    peak: Demand
    first: Demand
    exact: bool
    """Every request stands for itself: the event-accurate simulation can run it."""


def ramp_scenario(seed: int) -> Scenario:
    """llm-d's scored ramp, Poisson arrivals."""
    load = workload.from_rates(rates.ramp(TICK_S), TICK_S, lengths.llmd(RAMP_FACTOR), seed, ALL)
    return scenario_of(load, "ramp", f"llm-d's, times {RAMP_FACTOR}", 1.0, exact=True)


def trace_scenario(
    path: Path,
    lengths_of: Path | None,
    replicas: int,
    timing: Timing,
    machine: Machine,
    slo: Slo,
    seed: int,
    exact_below: int,
) -> Scenario:
    """A file of rates or of requests, its peak as large as `replicas` bear. Raises TraceError."""
    if not rates.is_rates(path):
        trace = read_trace(path, None, 512)
        once = workload.from_requests(trace, 1.0, TICK_S, seed, ALL)
        factor = PEAK_USE * largest_factor(_peak(once), replicas, timing, machine, slo)
        exact = factor * len(trace) <= exact_below
        load = workload.from_requests(
            trace, factor, TICK_S, seed, ALL if exact else workload.SAMPLES
        )
        return scenario_of(load, path.name, "the trace's", factor, exact=exact)
    starts_s, per_s = rates.read_rates(path)
    draw = lengths.conversation() if lengths_of is None else lengths.of_file(lengths_of)
    name = (
        "lognormal, mean 12035/343, prompts at most 65536"
        if lengths_of is None
        else lengths_of.name
    )
    tick_s = TICK_S if starts_s[-1] <= LONG_S else LONG_TICK_S
    by_tick = rates.by_tick(starts_s, per_s, tick_s)
    prompts, outputs = draw(np.random.default_rng(seed), 100_000)
    shape = Demand(
        float(by_tick.max()),
        float(prompts.mean()),
        float(prompts.std()),
        float(outputs.mean()),
        float(outputs.std()),
    )
    factor = PEAK_USE * largest_factor(shape, replicas, timing, machine, slo)
    load = workload.from_rates(by_tick * factor, tick_s, draw, seed)
    return scenario_of(load, path.name, name, factor, exact=False)


def scenario_of(
    load: Workload, source: str, lengths_of: str, factor: float, *, exact: bool
) -> Scenario:
    """A workload with what it asks on average, at its peak and at first."""
    mean = load.demand(load.span_s)[0]
    first = load.demand(FIRST_S)[0]
    return Scenario(load, source, lengths_of, factor, mean, _peak(load), first, exact)


def _peak(load: Workload) -> Demand:
    """Requests of mean length at the rate that is as much work as the busiest span."""
    mean = load.demand(load.span_s)[0]
    spans = load.demand(min(PEAK_S, load.span_s))[: max(1, int(load.span_s / PEAK_S))]
    busiest = max(
        d.rate * max(d.prompt_tokens / mean.prompt_tokens, kv(d) / kv(mean)) for d in spans
    )
    return msgspec.structs.replace(mean, rate=busiest)
