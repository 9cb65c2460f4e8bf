"""How well so many instances would serve a demand: waiting, passes and steps in closed form.

It mirrors what `argosy sim` plays out event by event: the router sends a prompt where it is
cheapest, instances prefill in passes, decode instances pull KV between two of their steps.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import mul
from statistics import NormalDist
from typing import NamedTuple

import msgspec

from argosy.autoscaler.core.demand import Demand, Machine, Slo
from argosy.autoscaler.core.lengths import slices
from argosy.autoscaler.core.queueing import OVERLOAD_MS, Wait, Work, wait
from argosy.mesh.timing import RACK, Timing

NETWORK_MS = 0.2
"""One call or fact, one way."""
HANDOVER_MS, OWN_WORK, PRICE_POWER, SPREAD_MS = 5.0, 0.35, 4, 2.0
"""What the router's own policy holds against prefill elsewhere and on decode instances."""
COUNT_MAX = 4096
BUSY_MAX = 0.95
"""Most of its time that an answering instance gives to prompts."""
ROUNDS = 6
BISECTIONS = 12
LATE_MS = 1e9
TINY = 1e-12
NEVER = 1e-6
"""Chance of a wait not worth reckoning with."""
OVER = 0.01
"""Weight of overload beside the miss itself: of two fleets that all miss, the larger is better."""
_NORMAL = NormalDist()


class Score(msgspec.Struct, frozen=True):
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


class Mix(NamedTuple):
    """What follows from lengths, whatever the rate. By slice: from low to high."""

    shares: tuple[float, ...]
    tokens: tuple[float, ...]
    prompt_ms: tuple[tuple[float, float], ...]
    """Prefill alone."""
    passes: tuple[int, ...]
    pull_ms: tuple[float, ...]
    after_ms: tuple[float, ...]
    """From prefill to first token where decode has room."""
    work: Work
    kv_tokens: float
    """Mean KV of a running request, averaged over time."""
    kv_scv: float


@lru_cache(maxsize=1024)
def _mix(
    prompt: float, prompt_std: float, output: float, output_std: float, hit: float,
    timing: Timing, machine: Machine,
) -> Mix:  # fmt: skip
    most = machine.tokens_per_pass
    parts = slices(prompt * (1 - hit), prompt_std * (1 - hit))
    shares = tuple(part.share for part in parts)
    fresh = [(max(1, round(part.low)), max(1, round(part.high))) for part in parts]
    alone = tuple(
        (timing.prompt_ms(low, most), timing.prompt_ms(high, most)) for low, high in fresh
    )
    tokens = tuple((low + high) / 2 for low, high in fresh)
    work = _work(shares, tokens, alone, timing, most)
    passes = tuple(max(1, -(-(low + high) // 2 // most)) for low, high in fresh)
    pulls = tuple(timing.kv_transfer_ms(round(t), RACK) for t in tokens)
    # Time-averaged over an answer, which has half of itself; long answers are there longer.
    output_scv = (output_std / output) ** 2 if output > 0 else 0.0
    kv = prompt + output * (1 + output_scv) / 2
    prompt_scv = (prompt_std / prompt) ** 2 if prompt > 0 else 0.0
    step_ms = timing.decode_pass_ms(0, 1)
    after = tuple(_handed_ms(pull, step_ms, 1.0) for pull in pulls)
    return Mix(
        shares, tokens, alone, passes, pulls, after, work, kv, prompt_scv * (prompt / kv) ** 2
    )


def _work(
    shares: Sequence[float], tokens: Sequence[float], alone: Sequence[tuple[float, float]],
    timing: Timing, most: int,
) -> Work:  # fmt: skip
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
    # A pass of one more is longer by `own` of it. While it runs the next gather, half of it on
    # average and more when passes differ; and the longer ones have more requests in them.
    own = linear / (a + linear)
    uneven = 1 + variance / m**2
    gather = 0.5 + uneven * (own + own * own / 2)
    full_ms = timing.prefill_pass_ms(most) / most * m
    return Work(mean, scv, a, linear, c * m * m, most / m, full_ms, gather, own)


def _mix_of(demand: Demand, timing: Timing, machine: Machine) -> Mix:
    d = demand
    return _mix(
        d.prompt_tokens, d.prompt_std, d.output_tokens, d.output_std, d.hit_share, timing, machine
    )


class Steps(NamedTuple):
    """What an instance decodes, on average."""

    step_ms: float
    """One pass that only decodes."""
    tpot_ms: float
    """With the prefills between."""
    running: float
    use: float


def _steps(
    demand: Demand, instances: int, mix: Mix, timing: Timing, machine: Machine, busy: float
) -> Steps:
    """Little's law and the time of a step, brought to agree. busy: share of time in prefills."""
    per_ms = demand.rate / 1e3 / instances
    step = timing.decode_pass_ms(0, 1)
    running = 0.0
    for _ in range(60):
        running = per_ms * max(0.0, demand.output_tokens - 1) * step / (1 - busy)
        share = min(1.0, running * mix.kv_tokens / machine.kv_tokens)
        # A step that nobody takes is not seen: given it runs, at least one does.
        batch = running / -math.expm1(-running) if running > 1e-9 else 1.0
        then = timing.decode_pass_ms(share, round(min(batch, machine.max_running)))
        if abs(then - step) < 1e-6 * step:
            break
        step = then
    use = max(running * mix.kv_tokens / machine.kv_tokens, running / machine.max_running)
    return Steps(step, step / (1 - busy), running, use)


def score(
    demand: Demand, prefill: int, decode: int, timing: Timing, machine: Machine, slo: Slo
) -> Score:
    """Of a fleet whose decode instances may help with prefill, as the router lets them.

    With no prefill instances, decode instances do both.
    """
    mix = _mix_of(demand, timing, machine)
    if decode <= 0:
        return Score(*(LATE_MS,) * 5, attained=0.0, prefill_use=LATE_MS, decode_use=LATE_MS)
    if prefill <= 0:
        state = _together(demand, decode, mix, timing, machine)
    else:
        state = _apart(demand, prefill, decode, mix, timing, machine, slo)
    state = _crowded(state)
    ttft = [_quantile(share, state) for share in (0.5, 0.9, 0.99)]
    steps = state.steps
    spread = _tpot_spread(mix, decode, timing, machine, steps)
    in_time = 1 - _late_in(slo.ttft_ms, state)
    paced = (
        _NORMAL.cdf((slo.tpot_ms - steps.tpot_ms) / spread)
        if spread
        else float(steps.tpot_ms <= slo.tpot_ms)
    )
    if steps.use > 1:
        paced /= steps.use
    return Score(
        *ttft, steps.tpot_ms, steps.tpot_ms + _NORMAL.inv_cdf(0.9) * spread,
        attained=min(1.0, in_time * paced), prefill_use=state.use, decode_use=steps.use,
    )  # fmt: skip


def _crowded(state: "Running") -> "Running":
    """With the wait for room where more is to be decoded than can be."""
    late_ms = OVERLOAD_MS * max(0.0, state.steps.use - 1) / 2
    paths = [path._replace(after_ms=[ms + late_ms for ms in path.after_ms]) for path in state.paths]
    return state._replace(paths=paths) if late_ms else state


class Path(NamedTuple):
    """One way to a first token: the share of each slice that takes it, and what it meets."""

    shares: list[float]
    waits: Wait
    after_ms: list[float]
    """What comes around the prefill itself, by slice."""


class Running(NamedTuple):
    """A fleet at work."""

    prompt_ms: tuple[tuple[float, float], ...]
    paths: list[Path]
    steps: Steps
    use: float


def _together(demand: Demand, count: int, mix: Mix, timing: Timing, machine: Machine) -> Running:
    """Every instance does both: a pass that prefills also decodes, and answers wait for it."""
    rate = demand.rate / 1e3
    busy = 0.0
    for _ in range(ROUNDS):
        steps = _steps(demand, count, mix, timing, machine, busy)
        step_ms = _decoding(steps) * steps.step_ms
        work = _beside(mix.work, step_ms)
        waits = wait(rate, count, work)
        # Of the time in passes that prefill, what is not the step that goes with each.
        busy += (min(BUSY_MAX, waits.busy * min(1.0, mix.work.alone_ms / work.alone_ms)) - busy) / 2
    after = [2 * NETWORK_MS + step_ms * (0.5 + passes) for passes in mix.passes]
    return Running(mix.prompt_ms, [Path(mix.shares, waits, after)], steps, waits.use)


def _apart(
    demand: Demand, prefill: int, decode: int, mix: Mix, timing: Timing, machine: Machine, slo: Slo
) -> Running:
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
        work = _work(stay, mix.tokens, mix.prompt_ms, timing, machine.tokens_per_pass)
        waits = wait(rate, prefill, work, leaves)
        then = [
            free * math.fsum(p * _leave(ahead_ms, limit) for p, ahead_ms in waits.states)
            for limit in limits
        ]
        part = 1 / (1 + min(turn, 3))
        helped = [h + part * (t - h) for h, t in zip(helped, then, strict=True)]
    return Running(mix.prompt_ms, _paths(rate, decode, mix, steps, helped, waits), steps, waits.use)


def _paths(
    rate: float, decode: int, mix: Mix, steps: Steps, helped: list[float], waits: Wait
) -> list[Path]:
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
    # Passes with a prefill, of all.
    some = passing / (own_ms + step_ms)
    often = some / (some + (1 - passing) / steps.step_ms)
    quiet = (1 - met) * (1 - often) ** 2
    extra_ms = (met * (own_ms / 2 - 0.0) + 2 * often * own_ms) / max(TINY, 1 - quiet)
    pulled = [_handed_ms(pull, steps.step_ms, decoding) for pull in mix.pull_ms]
    beside = [2 * NETWORK_MS + step_ms * (0.5 + passes) for passes in mix.passes]
    return [
        Path([share * quiet for share in apart], waits, pulled),
        Path([share * (1 - quiet) for share in apart], waits, [ms + extra_ms for ms in pulled]),
        Path(here, Wait(passing, own_ms / 2, 0.0, passing), beside),
    ]


def prefill_miss(
    demand: Demand, counts: Sequence[int], timing: Timing, machine: Machine, slo: Slo
) -> list[float]:
    """Share of requests whose first token would be late, for each count of prefill instances.

    Decode is taken to be quick and to help with no prompt.
    """
    if demand.rate <= 0:
        return [0.0] * len(counts)
    mix = _mix_of(demand, timing, machine)
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
            # Nobody waits any more.
            found[count] = alone
    return [found[count] for count in counts]


def _prefill_late(waits: Wait, mix: Mix, slo: Slo) -> float:
    over = max(0.0, 1 - 1 / waits.use) if waits.use > 0 else 0.0
    return (1 - OVER) * _late(slo.ttft_ms, mix, waits, mix.after_ms) + OVER * over


def _handed_ms(pull_ms: float, step_ms: float, decoding: float) -> float:
    """From prefill's end until the first token is seen: pull, then a step, between steps.

    decoding: share of time in which decode is stepping.
    """
    between = step_ms / 2 + math.ceil(pull_ms / step_ms) * step_ms
    return 3 * NETWORK_MS + decoding * between + (1 - decoding) * pull_ms + step_ms


def _decoding(steps: Steps) -> float:
    """Share of time in which an instance has something to decode."""
    return -math.expm1(-steps.running)


def _patience(
    prefill: int, decode: int, mix: Mix, steps: Steps, helped: float, slo: Slo
) -> list[float]:
    """By slice: the longest wait for prefill that is not worse than decode's own prefill."""
    crowded = min(1.0, (steps.tpot_ms / slo.tpot_ms) ** PRICE_POWER)
    price = OWN_WORK + steps.running * crowded
    uneven = (prefill + decode) * ((1 - helped) / prefill - helped / decode)
    return [
        steps.step_ms * _decoding(steps) * passes
        + price * (low + high) / 2
        - HANDOVER_MS
        - pull
        - SPREAD_MS * uneven
        for (low, high), passes, pull in zip(mix.prompt_ms, mix.passes, mix.pull_ms, strict=True)
    ]


def _leave(ahead_ms: float, limit_ms: float) -> float:
    """Chance that a wait of this mean is longer than the limit."""
    if limit_ms <= 0:
        return 1.0
    return math.exp(-limit_ms / ahead_ms) if ahead_ms > 0 else 0.0


def _beside(work: Work, step_ms: float) -> Work:
    """The same where every pass also decodes."""
    return work._replace(
        alone_ms=work.alone_ms + step_ms, base_ms=work.base_ms + step_ms,
        full_ms=work.full_ms + step_ms / work.most,
    )  # fmt: skip


def _late_in(limit_ms: float, running: Running) -> float:
    """Share of requests over `limit_ms`, whichever way they go."""
    found = 0.0
    for path in running.paths:
        for share, (low, high), extra in zip(
            path.shares, running.prompt_ms, path.after_ms, strict=True
        ):
            if share > 0:
                found += share * (1 - _within(limit_ms - extra, low, high, path.waits))
    return found


def _quantile(share: float, running: Running) -> float:
    """The TTFT that so many requests do not exceed."""
    low, high = 0.0, 64.0
    while high < LATE_MS and _late_in(high, running) > 1 - share:
        low, high = high, 2 * high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _late_in(middle, running) > 1 - share else (low, middle)
    return high


def _tpot_spread(mix: Mix, decode: int, timing: Timing, machine: Machine, steps: Steps) -> float:
    """Standard deviation of a request's mean step: of what runs beside it."""
    if steps.running <= 0:
        return 0.0
    off = math.sqrt((1 + mix.kv_scv) / (steps.running * decode))
    share = min(1.0, steps.running * mix.kv_tokens / machine.kv_tokens)
    a, b, c = timing.decode_ms
    slope = share * (b + 2 * c * share) + timing.decode_ms_per_request * steps.running
    return off * max(0.0, slope) * steps.tpot_ms / steps.step_ms


def _late(limit_ms: float, mix: Mix, waits: Wait, after: Sequence[float]) -> float:
    """Share of requests over `limit_ms`."""
    found = 0.0
    for share, (low, high), extra in zip(mix.shares, mix.prompt_ms, after, strict=True):
        found += share * (1 - _within(limit_ms - extra, low, high, waits))
    return min(1.0, max(0.0, found))


def _within(room_ms: float, low: float, high: float, waits: Wait) -> float:
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


def decode_miss(
    demand: Demand, counts: Sequence[int], timing: Timing, machine: Machine, slo: Slo
) -> list[float]:
    """Share of requests whose tokens come too slowly or that wait for KV room, for each count.

    The load one instance bears within the SLO is found once; requests at a time are Poisson by
    Little's law, and spread evenly, so that the chance of more than all bear follows.
    """
    if demand.rate <= 0:
        return [0.0] * len(counts)
    mix = _mix_of(demand, timing, machine)
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
def _bearable(mix: Mix, timing: Timing, machine: Machine, slo: Slo) -> tuple[float, float, float]:
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
    """The least count with no more misses, of requests that could be in time at all."""
    floor = prefill_miss(demand, [COUNT_MAX], timing, machine, slo)[0]
    return _least(
        lambda n: prefill_miss(demand, [n], timing, machine, slo)[0], floor + miss * (1 - floor)
    )


def decode_need(demand: Demand, timing: Timing, machine: Machine, slo: Slo, miss: float) -> int:
    """The least count with no more misses; where no count would do, the least that has room."""
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
