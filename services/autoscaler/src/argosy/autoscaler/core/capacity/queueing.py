"""Prompts waiting for instances that take several of them into a step: a birth-death chain.

State: requests at the pool. Up to as many as there are instances each has one to itself;
more share steps, which cost less by the request the fuller they are, up to a full step; beyond
that they queue. While a step runs the next one's requests gather, and longer steps have
more of them: with n to a step there are n + (n - 1)·gather of them to an instance (`Work`).
An arrival that makes it k requests is through after k / speed(k): exact for M/M/c, and with
Little's law for any speeds. What it waits is scaled by Allen and Cunneen's (1 + scv) / 2.
Sources: Erlang's C; Allen, Probability, Statistics and Queueing Theory (1990).
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

USE_MAX = 0.995
"""The chain is solved up to this use; beyond, a queue grows for as long as demand lasts, and the
number of states that matter with it."""
OVERLOAD_MS = 600_000.0
"""How long overload is taken to last: what waits after ten minutes tells more overload from less.
Longer than any SLO, so that every overload misses it."""
TAIL, HUGE = 1e-9, 1e200
"""States less likely than TAIL are left out: misses of one in a million stay exact to a thousandth.
HUGE: chances are scaled down from here, far below what a float can hold."""
STATES_MAX = 4000
"""More of them are taken to be served as quickly as this many: at 64 instances that is 60 to each,
where a queue has long missed every SLO."""
OFFER_MAX = 2
"""At twice what the pool can do nearly every request that can go elsewhere does; more of them
change nothing but the time that the chain takes."""


class RequestWork(NamedTuple):
    """What one request asks of the pool, in milliseconds of an instance."""

    alone_ms: float
    """In steps of its own."""
    scv: float
    """Squared coefficient of variation of that."""
    base_ms: float
    linear_ms: float
    square_ms: float
    """A step of n requests: base + linear·n + square·n²."""
    most: float
    """Requests that fill a step."""
    full_ms: float
    """In full steps."""
    gather: float
    """Requests at an instance for each that a step has beside the first."""
    own: float
    """Share of `alone_ms` that one more request in a step takes."""

    def each_ms(self, n: float) -> float:
        """Per request, when n share a step."""
        if n <= 1:
            return self.alone_ms
        if n >= self.most:
            return self.full_ms
        return self.base_ms / n + self.linear_ms + self.square_ms * n


class Wait(NamedTuple):
    """How an arrival fares beside its own prefill."""

    share: float
    """Of those that stay: who are held up."""
    mean_ms: float
    """By how much, of those: until their pass begins, and by what others make it longer."""
    least_ms: float
    """From which on waits are exponential, so that mean and deviation are right."""
    use: float
    left: float = 0
    """Share of arrivals that went elsewhere."""
    busy: float = 0
    """Share of time an instance is in a step."""
    states: Sequence[tuple[float, float]] = ()
    """(chance, wait) that an arrival finds; only where some leave."""


def wait(
    rate_per_ms: float,
    servers: int,
    work: RequestWork,
    leaves: Callable[[float], float] | None = None,
) -> Wait:
    """Of a pool of `servers` under Poisson arrivals.

    leaves(ms): share of arrivals that go elsewhere rather than to wait so long here.
    """
    least_ms = min(work.alone_ms, work.full_ms)
    use = rate_per_ms * least_ms / servers
    spread = (1 + work.scv) / 2
    if leaves is None and use >= USE_MAX:
        nearly = _at_most(servers, work)
        mean_ms = nearly.mean_ms + OVERLOAD_MS * (use - USE_MAX) / 2
        return Wait(1.0, mean_ms, nearly.least_ms, use, busy=1.0)
    if leaves is None:
        return _solve(rate_per_ms, servers, work, None, spread, use)
    rate = min(rate_per_ms, OFFER_MAX * servers / least_ms)
    found = _solve(rate, servers, work, leaves, spread, use)
    late_ms = OVERLOAD_MS * max(0.0, use * (1 - found.left) - USE_MAX) / 2
    return found._replace(mean_ms=found.mean_ms + late_ms)


@lru_cache(maxsize=8192)
def _at_most(servers: int, work: RequestWork) -> Wait:
    least_ms = min(work.alone_ms, work.full_ms)
    rate = USE_MAX * servers / least_ms
    return _solve(rate, servers, work, None, (1 + work.scv) / 2, USE_MAX)


def _solve(
    rate: float,
    servers: int,
    work: RequestWork,
    leaves: Callable[[float], float] | None,
    spread: float,
    use: float,
) -> Wait:
    """Walk up the states, each with its chance in proportion to the first one's."""
    offered = rate * work.alone_ms
    idle_leaves = gone = leaves(0.0) if leaves else 0.0
    p = total = 1.0
    left = gone
    piece_ms = _piece_ms(servers, work)
    waiting = wait_sum = square_sum = speed = busy = 0.0
    states = [(1.0, 0.0)]
    k = 0
    while True:
        k += 1
        n = 1.0 if k <= servers else 1 + (k / servers - 1) / (1 + work.gather)
        full = k > servers and n >= work.most
        speed = max(speed, min(k, servers) / work.each_ms(n))
        p *= rate * (1 - gone) / speed
        # What the next to come finds is this state.
        held_ms = 0.0
        gone = idle_leaves
        if k >= servers:
            held_ms = _held_ms(k, servers, speed, work, spread)
            gone = leaves(held_ms) if leaves else 0.0
            waiting += p * (1 - gone)
            wait_sum += p * (1 - gone) * held_ms
            square_sum += p * (1 - gone) * held_ms * (held_ms + min(held_ms, piece_ms))
        total += p
        if p > HUGE:
            # Only proportions count.
            states = [(chance / p, ms) for chance, ms in states]
            total, waiting, wait_sum, square_sum, busy, left = (
                value / p for value in (total, waiting, wait_sum, square_sum, busy, left)
            )
            p = 1.0
        busy += p * min(k, servers)
        left += p * gone
        if leaves:
            states.append((p, held_ms))
        if k > offered and p < TAIL * total:
            break
        if (full and leaves is None) or k >= STATES_MAX:
            more, then_ms = _states_beyond(p, rate * (1 - gone) / speed, spread, speed)
            total += more
            waiting += more
            busy += more * servers
            wait_sum += more * (held_ms + then_ms)
            square_sum += more * (held_ms**2 + 2 * held_ms * then_ms + 2 * then_ms**2)
            break
    mean_ms, least_ms = _mean_and_least(waiting, wait_sum, square_sum)
    return Wait(
        min(1.0, waiting / max(total - left, TAIL * total)),
        mean_ms,
        least_ms,
        use,
        left / total,
        busy / total / servers,
        [(p / total, ms) for p, ms in states] if leaves else (),
    )


def _held_ms(k: int, servers: int, speed: float, work: RequestWork, spread: float) -> float:
    """By how much an arrival is held up that finds k requests at the pool."""
    n = 1 + ((k + 1) / servers - 1) / (1 + work.gather)
    after = max(speed, servers / work.each_ms(n))
    return spread * max(0.0, (k + 1) / after - work.alone_ms)


def _mean_and_least(waiting: float, wait_sum: float, square_sum: float) -> tuple[float, float]:
    """Mean of the waits, and from where on an exponential has their mean and deviation."""
    mean_ms = wait_sum / waiting if waiting > 0 else 0.0
    variance = max(0.0, square_sum / waiting - mean_ms**2) if waiting > 0 else 0.0
    return mean_ms, max(0.0, mean_ms - math.sqrt(variance))


def _piece_ms(servers: int, work: RequestWork) -> float:
    """What a wait is made of: steps that end one after the other, or prompts in one step."""
    shared = work.own * min(1.0, max(0.0, work.most - 1))
    return work.alone_ms * (1 / servers + (1 - 1 / servers) * shared)


def _states_beyond(p: float, ratio: float, spread: float, speed: float) -> tuple[float, float]:
    """The chance of all states beyond one of chance p, and the mean wait that they add.

    They are geometric: each request ahead in the queue takes 1 / speed.
    """
    ratio = min(USE_MAX, ratio)
    return p * ratio / (1 - ratio), spread / (1 - ratio) / speed
