"""Decode instances as a mean field: every running request gets a token in each step.

Steps are counted by one clock of tokens, whose speed follows KV in use and requests running
(Timing.decode_step_ms). A request that joins at a count of tokens is done when the clock has
gone on by its output, so all that end near the same count share a bin, and a tick costs the
same whatever runs. KV grows with the clock. Beyond the room there is, requests wait, first
come, first served. KV that grows where none is free preempts the newest, which are computed
anew among the rest.
"""

from collections import deque

import numpy as np

from argosy.domain.demand import Machine
from argosy.domain.timing import Timing
from argosy.sim.scaling.flow_prefill import AT, CAME, OUTPUT, POSITION, PROMPT, WEIGHT
from argosy.sim.scaling.histogram import Numbers

BIN_TOKENS = 8
COUNT, GOOD, PROMPTS, BEGAN_TOKENS, BEGAN_S, OUT, OUT_SQUARED = range(7)
"""Rows of the bins: sums over the requests that end there."""
TICK_MAX_S = 10.0
PREEMPTED = 0.1
"""Of those let in while others wait for KV: as many as in the event-accurate simulation."""
FIRST_STEPS = 1.5
"""From KV's arrival to the first token: the rest of a step under way, and one."""


class Ended:
    """What ended in a tick: arrays by bin."""

    def __init__(
        self, rows: Numbers, clock: float, until: float, from_s: float, tick_s: float
    ) -> None:
        self.count = rows[COUNT]
        self.good = rows[GOOD]
        self.output = float(rows[OUT].sum())
        self.output_squared = float(rows[OUT_SQUARED].sum())
        steps = rows[OUT] - rows[COUNT]
        ends = rows[BEGAN_TOKENS] + steps - clock * self.count
        spans_s = from_s * self.count + ends * (tick_s / (until - clock)) - rows[BEGAN_S]
        # Answers of one token have no time per token: they are within any.
        self.tpot_ms = 1e3 * np.maximum(spans_s, 0.0) / np.maximum(steps, 1e-3 + self.count / 2)


class DecodePool:
    """See the module. `instances` may change between ticks."""

    def __init__(self, timing: Timing, machine: Machine, longest_output: float) -> None:
        self.timing = timing
        self.machine = machine
        self.instances = 0
        self.running = 0.0
        self.waiting = 0.0
        self.kv_share = 0.0
        self.gone = False
        """It has drained: what fractions of requests are left cost nothing."""
        # A tick may begin requests as far ahead as the quickest steps go in it.
        ahead = 1e3 * TICK_MAX_S / timing.decode_step_ms(0, 1)
        self._bins = int(longest_output + ahead) // BIN_TOKENS + 3
        self._ring = np.zeros((7, self._bins))
        self._sums = np.zeros(7)
        self._clock = 0.0
        self._wait: deque[Numbers] = deque()
        self._recomputing = 0.0
        """Share of time beside the steps that goes to preempted prompts."""

    def part(self, leaving: int) -> "DecodePool":
        """Lets this many instances drain with their share of what runs; nothing joins them."""
        other = DecodePool(self.timing, self.machine, 0)
        share = leaving / self.instances if self.instances else 0.0
        other._bins, other._clock, other.instances = self._bins, self._clock, leaving
        other._ring = self._ring * share
        other._sums = self._sums * share
        other.running = self.running * share
        self._ring *= 1 - share
        self._sums *= 1 - share
        self.running *= 1 - share
        self.instances -= leaving
        return other

    def tick(
        self, came: list[Numbers], from_s: float, tick_s: float, slo_ttft_s: float
    ) -> tuple[Ended, Numbers, Numbers, Numbers]:
        """Let a tick step; `came`: batches whose KV arrives at POSITION, in seconds.

        Returns what ended, and of those that began TTFT (s), its part spent here, and weights.
        """
        step_ms = self._step_ms()
        clock = self._clock
        until = clock + 1e3 * tick_s / step_ms
        room_before = self._room(clock)
        ended = self._end(clock, until, from_s, tick_s)
        self._clock = until
        self._recomputing = 0.0
        freed = max(1e-9, self._room(until) - room_before)
        joined = self._join(came, room_before, freed, from_s, tick_s)
        ttft_s = np.zeros(0)
        weight = here_s = ttft_s
        if joined is not None:
            first_s = joined[POSITION] + FIRST_STEPS * step_ms / 1e3
            ttft_s, weight = first_s - joined[AT], joined[WEIGHT]
            here_s = first_s - joined[CAME]
            began = clock + np.maximum(first_s - from_s, 0.0) * (1e3 / step_ms)
            self._add(joined, began, first_s, weight * (ttft_s <= slo_ttft_s))
        self.kv_share = self._kv(until) / max(1, self.instances * self.machine.kv_tokens)
        return ended, ttft_s, here_s, weight

    def _step_ms(self) -> float:
        instances = max(1, self.instances)
        share = self._kv(self._clock) / (instances * self.machine.kv_tokens)
        step = self.timing.decode_step_ms(min(1.0, share), round(self.running / instances))
        # More KV than there is: some stand still.
        return step * max(1.0, share) * (1 + self._recomputing)

    def _kv(self, clock: float) -> float:
        sums = self._sums
        return max(0.0, float(sums[PROMPTS] + sums[COUNT] * clock - sums[BEGAN_TOKENS]))

    def _room(self, clock: float) -> float:
        return self.instances * self.machine.kv_tokens - self._kv(clock)

    def _end(self, clock: float, until: float, from_s: float, tick_s: float) -> Ended:
        first, last = int(clock // BIN_TOKENS), int(until // BIN_TOKENS)
        count = min(last - first, self._bins)
        which = np.arange(last - count, last)
        slots = which % self._bins
        rows = self._ring[:, slots]
        self._ring[:, slots] = 0.0
        self._sums -= rows.sum(axis=1)
        self.running = max(0.0, self.running - float(rows[COUNT].sum()))
        if self.running < 1e-6:
            self._sums[:] = self.running = 0.0
            if self._ring[COUNT].any():
                self._settle()
        return Ended(rows, clock, until, from_s, tick_s)

    def _settle(self) -> None:
        """Sums anew from what is left: they had nearly cancelled out."""
        self._sums = self._ring.sum(axis=1)
        self.running = float(self._sums[COUNT])

    def _join(
        self, came: list[Numbers], room: float, freed: float, from_s: float, tick_s: float
    ) -> Numbers | None:
        """Those there is room for, POSITION being when there was."""
        waited = len(self._wait)
        if not waited and came:
            wanted = sum(float(b[PROMPT] @ b[WEIGHT]) for b in came)
            count = sum(float(b[WEIGHT].sum()) for b in came)
            slots = self.instances * self.machine.max_running
            if wanted <= room and self.running + count <= slots:
                return came[0] if len(came) == 1 else np.concatenate(came, axis=1)
        for batch in came:
            self._wait.append(batch)
            self.waiting += float(batch[WEIGHT].sum())
        if not self._wait or not self.instances:
            return None
        queue = np.concatenate(list(self._wait), axis=1)
        weight = queue[WEIGHT]
        need = np.cumsum(queue[PROMPT] * weight)
        free_slots = self.instances * self.machine.max_running - self.running
        fits = min(
            int(np.searchsorted(need, room + freed, side="right")),
            int(np.searchsorted(np.cumsum(weight), free_slots, side="right")),
        )
        if not fits and self.running < 1:
            fits = 1
        by_kv = need[min(fits, len(need) - 1)] > room + freed
        if by_kv and fits < queue.shape[1] and fits:
            again_s = (
                self.timing.prompt_ms(
                    round(need[fits - 1] / weight[:fits].sum()), self.machine.tokens_per_step
                )
                / 1e3
            )
            rate = float(weight[:fits].sum()) / tick_s / self.instances
            self._recomputing = PREEMPTED * rate * again_s
        self._wait.clear()
        if fits < queue.shape[1]:
            self._wait.append(queue[:, fits:])
        going = queue[:, :fits].copy()
        self.waiting = max(0.0, self.waiting - float(going[WEIGHT].sum()))
        when = from_s + tick_s * np.clip((need[:fits] - room) / freed, 0.0, 1.0)
        going[POSITION] = np.maximum(going[POSITION], when)
        return going if fits else None

    def _add(self, batch: Numbers, began: Numbers, first_s: Numbers, good: Numbers) -> None:
        """Running from now on, until the clock has gone on by their output."""
        weight, output = batch[WEIGHT], np.maximum(batch[OUTPUT] - 1, 0.0)
        ends = np.maximum((began + output) // BIN_TOKENS, self._clock // BIN_TOKENS)
        slots = (ends.astype(np.int64)) % self._bins
        rows = (
            weight,
            good,
            weight * batch[PROMPT],
            weight * began,
            weight * first_s,
            weight * batch[OUTPUT],
            weight * batch[OUTPUT] ** 2,
        )
        for number, values in enumerate(rows):
            self._ring[number] += np.bincount(slots, values, self._bins)
            self._sums[number] += values.sum()
        self.running += float(weight.sum())
