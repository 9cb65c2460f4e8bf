"""A fleet at work: who prefills what, what it meets on its way, how fast answers come.

The router sends a prompt to a decode instance when that is cheaper than to wait for prefill;
that slows the answers there, which makes it dearer: a fixed point, found in a few rounds.
"""

import math
from operator import mul
from typing import NamedTuple

from argosy.autoscaler.core.capacity.queueing import OVERLOAD_MS, RequestWork, Wait, wait
from argosy.autoscaler.core.capacity.workload_mix import (
    NETWORK_MS,
    WorkloadMix,
    handed_ms,
    share_within,
    work_of,
)
from argosy.domain.demand import Demand, Machine, Slo
from argosy.domain.placement_cost import HANDOFF_MS, OWN_WORK, SPREAD_MS, price_of_answer_time
from argosy.domain.timing import Timing

BUSY_MAX = 0.95
"""Most of its time that an answering instance gives to prompts."""
ROUNDS = 6
BISECTIONS = 12
LATE_MS = 1e9
TINY = 1e-12


class DecodeSteps(NamedTuple):
    """What an instance decodes, on average."""

    step_ms: float
    """One step that only decodes."""
    tpot_ms: float
    """With the prefills between."""
    running: float
    use: float


class FirstTokenPath(NamedTuple):
    """One way to a first token: the share of each slice that takes it, and what it meets."""

    shares: list[float]
    waits: Wait
    after_ms: list[float]
    """What comes around the prefill itself, by slice."""


class FleetAtWork(NamedTuple):
    """A fleet at work."""

    prompt_ms: tuple[tuple[float, float], ...]
    paths: list[FirstTokenPath]
    steps: DecodeSteps
    use: float


def apart_fleet(
    demand: Demand,
    prefill: int,
    decode: int,
    mix: WorkloadMix,
    timing: Timing,
    machine: Machine,
    slo: Slo,
) -> FleetAtWork:
    """Prefill instances, and decode instances that help when that is cheaper to the router."""
    rate = demand.rate / 1e3
    helped = [0.0] * len(mix.shares)
    mids = [(low + high) / 2 for low, high in mix.prompt_ms]
    for turn in range(ROUNDS):
        taken_ms = math.fsum(map(mul, helped, map(mul, mix.shares, mids)))
        busy = min(BUSY_MAX, rate * taken_ms / decode)
        steps = _steps(demand, decode, mix, timing, machine, busy)
        moved = taken_ms / mix.work.alone_ms
        limits = _patience(prefill, decode, mix, steps, moved, slo)
        free = 1 - busy**decode

        def leaves(ahead_ms: float, limits: list[float] = limits, free: float = free) -> float:
            left = [w * _leave(ahead_ms, t) for w, t in zip(mix.shares, limits, strict=True)]
            return free * math.fsum(left)

        stay = [w * max(1e-3, 1 - h) for w, h in zip(mix.shares, helped, strict=True)]
        work = work_of(stay, mix.tokens, mix.prompt_ms, timing, machine.tokens_per_step)
        waits = wait(rate, prefill, work, leaves)
        then = [
            free * math.fsum(p * _leave(ahead_ms, limit) for p, ahead_ms in waits.states)
            for limit in limits
        ]
        part = 1 / (1 + min(turn, 3))
        helped = [h + part * (t - h) for h, t in zip(helped, then, strict=True)]
    use = rate * min(mix.work.alone_ms, mix.work.full_ms) / prefill
    return FleetAtWork(mix.prompt_ms, _paths(rate, decode, mix, steps, helped, waits), steps, use)


def _patience(
    prefill: int, decode: int, mix: WorkloadMix, steps: DecodeSteps, helped: float, slo: Slo
) -> list[float]:
    """By slice: the longest wait for prefill that is not worse than decode's own prefill."""
    crowded = price_of_answer_time(steps.tpot_ms, slo.tpot_ms)
    price = OWN_WORK + steps.running * crowded
    uneven = (prefill + decode) * ((1 - helped) / prefill - helped / decode)
    return [
        steps.step_ms * _decoding(steps) * prefill_steps
        + price * (low + high) / 2
        - HANDOFF_MS
        - pull
        - SPREAD_MS * uneven
        for (low, high), prefill_steps, pull in zip(
            mix.prompt_ms, mix.prefill_steps, mix.pull_ms, strict=True
        )
    ]


def _leave(ahead_ms: float, limit_ms: float) -> float:
    """Chance that a wait of this mean is longer than the limit."""
    if limit_ms <= 0:
        return 1.0
    return math.exp(-limit_ms / ahead_ms) if ahead_ms > 0 else 0.0


def _paths(
    rate: float, decode: int, mix: WorkloadMix, steps: DecodeSteps, helped: list[float], waits: Wait
) -> list[FirstTokenPath]:
    """Prefilled apart, then pulled; the same, with a prefill of decode's own in the way; local."""
    here = list(map(mul, mix.shares, helped))
    apart = [share - mine for share, mine in zip(mix.shares, here, strict=True)]
    local = max(TINY, math.fsum(here))
    own_ms = (
        math.fsum(h * (low + high) / 2 for h, (low, high) in zip(here, mix.prompt_ms, strict=True))
        / local
    )
    decoding = _decoding(steps)
    step_ms = decoding * steps.step_ms
    passing = min(BUSY_MAX, rate * local * (own_ms + step_ms) / decode)
    # Decode helps while prefill is busy, which is when KV comes from there.
    met = min(1.0, passing / max(passing, waits.busy, TINY))
    # Steps with a prefill, of all.
    some = passing / (own_ms + step_ms)
    often = some / (some + (1 - passing) / steps.step_ms)
    quiet = (1 - met) * (1 - often) ** 2
    extra_ms = (met * own_ms / 2 + 2 * often * own_ms) / max(TINY, 1 - quiet)
    pulled = [handed_ms(pull, steps.step_ms, decoding) for pull in mix.pull_ms]
    beside = [
        2 * NETWORK_MS + step_ms * (0.5 + prefill_steps) for prefill_steps in mix.prefill_steps
    ]
    return [
        FirstTokenPath([share * quiet for share in apart], waits, pulled),
        FirstTokenPath(
            [share * (1 - quiet) for share in apart], waits, [ms + extra_ms for ms in pulled]
        ),
        FirstTokenPath(here, Wait(passing, own_ms / 2, 0.0, passing), beside),
    ]


def together(
    demand: Demand, count: int, mix: WorkloadMix, timing: Timing, machine: Machine
) -> FleetAtWork:
    """Every instance does both: a step that prefills also decodes, and answers wait for it."""
    rate = demand.rate / 1e3
    busy = 0.0
    for _ in range(ROUNDS):
        steps = _steps(demand, count, mix, timing, machine, busy)
        step_ms = _decoding(steps) * steps.step_ms
        work = _beside(mix.work, step_ms)
        waits = wait(rate, count, work)
        # Of the time in steps that prefill, what is not the step that goes with each.
        busy += (min(BUSY_MAX, waits.busy * min(1.0, mix.work.alone_ms / work.alone_ms)) - busy) / 2
    after = [
        2 * NETWORK_MS + step_ms * (0.5 + prefill_steps) for prefill_steps in mix.prefill_steps
    ]
    return FleetAtWork(
        mix.prompt_ms, [FirstTokenPath(list(mix.shares), waits, after)], steps, waits.use
    )


def _beside(work: RequestWork, step_ms: float) -> RequestWork:
    """The same where every step also decodes."""
    return work._replace(
        alone_ms=work.alone_ms + step_ms,
        base_ms=work.base_ms + step_ms,
        full_ms=work.full_ms + step_ms / work.most,
    )


def crowded(state: FleetAtWork) -> FleetAtWork:
    """With the wait for room where more is to be decoded than can be."""
    late_ms = OVERLOAD_MS * max(0.0, state.steps.use - 1) / 2
    paths = [path._replace(after_ms=[ms + late_ms for ms in path.after_ms]) for path in state.paths]
    return state._replace(paths=paths) if late_ms else state


def _steps(
    demand: Demand, instances: int, mix: WorkloadMix, timing: Timing, machine: Machine, busy: float
) -> DecodeSteps:
    """Little's law and the time of a step, brought to agree. busy: share of time in prefills."""
    per_ms = demand.rate / 1e3 / instances
    step = timing.decode_step_ms(0, 1)
    running = 0.0
    for _ in range(60):
        running = per_ms * max(0.0, demand.output_tokens - 1) * step / (1 - busy)
        share = min(1.0, running * mix.kv_tokens / machine.kv_tokens)
        # A step without requests is not seen: given it runs, at least one does.
        batch = running / -math.expm1(-running) if running > 1e-9 else 1.0
        then = timing.decode_step_ms(share, round(min(batch, machine.max_running)))
        if abs(then - step) < 1e-6 * step:
            break
        step = then
    use = max(running * mix.kv_tokens / machine.kv_tokens, running / machine.max_running)
    return DecodeSteps(step, step / (1 - busy), running, use)


def _decoding(steps: DecodeSteps) -> float:
    """Share of time in which an instance has something to decode."""
    return -math.expm1(-steps.running)


def late_in(limit_ms: float, running: FleetAtWork) -> float:
    """Share of requests over `limit_ms`, whichever way they go."""
    found = 0.0
    for path in running.paths:
        for share, (low, high), extra in zip(
            path.shares, running.prompt_ms, path.after_ms, strict=True
        ):
            if share > 0:
                found += share * (1 - share_within(limit_ms - extra, low, high, path.waits))
    return found


def ttft_quantile(share: float, running: FleetAtWork) -> float:
    """The TTFT that this share of requests does not exceed."""
    low, high = 0.0, 64.0
    while high < LATE_MS and late_in(high, running) > 1 - share:
        low, high = high, 2 * high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if late_in(middle, running) > 1 - share else (low, middle)
    return high


def tpot_spread(
    mix: WorkloadMix, decode: int, timing: Timing, machine: Machine, steps: DecodeSteps
) -> float:
    """Standard deviation of a request's mean step: of what runs beside it."""
    if steps.running <= 0:
        return 0.0
    off = math.sqrt((1 + mix.kv_scv) / (steps.running * decode))
    share = min(1.0, steps.running * mix.kv_tokens / machine.kv_tokens)
    _, b, c = timing.decode_ms
    slope = share * (b + 2 * c * share) + timing.decode_ms_per_request * steps.running
    return off * max(0.0, slope) * steps.tpot_ms / steps.step_ms
