"""Who arrives in which tick: the same for every policy, drawn once from a seed."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from argosy.autoscaler.core.demand import Demand
from argosy.cli.sim.trace import TraceRequest

Numbers = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], tuple[Numbers, Numbers]]
"""(prompt tokens, output tokens) of so many requests."""

SAMPLES = 64
"""A tick with more requests than this is told by so many of them, each standing for several."""
JITTER_S = 10.0
"""Copies of a request arrive within so many seconds of it."""


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
        """So many spans of tick_s."""
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

        sums = [summed(v) for v in (np.ones_like(self.at_s), self.prompt, self.prompt**2,
                                    self.output, self.output**2)]  # fmt: skip
        return [_demand(span_s, *row) for row in np.stack(sums, axis=1).tolist()]

    def trace(self) -> list[TraceRequest]:
        """Request by request, for the event-accurate world; each must stand for itself."""
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
        n / span_s, p, math.sqrt(max(0.0, prompt2 / n - p * p)),
        o, math.sqrt(max(0.0, output2 / n - o * o)),
    )  # fmt: skip


def from_rates(
    rates: Numbers, tick_s: float, draw: Draw, seed: int, samples: int = SAMPLES
) -> Workload:
    """Poisson arrivals around a rate for each tick; `samples` bounds those drawn of one tick."""
    chance = np.random.default_rng(seed)
    counts = chance.poisson(rates * tick_s)
    drawn = np.minimum(counts, samples)
    first = np.concatenate([[0], np.cumsum(drawn)])
    total = int(first[-1])
    at = np.repeat(np.arange(len(rates)), drawn) + chance.random(total)
    at.sort()
    prompt, output = draw(chance, total)
    weight = np.repeat(counts / np.maximum(drawn, 1), drawn)
    return Workload(tick_s, first, at * tick_s, prompt, output, weight)


def from_requests(
    trace: list[TraceRequest], factor: float, tick_s: float, seed: int, samples: int = SAMPLES
) -> Workload:
    """A trace's own arrivals and lengths at `factor` times its rate.

    Each request comes floor(factor) times, and once more by chance for the rest; all but the
    request itself within ten seconds of it. Time stays as it was, for what a policy has to
    keep up with is how quickly demand changes.
    """
    chance = np.random.default_rng(seed)
    copies = np.floor(factor + chance.random(len(trace))).astype(np.int64)
    own = np.array([(r.arrived_us / 1e6, r.prompt_tokens, r.output_tokens) for r in trace])
    rows = np.repeat(own, copies, axis=0)
    again = np.arange(len(rows)) - np.repeat(np.cumsum(copies) - copies, copies)
    rows[:, 0] += np.where(again > 0, (chance.random(len(rows)) - 0.5) * 2 * JITTER_S, 0.0)
    end = float(own[-1, 0])
    rows[:, 0] = np.clip(rows[:, 0], 0.0, end)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    ticks = int(end / tick_s) + 1
    tick = (rows[:, 0] / tick_s).astype(np.int64)
    counts = np.bincount(tick, minlength=ticks)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    # Every so-manieth of a crowded tick, in its order.
    kept = np.minimum(counts, samples)
    many = np.maximum(counts, 1)[tick]
    few = kept[tick]
    keep = (place * few) // many != ((place - 1) * few) // many
    rows, tick = rows[keep], tick[keep]
    drawn = np.bincount(tick, minlength=ticks)
    weight = (counts / np.maximum(drawn, 1))[tick]
    first = np.concatenate([[0], np.cumsum(drawn)])
    return Workload(tick_s, first, rows[:, 0], rows[:, 1], rows[:, 2], weight)
