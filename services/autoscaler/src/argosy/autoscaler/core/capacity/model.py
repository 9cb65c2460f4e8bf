"""How well a count of instances would serve a demand: waits and steps in closed form.

It mirrors what `argosy sim` plays out event by event: the router sends a prompt where it is
cheapest, instances prefill in steps, decode instances pull KV between two of their steps.
`argosy bench plan` measures how near it comes.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist

import msgspec

from argosy.autoscaler.core.capacity.fleet_model import (
    LATE_MS,
    apart_fleet,
    crowded,
    late_in,
    together,
    tpot_spread,
    ttft_quantile,
)
from argosy.autoscaler.core.capacity.queueing import Wait, wait
from argosy.autoscaler.core.capacity.workload_mix import WorkloadMix, mix_of, share_late
from argosy.domain.demand import Demand, Machine, Slo
from argosy.domain.timing import Timing

COUNT_MAX = 4096
NEVER = 1e-6
"""Chance of a wait not worth reckoning with."""
OVER = 0.01
"""Weight of overload beside the miss itself: of two fleets that all miss, the larger is better."""
_NORMAL = NormalDist()


class CapacityScore(msgspec.Struct, frozen=True):
    """Milliseconds and shares of requests."""

    ttft_p50_ms: float
    ttft_p90_ms: float
    ttft_p99_ms: float
    tpot_p50_ms: float
    tpot_p90_ms: float
    attained: float
    """Share of requests within the SLO, TTFT and TPOT both."""
    prefill_use: float
    """Work offered to prefill instances over what they can do; above 1 it grows for ever."""
    decode_use: float
    """Decode KV or slots wanted over what there is; above 1 requests wait for room."""


def score(
    demand: Demand, prefill: int, decode: int, timing: Timing, machine: Machine, slo: Slo
) -> CapacityScore:
    """Of a fleet whose decode instances may help with prefill, as the router lets them.

    With no prefill instances, decode instances do both.
    """
    mix = mix_of(demand, timing, machine)
    if decode <= 0:
        late = LATE_MS
        return CapacityScore(late, late, late, late, late, 0.0, late, late)
    if prefill <= 0:
        state = together(demand, decode, mix, timing, machine)
    else:
        state = apart_fleet(demand, prefill, decode, mix, timing, machine, slo)
    state = crowded(state)
    p50, p90, p99 = (ttft_quantile(share, state) for share in (0.5, 0.9, 0.99))
    steps = state.steps
    spread = tpot_spread(mix, decode, timing, machine, steps)
    in_time = 1 - late_in(slo.ttft_ms, state)
    paced = (
        _NORMAL.cdf((slo.tpot_ms - steps.tpot_ms) / spread)
        if spread
        else float(steps.tpot_ms <= slo.tpot_ms)
    )
    if steps.use > 1:
        paced /= steps.use
    return CapacityScore(
        p50,
        p90,
        p99,
        steps.tpot_ms,
        steps.tpot_ms + _NORMAL.inv_cdf(0.9) * spread,
        attained=min(1.0, max(0.0, in_time * paced)),
        prefill_use=state.use,
        decode_use=steps.use,
    )


def prefill_miss(
    demand: Demand, counts: Sequence[int], timing: Timing, machine: Machine, slo: Slo
) -> list[float]:
    """Share of requests whose first token would be late, for each count of prefill instances.

    Decode is taken to be quick and to help with no prompt.
    """
    if demand.rate <= 0:
        return [0.0] * len(counts)
    mix = mix_of(demand, timing, machine)
    found: dict[int, float] = {}
    alone = -1.0
    for count in sorted(set(counts)):
        if count <= 0:
            found[count] = 1.0
            continue
        if alone < 0:
            waits = wait(demand.rate / 1e3, count, mix.work)
            found[count] = _prefill_late(waits, mix, slo)
            if waits.share < NEVER:
                alone = found[count]
        else:
            # No request waits any more.
            found[count] = alone
    # Fitted shapes of waits may cross by a hair; more instances are never worse.
    least = 1.0
    for count, late in found.items():
        found[count] = least = min(least, late)
    return [found[count] for count in counts]


def _prefill_late(waits: Wait, mix: WorkloadMix, slo: Slo) -> float:
    over = max(0.0, 1 - 1 / waits.use) if waits.use > 0 else 0.0
    return (1 - OVER) * share_late(slo.ttft_ms, mix, waits, mix.after_ms) + OVER * over


def decode_miss(
    demand: Demand, counts: Sequence[int], timing: Timing, machine: Machine, slo: Slo
) -> list[float]:
    """Share of requests whose tokens come too slowly or that wait for KV room, for each count.

    The load one instance bears within the SLO is found once; requests at a time are Poisson by
    Little's law, and spread evenly, so that the chance of more than all bear follows.
    """
    if demand.rate <= 0:
        return [0.0] * len(counts)
    mix = mix_of(demand, timing, machine)
    most, room, pace_ms = _bearable(mix, timing, machine, slo)
    held = demand.rate / 1e3 * max(0.0, demand.output_tokens - 1) * pace_ms
    spread = math.sqrt(held * (1 + mix.kv_scv))
    found = []
    for count in counts:
        if count <= 0:
            found.append(1.0)
            continue
        late = 1.0 if most <= 0 else _NORMAL.cdf((held - most * count) / spread) if spread else 0.0
        over = max(0.0, 1 - room * count / held) if held else 0.0
        found.append((1 - OVER) * late + OVER * over)
    return found


@lru_cache(maxsize=1024)
def _bearable(
    mix: WorkloadMix, timing: Timing, machine: Machine, slo: Slo
) -> tuple[float, float, float]:
    """Requests an instance may run: within the SLO, and at all; the time of a step then."""
    room = min(machine.kv_tokens / mix.kv_tokens, float(machine.max_running))

    def step_ms(running: float) -> float:
        share = running * mix.kv_tokens / machine.kv_tokens
        a, b, c = timing.decode_ms
        return a + share * (b + c * share) + timing.decode_ms_per_request * running

    if step_ms(1) > slo.tpot_ms:
        return 0.0, room, step_ms(room)
    low, high = min(1.0, room), room
    if step_ms(high) <= slo.tpot_ms:
        return room, room, step_ms(room)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if step_ms(middle) <= slo.tpot_ms else (low, middle)
    return low, room, slo.tpot_ms


def prefill_need(demand: Demand, timing: Timing, machine: Machine, slo: Slo, miss: float) -> int:
    """The least count with no more misses, of requests that could be in time at all.

    Where none could, the least that keeps up.
    """
    mix = mix_of(demand, timing, machine)
    floor = _prefill_late(Wait(0.0, 0.0, 0.0, 0.0), mix, slo)
    return _least(
        lambda n: prefill_miss(demand, [n], timing, machine, slo)[0], floor + miss * (1 - floor)
    )


def decode_need(demand: Demand, timing: Timing, machine: Machine, slo: Slo, miss: float) -> int:
    """The same for decode."""
    floor = decode_miss(demand, [COUNT_MAX], timing, machine, slo)[0]
    return _least(
        lambda n: decode_miss(demand, [n], timing, machine, slo)[0], floor + miss * (1 - floor)
    )


def _least(miss_of: Callable[[int], float], miss: float) -> int:
    """The least count up to COUNT_MAX with no more than `miss`."""
    if miss_of(0) <= miss:
        return 0
    low, high = 0, 1
    while high < COUNT_MAX and miss_of(high) > miss:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if miss_of(middle) <= miss else (middle, high)
    return high
