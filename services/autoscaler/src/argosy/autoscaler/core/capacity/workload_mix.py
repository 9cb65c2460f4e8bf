"""What follows from a mix of lengths whatever its rate, and how late a wait makes requests."""

import math
from collections.abc import Sequence
from functools import lru_cache
from operator import mul
from typing import NamedTuple

from argosy.autoscaler.core.capacity.lengths import slices
from argosy.autoscaler.core.capacity.queueing import RequestWork, Wait
from argosy.domain.demand import Demand, Machine
from argosy.domain.timing import RACK, Timing

NETWORK_MS = 0.2
"""One call or fact, one way."""


class WorkloadMix(NamedTuple):
    """What follows from lengths, whatever the rate. By slice: from low to high."""

    shares: tuple[float, ...]
    tokens: tuple[float, ...]
    prompt_ms: tuple[tuple[float, float], ...]
    """Prefill alone."""
    prefill_steps: tuple[int, ...]
    pull_ms: tuple[float, ...]
    after_ms: tuple[float, ...]
    """From prefill to first token where decode has room."""
    work: RequestWork
    kv_tokens: float
    """Mean KV of a running request, averaged over time."""
    kv_scv: float


def mix_of(demand: Demand, timing: Timing, machine: Machine) -> WorkloadMix:
    """Of a demand; remembered, since many have the same lengths."""
    d = demand
    return _mix(
        d.prompt_tokens, d.prompt_std, d.output_tokens, d.output_std, d.hit_share, timing, machine
    )


@lru_cache(maxsize=1024)
def _mix(
    prompt: float,
    prompt_std: float,
    output: float,
    output_std: float,
    hit: float,
    timing: Timing,
    machine: Machine,
) -> WorkloadMix:
    most = machine.tokens_per_step
    parts = slices(prompt * (1 - hit), prompt_std * (1 - hit))
    shares = tuple(part.share for part in parts)
    fresh = [(max(1, round(part.low)), max(1, round(part.high))) for part in parts]
    alone = tuple(
        (timing.prompt_ms(low, most), timing.prompt_ms(high, most)) for low, high in fresh
    )
    tokens = tuple((low + high) / 2 for low, high in fresh)
    work = work_of(shares, tokens, alone, timing, most)
    prefill_steps = tuple(max(1, -(-(low + high) // 2 // most)) for low, high in fresh)
    pulls = tuple(timing.kv_transfer_ms(round(t), RACK) for t in tokens)
    # Time-averaged over an answer, which has half of itself; long answers are there longer.
    output_scv = (output_std / output) ** 2 if output > 0 else 0.0
    kv = max(1.0, prompt + output * (1 + output_scv) / 2)
    prompt_scv = (prompt_std / prompt) ** 2 if prompt > 0 else 0.0
    step_ms = timing.decode_step_ms(0, 1)
    after = tuple(handed_ms(pull, step_ms, 1.0) for pull in pulls)
    return WorkloadMix(
        shares,
        tokens,
        alone,
        prefill_steps,
        pulls,
        after,
        work,
        kv,
        prompt_scv * (prompt / kv) ** 2,
    )


def work_of(
    shares: Sequence[float],
    tokens: Sequence[float],
    alone: Sequence[tuple[float, float]],
    timing: Timing,
    most: int,
) -> RequestWork:
    """What prefill instances are asked by requests of which each slice makes such a share."""
    whole = math.fsum(shares)
    shares = [share / whole for share in shares]
    mids = [(low + high) / 2 for low, high in alone]
    mean = math.fsum(map(mul, shares, mids))
    scv = math.fsum(w * (ms - mean) ** 2 for w, ms in zip(shares, mids, strict=True)) / mean**2
    m = math.fsum(map(mul, shares, tokens))
    variance = math.fsum(w * (t - m) ** 2 for w, t in zip(shares, tokens, strict=True))
    a, b, c = timing.prefill_ms
    linear = b * m + c * variance
    # A step of one more is longer by `own` of it. While it runs the next gather, half of it on
    # average and more when steps differ; and the longer ones have more requests in them.
    own = linear / (a + linear)
    uneven = 1 + variance / m**2
    gather = 0.5 + uneven * (own + own * own / 2)
    full_ms = timing.prefill_step_ms(most) / most * m
    return RequestWork(mean, scv, a, linear, c * m * m, most / m, full_ms, gather, own)


def handed_ms(pull_ms: float, step_ms: float, decoding: float) -> float:
    """From prefill's end until the first token is seen: pull, then a step, between steps.

    decoding: share of time in which decode is stepping.
    """
    between = step_ms / 2 + math.ceil(pull_ms / step_ms) * step_ms
    return 3 * NETWORK_MS + decoding * between + (1 - decoding) * pull_ms + step_ms


def share_late(limit_ms: float, mix: WorkloadMix, waits: Wait, after: Sequence[float]) -> float:
    """Share of requests over `limit_ms`."""
    found = 0.0
    for share, (low, high), extra in zip(mix.shares, mix.prompt_ms, after, strict=True):
        found += share * (1 - share_within(limit_ms - extra, low, high, waits))
    return min(1.0, max(0.0, found))


def share_within(room_ms: float, low: float, high: float, waits: Wait) -> float:
    """P(prefill + wait ≤ room), prefill even between low and high."""
    if high - low < 1e-9:
        return _no_wait(room_ms - low, waits)
    return (_area(room_ms - low, waits) - _area(room_ms - high, waits)) / (high - low)


def _no_wait(room_ms: float, waits: Wait) -> float:
    """P(wait ≤ room)."""
    if room_ms < 0:
        return 0.0
    more_ms, mean_ms = room_ms - waits.least_ms, waits.mean_ms - waits.least_ms
    if more_ms <= 0:
        return 1 - waits.share
    return 1 - waits.share * (math.exp(-more_ms / mean_ms) if mean_ms > 0 else 0.0)


def _area(room_ms: float, waits: Wait) -> float:
    """Integral of `_no_wait` from 0."""
    if room_ms <= 0:
        return 0.0
    more_ms, mean_ms = room_ms - waits.least_ms, waits.mean_ms - waits.least_ms
    if more_ms <= 0:
        return room_ms * (1 - waits.share)
    missed = waits.least_ms - (mean_ms * math.expm1(-more_ms / mean_ms) if mean_ms > 0 else 0.0)
    return room_ms - waits.share * missed
