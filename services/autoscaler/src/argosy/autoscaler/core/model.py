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
from argosy.autoscaler.core.lengths import SLICES, slices
from argosy.autoscaler.core.queueing import Wait, Work, wait
from argosy.mesh.timing import RACK, Timing

NETWORK_MS = 0.2
"""One call or fact, one way."""
HANDOVER_MS, OWN_WORK, PRICE_POWER, SPREAD_MS = 5.0, 0.35, 4, 2.0
"""What the router's own policy holds against prefill elsewhere and on decode instances."""
COUNT_MAX = 4096
BUSY_MAX = 0.95
"""Most of its time that an answering instance gives to prompts."""
ROUNDS = 8
LATE_MS = 1e9
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

    prompt_ms: tuple[tuple[float, float], ...]
    """Prefill alone."""
    passes: tuple[int, ...]
    pull_ms: tuple[float, ...]
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
    fresh = [
        (max(1, round(s.low * (1 - hit))), max(1, round(s.high * (1 - hit))))
        for s in slices(prompt, prompt_std)
    ]
    alone = tuple(
        (timing.prompt_ms(low, most), timing.prompt_ms(high, most)) for low, high in fresh
    )
    mids = [(low + high) / 2 for low, high in alone]
    mean = math.fsum(mids) / SLICES
    scv = math.fsum((ms - mean) ** 2 for ms in mids) / SLICES / mean**2
    tokens = [(low + high) / 2 for low, high in fresh]
    m = math.fsum(tokens) / SLICES
    variance = math.fsum((t - m) ** 2 for t in tokens) / SLICES
    a, b, c = timing.prefill_ms
    full_ms = timing.prefill_pass_ms(most) / most
    work = Work(mean, scv, a, b * m + c * variance, c * m * m, most / m, full_ms * m)
    passes = tuple(max(1, -(-(low + high) // 2 // most)) for low, high in fresh)
    pulls = tuple(timing.kv_transfer_ms(round(t), RACK) for t in tokens)
    # Time-averaged over an answer, which has half of itself; long answers are there longer.
    output_scv = (output_std / output) ** 2 if output > 0 else 0.0
    kv = prompt + output * (1 + output_scv) / 2
    prompt_scv = (prompt_std / prompt) ** 2 if prompt > 0 else 0.0
    return Mix(alone, passes, pulls, work, kv, prompt_scv * (prompt / kv) ** 2)


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
    ttft = [_quantile(share, state) for share in (0.5, 0.9, 0.99)]
    steps = state.steps
    spread = _tpot_spread(mix, decode, timing, machine, steps)
    in_time = 1 - _late_in(slo.ttft_ms, state)
    paced = _NORMAL.cdf((slo.tpot_ms - steps.tpot_ms) / spread) if spread else float(
        steps.tpot_ms <= slo.tpot_ms
    )
    if steps.use > 1:
        paced /= steps.use
    return Score(
        *ttft, steps.tpot_ms, steps.tpot_ms + _NORMAL.inv_cdf(0.9) * spread,
        attained=in_time * paced, prefill_use=state.use, decode_use=steps.use,
    )  # fmt: skip


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
    busy = min(BUSY_MAX, rate * mix.work.alone_ms / count)
    steps = _steps(demand, count, mix, timing, machine, busy)
    decoding = _decoding(steps)
    waits = wait(rate, count, _beside(mix.work, decoding * steps.step_ms))
    after = [2 * NETWORK_MS + decoding * steps.step_ms * (0.5 + passes) for passes in mix.passes]
    return Running(mix.prompt_ms, [Path([1.0] * SLICES, waits, after)], steps, waits.use)


def _apart(
    demand: Demand, prefill: int, decode: int, mix: Mix, timing: Timing, machine: Machine, slo: Slo
) -> Running:
    """Prefill instances, and decode instances that help when that is cheaper to the router."""
    rate = demand.rate / 1e3
    helped = [0.0] * SLICES
    mids = [(low + high) / 2 for low, high in mix.prompt_ms]
    for turn in range(ROUNDS):
        taken_ms = math.fsum(map(mul, helped, mids)) / SLICES
        busy = min(BUSY_MAX, rate * taken_ms / decode)
        steps = _steps(demand, decode, mix, timing, machine, busy)
        moved = taken_ms / mix.work.alone_ms
        limits = _patience(prefill, decode, mix, steps, moved, slo)
        free = 1 - busy**decode

        def leaves(ahead_ms: float, limits: list[float] = limits, free: float = free) -> float:
            return free * math.fsum(_leave(ahead_ms, limit) for limit in limits) / SLICES

        waits = wait(rate, prefill, mix.work, leaves)
        then = [
            free * math.fsum(p * _leave(ahead_ms, limit) for p, ahead_ms in waits.states)
            for limit in limits
        ]
        part = 1 / (1 + min(turn, 3))
        helped = [h + part * (t - h) for h, t in zip(helped, then, strict=True)]
    decoding = _decoding(steps)
    pulled = [_handed_ms(pull, steps.tpot_ms, steps.step_ms, decoding) for pull in mix.pull_ms]
    here = [2 * NETWORK_MS + decoding * steps.step_ms * (0.5 + passes) for passes in mix.passes]
    local = Wait(busy, mix.work.alone_ms / 2, 0.0, busy)
    paths = [Path([1 - h for h in helped], waits, pulled), Path(helped, local, here)]
    return Running(mix.prompt_ms, paths, steps, waits.use)


def prefill_miss(
    demand: Demand, counts: Sequence[int], timing: Timing, machine: Machine, slo: Slo
) -> list[float]:
    """Share of requests whose first token would be late, for each count of prefill instances.

    Decode is taken to be quick and to help with no prompt.
    """
    mix = _mix_of(demand, timing, machine)
    step = timing.decode_pass_ms(0, 1)
    after = [_handed_ms(pull, step, step, 1.0) for pull in mix.pull_ms]
    return [_prefill_miss(demand.rate, count, mix, after, slo) for count in counts]


def _prefill_miss(rate: float, count: int, mix: Mix, after: list[float], slo: Slo) -> float:
    if rate <= 0:
        return 0.0
    if count <= 0:
        return 1.0
    waits = wait(rate / 1e3, count, mix.work)
    late = _late(slo.ttft_ms, mix, waits, after)
    over = max(0.0, 1 - 1 / waits.use)
    return (1 - OVER) * late + OVER * over


def _handed_ms(pull_ms: float, tpot_ms: float, step_ms: float, busy: float) -> float:
    """From prefill's end until the first token is seen: pull, then a step, between steps.

    busy: share of time in which decode is stepping.
    """
    between = tpot_ms / 2 + math.ceil(pull_ms / tpot_ms) * tpot_ms
    return 3 * NETWORK_MS + busy * between + (1 - busy) * pull_ms + step_ms


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
        steps.step_ms * _decoding(steps) * passes + price * (low + high) / 2
        - HANDOVER_MS - pull - SPREAD_MS * uneven
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
    return found / SLICES


def _quantile(share: float, running: Running) -> float:
    """The TTFT that so many requests do not exceed."""
    low, high = 0.0, 1.0
    while _late_in(high, running) > 1 - share and high < LATE_MS:
        low, high = high, 2 * high
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if _late_in(middle, running) > 1 - share else (low, middle)
    return high


def _tpot_spread(
    mix: Mix, decode: int, timing: Timing, machine: Machine, steps: Steps
) -> float:
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
    for (low, high), extra in zip(mix.prompt_ms, after, strict=True):
        found += 1 - _within(limit_ms - extra, low, high, waits)
    return found / SLICES


def _within(room_ms: float, low: float, high: float, waits: Wait) -> float:
    """P(prefill + wait ≤ room), prefill even between low and high."""
    if high - low < 1e-9:
        return _no_wait(room_ms - low, waits)
    return (_area(room_ms - low, waits) - _area(room_ms - high, waits)) / (high - low)


def _no_wait(room_ms: float, waits: Wait) -> float:
    """P(wait ≤ room)."""
    if room_ms < 0:
        return 0.0
    mean = waits.mean_ms + waits.mates_ms
    return 1 - waits.share * (math.exp(-room_ms / mean) if mean > 0 else 0.0)


def _area(room_ms: float, waits: Wait) -> float:
    """Integral of `_no_wait` from 0."""
    if room_ms <= 0:
        return 0.0
    mean = waits.mean_ms + waits.mates_ms
    return room_ms + (waits.share * mean * math.expm1(-room_ms / mean) if mean > 0 else 0.0)


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


def prefill_need(
    demand: Demand, timing: Timing, machine: Machine, slo: Slo, miss: float
) -> int:
    """The least count with no more misses, of requests that could be in time at all."""
    floor = prefill_miss(demand, [COUNT_MAX], timing, machine, slo)[0]
    return _least(
        lambda n: prefill_miss(demand, [n], timing, machine, slo)[0], floor + miss * (1 - floor)
    )


def decode_need(
    demand: Demand, timing: Timing, machine: Machine, slo: Slo, miss: float
) -> int:
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
