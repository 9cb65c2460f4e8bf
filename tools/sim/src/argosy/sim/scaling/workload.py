"""Who arrives in which tick: the same for every policy, drawn once from a seed."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from argosy.domain.demand import Demand
from argosy.sim.traces.trace import TraceRequest

Numbers = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], tuple[Numbers, Numbers]]
"""Draws (prompt tokens, output tokens) of a number of requests."""

SAMPLES = 64
"""A tick with more requests than this is represented by this many groups of them."""
JITTER_S = 30.0
"""Copies of a request arrive within this many seconds of it,"""
NEAR = 100
"""and are as long as one of this many requests before or after it."""
CHUNK_TICKS = 4096


@dataclass(frozen=True)
class Workload:
    """Requests by arrival. Arrays are parallel but `first`, which has one more than ticks."""

    tick_s: float
    first: npt.NDArray[np.int64]
    """Index of each tick's first request."""
    at_s: Numbers
    prompt: Numbers
    output: Numbers
    weight: Numbers
    """Requests that each one stands for."""

    @property
    def ticks(self) -> int:
        """The number of spans of tick_s."""
        return len(self.first) - 1

    @property
    def span_s(self) -> float:
        """Of the whole."""
        return self.ticks * self.tick_s

    @property
    def requests(self) -> float:
        """That arrive in all."""
        return float(self.weight.sum())

    def demand(self, span_s: float) -> list[Demand]:
        """True rate and lengths of each span of time."""
        spans = (self.at_s / span_s).astype(np.int64)
        count = max(1, math.ceil(self.span_s / span_s))

        def summed(values: Numbers) -> Numbers:
            return np.bincount(spans, self.weight * values, count).astype(np.float64)

        sums = [
            summed(v)
            for v in (
                np.ones_like(self.at_s),
                self.prompt,
                self.prompt**2,
                self.output,
                self.output**2,
            )
        ]
        return [_demand(span_s, *row) for row in np.stack(sums, axis=1).tolist()]

    def trace(self) -> list[TraceRequest]:
        """Request by request, for the event-accurate simulation; each must stand for itself."""
        assert (self.weight == 1).all()
        rows = zip(self.at_s.tolist(), self.prompt.tolist(), self.output.tolist(), strict=True)
        return [TraceRequest(round(1e6 * at), int(p), int(o), []) for at, p, o in rows]


def _demand(
    span_s: float, n: float, prompt: float, prompt2: float, output: float, output2: float
) -> Demand:
    if n <= 0:
        return Demand(0)
    p, o = prompt / n, output / n
    return Demand(
        n / span_s,
        p,
        math.sqrt(max(0.0, prompt2 / n - p * p)),
        o,
        math.sqrt(max(0.0, output2 / n - o * o)),
    )


def from_rates(
    rates: Numbers, tick_s: float, draw: Draw, seed: int, samples: int = SAMPLES
) -> Workload:
    """Poisson arrivals around a rate for each tick; at most `samples` groups tell of one tick."""
    chance = np.random.default_rng(seed)
    parts = []
    for start in range(0, len(rates), CHUNK_TICKS):
        counts = chance.poisson(rates[start : start + CHUNK_TICKS] * tick_s)
        tick = np.repeat(np.arange(len(counts)), counts)
        prompt, output = draw(chance, len(tick))
        parts.append(gathered(tick, len(counts), prompt, output, samples, chance))
    return _joined(parts, tick_s)


def from_requests(
    trace: list[TraceRequest], factor: float, tick_s: float, seed: int, samples: int = SAMPLES
) -> Workload:
    """A trace's own arrivals and lengths at `factor` times its rate.

    Each request comes floor(factor) times, and once more by chance for the rest. Copies arrive
    within JITTER_S of it and have the lengths of requests near it in the trace: as many of the
    same at once, the same burst many times as large, is what a larger service does not see. Time
    stays as it was, for what a policy has to keep up with is how quickly demand changes.
    """
    chance = np.random.default_rng(seed)
    copies = np.floor(factor + chance.random(len(trace))).astype(np.int64)
    own = np.array([(r.arrived_us / 1e6, r.prompt_tokens, r.output_tokens) for r in trace])
    which = np.repeat(np.arange(len(own)), copies)
    again = np.arange(len(which)) - np.repeat(np.cumsum(copies) - copies, copies) > 0
    at = own[which, 0] + np.where(again, (chance.random(len(which)) - 0.5) * 2 * JITTER_S, 0.0)
    near = which + np.where(again, chance.integers(-NEAR, NEAR + 1, len(which)), 0)
    near = np.clip(near, 0, len(own) - 1)
    end = float(own[-1, 0])
    ticks = int(end / tick_s) + 1
    tick = (np.clip(at, 0.0, end) / tick_s).astype(np.int64)
    if copies.max(initial=0) <= 1:  # The trace itself, or less of it: to the microsecond.
        first = np.concatenate([[0], np.cumsum(np.bincount(tick, minlength=ticks))])
        return Workload(tick_s, first, at, own[near, 1], own[near, 2], np.ones(len(at)))
    order = np.argsort(tick, kind="stable")
    rows = own[near[order]]
    return _joined([gathered(tick[order], ticks, rows[:, 1], rows[:, 2], samples, chance)], tick_s)


def gathered(
    tick: npt.NDArray[np.int64],
    ticks: int,
    prompt: Numbers,
    output: Numbers,
    samples: int,
    chance: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], Numbers]:
    """Requests of a tick, by length in at most `samples` groups: (groups of each tick, rows).

    Rows: time in ticks, mean prompt, mean output, requests. Sums are those of the requests, so
    that a tick's work is as irregular as theirs, and no more.
    """
    counts = np.bincount(tick, minlength=ticks)
    groups = np.minimum(counts, samples)
    order = np.lexsort((prompt, tick))
    place = np.arange(len(tick)) - np.repeat(np.cumsum(counts) - counts, counts)
    within = place * np.repeat(groups, counts) // np.maximum(np.repeat(counts, counts), 1)
    group = np.repeat(np.cumsum(groups) - groups, counts) + within
    total = int(groups.sum())
    weight = np.bincount(group, minlength=total).astype(np.float64)
    rows = np.empty((4, total))
    rows[0] = np.repeat(np.arange(ticks), groups) + chance.random(total)
    rows[1] = np.bincount(group, prompt[order], total) / np.maximum(weight, 1)
    rows[2] = np.bincount(group, output[order], total) / np.maximum(weight, 1)
    rows[3] = weight
    return groups, rows[:, np.argsort(rows[0], kind="stable")]


def _joined(parts: list[tuple[npt.NDArray[np.int64], Numbers]], tick_s: float) -> Workload:
    ticks = np.cumsum([0, *(len(groups) for groups, _ in parts)])
    rows = np.concatenate([rows for _, rows in parts], axis=1)
    sizes = [part.shape[1] for _, part in parts]
    rows[0] += np.repeat(ticks[:-1], sizes)
    first = np.concatenate([[0], np.cumsum(np.concatenate([groups for groups, _ in parts]))])
    return Workload(tick_s, first, rows[0] * tick_s, rows[1], rows[2], rows[3])
