"""What one instance can do: as its engine announced it, corrected by what its steps took.

Ridge regression with the announced times as the prior (Hoerl and Kennard, 1970), on decayed
normal equations: with few steps the announced times hold, with many the measured ones. Times
are divided by what was announced, so that long steps weigh no more than short ones. Steps of
an instance that has just come up are left out: they are slow for other reasons.
"""

import math

import msgspec

from argosy.autoscaler.core import events
from argosy.autoscaler.core.state import AutoscalerState, Baseline, Member, StepTimeFit
from argosy.domain.timing import Timing

COLD_US = 30_000_000
"""Steps of an instance that came up less than this ago are left out: caches are cold, and code is
still being compiled."""
PRIOR = 20.0
"""The announced times weigh as much as this many steps: a few odd steps change little, and a few
seconds of steps outweigh them."""
KEEP = 0.998
"""What a step weighs after each later one: the last 500 or so count."""
LEAST, MOST = 0.1, 10.0
"""Measured times are believed within these multiples of the announced ones: beyond them a clock or
the fit is at fault."""
LEAST_MS = 1e-3
"""No step takes less."""
MOVED = 0.03
REFIT = 50
"""Steps between two solutions: fewer change the times by too little to be worth one."""


def joined(state: AutoscalerState, event: events.MemberJoined) -> None:
    """An instance announced what it can do."""
    base = state.baselines.setdefault(event.role, Baseline())
    if min(event.machine.kv_tokens, event.machine.max_running, event.machine.tokens_per_step) > 0:
        base.machine = event.machine
    # Where an engine announces nothing its steps soon tell, whatever one begins with.
    possible_timing = event.timing if event.timing is not None and possible(event.timing) else None
    announced = possible_timing or base.announced or Timing()
    if announced != base.announced:
        base.announced = base.timing = announced
        base.prefill, base.decode = fresh(3), fresh(4)


def possible(timing: Timing) -> bool:
    """Whether an engine can be as fast as that: all finite, and no step takes no time."""
    numbers = (
        *timing.prefill_ms,
        *timing.decode_ms,
        timing.decode_ms_per_request,
        timing.transfer_ms,
        *timing.transfer_gb_per_s,
    )
    if not all(math.isfinite(number) for number in numbers) or min(timing.transfer_gb_per_s) <= 0:
        return False
    steps = [timing.prefill_step_ms(n) for n in (1, 8192)]
    steps += [timing.decode_step_ms(p / 8, b) for p in range(9) for b in (1, 256)]
    return min(steps) >= LEAST_MS


def fresh(size: int) -> StepTimeFit:
    """Nothing seen yet."""
    return StepTimeFit([[0.0] * size for _ in range(size)], [0.0] * size)


def steps_seen(state: AutoscalerState, member: Member, event: events.LoadSeen) -> None:
    """Learn from an instance's steps, unless it has just come up or is not at work."""
    base = state.baselines.get(member.role)
    if base is None or base.announced is None or base.prefill is None or base.decode is None:
        return
    if member.state != "active" or event.now_us - member.since_us < COLD_US:
        return
    for one in event.steps:
        if not sound(one):
            continue
        if one.prefill_tokens and not one.decode_requests:
            n = one.prefill_tokens
            learn(base.prefill, [1.0, n, n * n], one.us / 1e3, base.announced.prefill_step_ms(n))
        elif one.decode_requests and not one.prefill_tokens:
            p, b = one.kv_share, one.decode_requests
            announced_ms = base.announced.decode_step_ms(p, b)
            learn(base.decode, [1.0, p, p * p, b], one.us / 1e3, announced_ms)
    if base.prefill.seen + base.decode.seen >= REFIT:
        base.prefill.seen = base.decode.seen = 0
        corrected = solved(base)
        if near(base.announced, corrected) and moved(base.timing or base.announced, corrected):
            base.timing = corrected


def near(announced: Timing, corrected: Timing) -> bool:
    """Whether whole steps are believed: coefficients of both signs can add up to nonsense."""
    pairs = [
        (announced.decode_step_ms(p / 8, b), corrected.decode_step_ms(p / 8, b))
        for p in range(9)
        for b in (1, 64, 256)
    ]
    return all(LEAST * before <= after <= MOST * before for before, after in pairs)


def moved(old: Timing, new: Timing) -> bool:
    """Whether some typical step takes noticeably longer or shorter now."""
    typical = [(old.prefill_step_ms(n), new.prefill_step_ms(n)) for n in (256, 2048, 8192)]
    typical += [
        (old.decode_step_ms(p, b), new.decode_step_ms(p, b)) for p, b in ((0, 1), (0.5, 64))
    ]
    return any(abs(after - before) > MOVED * before for before, after in typical)


def sound(one: events.MeasuredStep) -> bool:
    """Whether a step can have been as it was reported."""
    numbers = (one.us, one.prefill_tokens, one.decode_requests, one.kv_share)
    fits = all(math.isfinite(number) and number >= 0 for number in numbers)
    return fits and one.us > 0 and one.kv_share <= 1


def learn(fit: StepTimeFit, x: list[float], ms: float, announced_ms: float) -> None:
    """Take in one step. One that took far more or less than announced counts as the bound."""
    if announced_ms <= 0:
        return
    ratio = min(MOST, max(LEAST, ms / announced_ms))
    scaled = [value / announced_ms for value in x]
    for i, left in enumerate(scaled):
        fit.xy[i] = KEEP * fit.xy[i] + left * ratio
        for j, right in enumerate(scaled):
            fit.xx[i][j] = KEEP * fit.xx[i][j] + left * right
    fit.seen += 1


def solved(base: Baseline) -> Timing:
    """The announced times, corrected."""
    assert base.announced is not None
    assert base.prefill is not None
    assert base.decode is not None
    announced = base.announced
    a, b, c = ridge(base.prefill, list(announced.prefill_ms))
    d = ridge(base.decode, [*announced.decode_ms, announced.decode_ms_per_request])
    return msgspec.structs.replace(
        announced, prefill_ms=(a, b, c), decode_ms=(d[0], d[1], d[2]), decode_ms_per_request=d[3]
    )


def ridge(fit: StepTimeFit, prior: list[float]) -> list[float]:
    """Coefficients near the prior, each held to it in proportion to its own size."""
    size = len(prior)
    rows = []
    for i in range(size):
        # A coefficient of 0 is known to be 0: held there.
        held = PRIOR / (prior[i] * prior[i]) / size if abs(prior[i]) > 1e-9 else 1e18
        row = [*fit.xx[i], fit.xy[i] + held * prior[i]]
        row[i] += held
        rows.append(row)
    found = solve(rows)
    return [
        math.copysign(min(max(math.copysign(1, p) * value, LEAST * abs(p)), MOST * abs(p)), p)
        for value, p in zip(found, prior, strict=True)
    ]


def solve(rows: list[list[float]]) -> list[float]:
    """Gaussian elimination with row pivots; the matrix is positive definite."""
    size = len(rows)
    for i in range(size):
        best = max(range(i, size), key=lambda k: abs(rows[k][i]))
        rows[i], rows[best] = rows[best], rows[i]
        for k in range(i + 1, size):
            factor = rows[k][i] / rows[i][i]
            rows[k] = [x - factor * y for x, y in zip(rows[k], rows[i], strict=True)]
    found = [0.0] * size
    for i in range(size - 1, -1, -1):
        rest = sum(rows[i][j] * found[j] for j in range(i + 1, size))
        found[i] = (rows[i][size] - rest) / rows[i][i]
    return found
