"""Prompts waiting for instances that take several of them into a pass: a birth-death chain.

State: requests at the pool. Up to as many as there are instances each has one to itself;
more share passes, which cost less by the request the fuller they are (`Work.each_ms`), up to
a full pass; beyond that they queue, as in M/M/c. Waits are scaled by Allen and Cunneen's
(1 + scv) / 2 for the spread of service times. Sources: Erlang's C; Allen, Probability, Statistics
and Queueing Theory (1990); service that depends on the state as in Neuts' bulk queues.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

USE_MAX = 0.995
"""The chain is solved up to this use; beyond, a queue grows for as long as demand lasts."""
OVERLOAD_MS = 60_000.0
"""How long it is taken to last: more overload is told from less by what waits by then."""
TAIL = 1e-9


class Work(NamedTuple):
    """What one request asks of the pool, in milliseconds of an instance."""

    alone_ms: float
    """In passes of its own."""
    scv: float
    """Squared coefficient of variation of that."""
    base_ms: float
    linear_ms: float
    square_ms: float
    """A pass of n requests: base + linear·n + square·n²."""
    most: float
    """Requests that fill a pass."""
    full_ms: float
    """In full passes."""

    def each_ms(self, n: float) -> float:
        """Per request, when n share a pass."""
        if n <= 1:
            return self.alone_ms
        if n >= self.most:
            return self.full_ms
        return self.base_ms / n + self.linear_ms + self.square_ms * n


class Wait(NamedTuple):
    """How an arrival fares before and beside its own prefill."""

    share: float
    """Of those that stay: who wait."""
    mean_ms: float
    """Of those who wait: until their pass begins."""
    mates_ms: float
    """Of those who wait: by what their pass is longer for the others in it."""
    use: float
    left: float = 0
    """Share of arrivals that went elsewhere."""
    states: Sequence[tuple[float, float]] = ()
    """(chance, wait) an arrival finds; only where some leave."""


def wait(
    rate_per_ms: float, servers: int, work: Work, leaves: Callable[[float], float] | None = None
) -> Wait:
    """Of a pool of `servers` under Poisson arrivals.

    leaves(ms): share of arrivals that go elsewhere rather than to wait so long here.
    """
    least_ms = min(work.alone_ms, work.full_ms)
    use = rate_per_ms * least_ms / servers
    spread = (1 + work.scv) / 2
    if leaves is None and use >= USE_MAX:
        queue_ms = spread * least_ms / (servers * (1 - USE_MAX))
        mates_ms = max(0.0, work.most * work.full_ms - work.alone_ms)
        return Wait(1.0, queue_ms + OVERLOAD_MS * (use - USE_MAX) / 2, mates_ms, use)
    return _solve(rate_per_ms, servers, work, leaves, spread, use)


def _solve(
    rate: float, servers: int, work: Work, leaves: Callable[[float], float] | None,
    spread: float, use: float,
) -> Wait:  # fmt: skip
    gone = leaves(0.0) if leaves else 0.0
    idle_leaves = gone
    p = total = 1.0
    left = gone
    waiting = wait_sum = mates_sum = speed = ahead_ms = mates_ms = 0.0
    offered = rate * work.alone_ms
    k = 0
    states = [(1.0, 0.0)]
    while True:
        k += 1
        p *= rate * (1 - gone)
        n = 1.0 if k <= servers else max(1.0, k / (servers + 0.5))
        each_ms = work.each_ms(n)
        speed = max(speed, min(k, servers) / each_ms)
        p /= speed
        if k >= servers:
            queued = max(0.0, k - servers * work.most) if n >= work.most else 0.0
            in_pass = min(n, work.most) if n > 1 else 1.0
            ahead_ms = spread * (in_pass * each_ms / servers + queued / speed)
            if work.most <= 1:
                ahead_ms = spread * (k - servers + 1) / speed
            mates_ms = max(0.0, in_pass * each_ms - work.alone_ms)
            gone = leaves(ahead_ms + mates_ms) if leaves else 0.0
            stay = p * (1 - gone)
            waiting += stay
            wait_sum += stay * ahead_ms
            mates_sum += stay * mates_ms
        else:
            gone = idle_leaves
        total += p
        left += p * gone
        if leaves:
            states.append((p, ahead_ms + mates_ms))
        if (k > offered and p < TAIL * total) or k > 20_000:
            break
        if leaves is None and k > servers and n >= work.most:
            # What is left is geometric: each ahead in the queue takes 1 / speed.
            ratio = min(USE_MAX, rate / speed)
            more = p * ratio / (1 - ratio)
            total += more
            waiting += more
            wait_sum += more * (ahead_ms + spread / (1 - ratio) / speed)
            mates_sum += more * mates_ms
            break
    if waiting <= 0:
        return Wait(0.0, 0.0, 0.0, use, left / total)
    found = [(p / total, ms) for p, ms in states] if leaves else []
    stayed = max(total - left, TAIL * total)
    return Wait(
        min(1.0, waiting / stayed), wait_sum / waiting, mates_sum / waiting, use, left / total, found
    )
