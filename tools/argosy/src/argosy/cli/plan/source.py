"""What is simulated: a trace, or what the running fleet was asked."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from argosy.cli.console import fail
from argosy.cli.plan.scaler import scaler_of
from argosy.client.control import ControlClient
from argosy.domain.demand import Demand, Machine, Slo
from argosy.engine.profile_files import load_profile
from argosy.launcher.home import RunningFleet
from argosy.sim.scaling import workload
from argosy.sim.scaling.policies.argosy_autoscaler import BEGAN_US
from argosy.sim.scaling.scenarios import (
    LONG_S,
    LONG_TICK_S,
    TICK_S,
    Scenario,
    scenario_of,
    trace_scenario,
)
from argosy.sim.scaling.workload import Draw, Numbers
from argosy.sim.traces.trace import TraceError
from argosy.wire.autoscaler.v1 import events_pb2

Slots = Sequence[events_pb2.DemandMeasured]


@dataclass(frozen=True)
class Source:
    """A workload, when it began (Unix time) and the most instances there may be for it."""

    scenario: Scenario
    began_us: int
    replicas: int


def trace_source(
    path: Path, lengths: Path | None, replicas: int, timing: str | None, slo: Slo, seed: int
) -> Source:
    """A file of rates or of requests, its peak as large as `replicas` bear."""
    profile = load_profile(timing)
    machine = Machine(tokens_per_step=profile.tokens_per_step)
    try:
        scenario = trace_scenario(path, lengths, replicas, profile, machine, slo, seed, 0)
    except (TraceError, OSError) as error:
        fail(str(error))
    return Source(scenario, BEGAN_US, replicas)


async def fleet_source(
    running: RunningFleet, days: float, replicas: int | None, seed: int
) -> Source:
    """The fleet's own history, for as many instances as it may have."""
    since_us = time.time_ns() // 1000 - round(days * 86_400e6)
    async with scaler_of(running) as remote:
        slots = await remote.history(since_us)
        if replicas is None:
            replicas = max(2, await allowed(remote))
    if len(slots) < 2 or not sum(slot.requests for slot in slots):
        fail(
            f"{running.fleet} was asked too little to tell anything: its history has "
            f"{len(slots)} slots. Wait some minutes, or write --trace FILE"
        )
    return Source(of_history(slots, running.fleet, seed), slots[0].start_us, replicas)


async def allowed(remote: ControlClient) -> int:
    """As many as the last decision was allowed; before the first, as many as there are."""
    last = (await remote.scaler_status()).last
    most = sum(pool.at_most for pool in last.pools)
    return most or len((await remote.operator_status()).instances)


def of_history(slots: Slots, name: str, seed: int) -> Scenario:
    """Requests at the rates that were measured; over gaps, between the rates at either side."""
    began_us = slots[0].start_us
    span_s = (slots[-1].start_us - began_us) / 1e6 + slots[-1].seconds
    tick_s = TICK_S if span_s <= LONG_S else LONG_TICK_S
    middles_s = [(slot.start_us - began_us) / 1e6 + slot.seconds / 2 for slot in slots]
    rates = [slot.requests / max(1, slot.seconds) for slot in slots]
    ticks_s = (np.arange(math.ceil(span_s / tick_s)) + 0.5) * tick_s
    by_tick: Numbers = np.interp(ticks_s, middles_s, rates)
    load = workload.from_rates(by_tick, tick_s, lengths_of(slots), seed)
    if not len(load.at_s):
        fail(f"{name} was asked nothing that could be simulated")
    return scenario_of(load, f"history of {name}", "lognormal, as measured", 1.0, exact=False)


def lengths_of(slots: Slots) -> Draw:
    """Lognormals of the mean and the spread that prompts and answers had."""
    usual = Demand(0)
    prompts = moments(slots, "requests", "prompt_tokens", usual.prompt_tokens)
    outputs = moments(slots, "finished", "output_tokens", usual.output_tokens)

    def draw(chance: np.random.Generator, count: int) -> tuple[Numbers, Numbers]:
        return lognormal(chance, count, *prompts), lognormal(chance, count, *outputs)

    return draw


def moments(slots: Slots, count: str, name: str, usual: float) -> tuple[float, float]:
    """Mean and standard deviation of a length; where nothing was measured, the usual one."""
    counted = math.fsum(getattr(slot, count) for slot in slots)
    if counted <= 0:
        return usual, 0.0
    mean = math.fsum(getattr(slot, name) for slot in slots) / counted
    square = math.fsum(getattr(slot, f"{name}_squared") for slot in slots) / counted
    return max(1.0, mean), math.sqrt(max(0.0, square - mean * mean))


def lognormal(chance: np.random.Generator, count: int, mean: float, std: float) -> Numbers:
    """Lengths of at least one token."""
    variance = math.log1p((std / mean) ** 2)
    values = chance.lognormal(math.log(mean) - variance / 2, math.sqrt(variance), count)
    return np.maximum(1.0, np.round(values))
