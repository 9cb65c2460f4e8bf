"""Prefill instances as one first-come-first-served pool, as fast as all of them together.

Position, not time, says when a prompt starts: the pool's clock runs at one second of work per
second and instance, and a prompt starts when the clock comes to the end of the work before
it. So what waits is served sooner when instances join, and later when they leave. (Lindley's
recursion, 1952, in the clock of the work; the pool starts a prompt as soon as all work before
it would be done, where real instances start it when the first of them is free.)
"""

import bisect
from collections import deque

import numpy as np

from argosy.domain.demand import Machine
from argosy.domain.timing import RACK, Timing
from argosy.sim.scaling.closed_form import prompts_ms, step_tokens
from argosy.sim.scaling.histogram import Numbers

AT, PROMPT, OUTPUT, WEIGHT, ALONE_S, POSITION, CAME = range(7)
"""Rows of a batch of requests: arrival (s), tokens, requests it stands for, work alone, where
it stands, when its KV came to decode (s)."""
LOADS = 200


class PrefillPool:
    """See the module."""

    def __init__(self, timing: Timing, machine: Machine, mean_prompt: float) -> None:
        self.timing = timing
        self.machine = machine
        self.queued = 0.0
        """Requests."""
        self.working = 0.0
        """Requests being prefilled, mean of the last tick, by Little's law."""
        self._queued_tokens = 0.0
        self._queue: deque[Numbers] = deque()
        self._clock = 0.0
        self._tail = 0.0
        """Position of the end of all work."""
        most = machine.tokens_per_step
        top = 1e3 * most / timing.prefill_step_ms(most)
        self._loads = [top * n / LOADS for n in range(LOADS + 1)]
        self._shared = [step_tokens(timing, load, mean_prompt, most) for load in self._loads]
        """Tokens of a step at each load, when nothing waits."""
        self._alone_s = timing.prefill_step_ms(round(min(mean_prompt, most))) / 1e3
        a, b = timing.kv_transfer_ms(0, RACK) / 1e3, timing.kv_transfer_ms(1, RACK) / 1e3
        self._transfer_s = (a, b - a)

    def batch(self, at_s: Numbers, prompt: Numbers, output: Numbers, weight: Numbers) -> Numbers:
        """Requests as this pool and the next know them."""
        alone_s = prompts_ms(self.timing, prompt, self.machine.tokens_per_step) / 1e3
        none = np.zeros_like(at_s)
        return np.stack([at_s, prompt, output, weight, alone_s, none, none])

    def tick(self, batch: Numbers, servers: int, from_s: float, tick_s: float) -> list[Numbers]:
        """Let a tick step: batches whose prompts began in it, AT still their arrival.

        POSITION and CAME become when their KV is at decode, in seconds.
        """
        clock = self._clock
        until = clock + servers * tick_s
        count = batch.shape[1]
        most, timing = self.machine.tokens_per_step, self.timing
        came = float(batch[PROMPT] @ batch[WEIGHT]) if count else 0.0
        load = came / (tick_s * servers) if servers else 0.0
        shared = self._shared[min(LOADS, bisect.bisect_left(self._loads, load))]
        shared = min(most, max(shared, self._queued_tokens / max(1, servers)))
        # A shared step is longer than a prompt's own.
        longer_s = timing.prefill_step_ms(round(shared)) / 1e3 - self._alone_s
        if count:
            alone_s = float(batch[ALONE_S] @ batch[WEIGHT])
            shared_s = came * timing.prefill_step_ms(round(shared)) / shared / 1e3
            self._enqueue(batch, servers, from_s, min(1.0, shared_s / alone_s))
        self._clock = until
        began: list[Numbers] = []
        self.working = 0.0
        queue = self._queue
        while queue:
            first = queue[0]
            ready = int(np.searchsorted(first[POSITION], until, side="right"))
            if not ready:
                break
            if ready == first.shape[1]:
                queue.popleft()
                going = first
            else:
                queue[0] = first[:, ready:]
                going = first[:, :ready].copy()
            self.queued -= float(going[WEIGHT].sum())
            self._queued_tokens -= float(going[PROMPT] @ going[WEIGHT])
            own_s = going[ALONE_S] + max(0.0, longer_s)
            self.working += float(own_s @ going[WEIGHT]) / tick_s
            # Who waited since an earlier tick began no sooner than this one.
            starts = from_s + np.maximum(going[POSITION] - clock, 0.0) / servers
            a, b = self._transfer_s
            going[POSITION] = np.maximum(starts, going[AT]) + own_s + a + b * going[PROMPT]
            going[CAME] = going[POSITION]
            began.append(going)
        if not queue:
            self.queued = self._queued_tokens = 0.0
        return began

    def _enqueue(self, batch: Numbers, servers: int, from_s: float, thrifty: float) -> None:
        weight, alone = batch[WEIGHT], batch[ALONE_S]
        work = alone * weight
        if weight[0] != 1.0:
            # Several requests' work varies less than as many times one's.
            mean = float(work.sum() / weight.sum())
            work = weight * mean + np.sqrt(weight) * (alone - mean)
        work = work * thrifty
        sums = np.cumsum(work)
        before = sums - work
        came = self._clock + (batch[AT] - from_s) * servers
        free = np.maximum.accumulate(came - before)
        ends = sums + np.maximum(free, self._tail)
        self._tail = float(ends[-1])
        batch[POSITION] = np.maximum.accumulate(ends - work)
        self.queued += float(weight.sum())
        self._queued_tokens += float(batch[PROMPT] @ weight)
        self._queue.append(batch)
