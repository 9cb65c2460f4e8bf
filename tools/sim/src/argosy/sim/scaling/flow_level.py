"""Simulates a long trace as flows: ticks of seconds, queues by position and mean fields.

Instances that start count as used and serve once they are warm. Instances that drain finish
their requests and count until then. No request is aborted or refused, so all of them end. No
prefix is shared, and KV is not cached.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from argosy.domain.demand import Machine, Slo
from argosy.domain.timing import RACK, Timing
from argosy.sim.scaling.flow_decode import DecodePool, Ended
from argosy.sim.scaling.flow_prefill import AT, POSITION, WEIGHT, PrefillPool
from argosy.sim.scaling.histogram import BINS, Minute, Numbers, counted
from argosy.sim.scaling.observation import Observation, ScalingPolicy
from argosy.sim.scaling.replicas import Replicas
from argosy.sim.scaling.result import Sample, ScalingResult, result_of
from argosy.sim.scaling.workload import Workload

MINUTE_S = 60.0
GONE_BELOW = 0.5
"""A draining instance with less than this share of a request left counts as drained."""
TAIL_S = 7200.0
"""How long requests may run on after the end of the trace."""


@dataclass(frozen=True)
class ScalingSetup:
    """What is the same for every policy."""

    timing: Timing
    machine: Machine
    slo: Slo
    budget: int
    warm_up_s: float
    initial: dict[str, int]
    """Ready when it begins."""


@dataclass
class _Tallies:
    """Sums since the policy was last asked."""

    arrived: float = 0.0
    prompt: float = 0.0
    prompt_squared: float = 0.0
    output: float = 0.0
    output_squared: float = 0.0
    finished: float = 0.0


class FlowSimulation:
    """One policy's way through a workload. Deterministic."""

    def __init__(self, workload: Workload, setting: ScalingSetup, policy: ScalingPolicy) -> None:
        self.workload, self.setting, self.policy = workload, setting, policy
        self.now_s = 0.0
        self.replicas = Replicas(setting.budget, setting.warm_up_s, dict(setting.initial))
        total = max(1.0, workload.requests)
        mean_prompt = float(workload.prompt @ workload.weight) / total
        self.prefill = PrefillPool(setting.timing, setting.machine, max(1.0, mean_prompt))
        longest = float(workload.output.max(initial=1.0))
        self.decode = DecodePool(setting.timing, setting.machine, longest)
        self.decode.instances = setting.initial["decode"]
        self.parting: list[DecodePool] = []
        self._leaving: list[tuple[float, int]] = []
        """(when done, how many) prefill instances that drain."""
        self._drain_s = self._prompt_s(mean_prompt)
        self._under_way: dict[int, list[Numbers]] = defaultdict(list)
        """Prefilled requests by the tick in which they come to decode."""
        self.arrived = self.finished = self.attained = 0.0
        self.ttft, self.tpot = np.zeros(BINS), np.zeros(BINS)
        ticks = math.ceil(MINUTE_S / workload.tick_s)
        self._ttft_minute, self._tpot_minute = Minute(ticks), Minute(ticks)
        self._prefilled_minute, self._joined_minute = Minute(ticks), Minute(ticks)
        self._prefilled: Numbers | None = None
        self._tallies = _Tallies()
        self._samples: list[Sample] = []

    def run(self, progress: Callable[[float], None] = lambda _: None) -> ScalingResult:
        """To the last request's end. Instances are accounted for until the trace is over."""
        workload, tick_s = self.workload, self.workload.tick_s
        next_s = self.policy.every_s
        for number in range(workload.ticks):
            self._tick(number)
            if self.now_s >= next_s - 1e-9:
                next_s += self.policy.every_s * max(1, math.ceil(tick_s / self.policy.every_s))
                self._decide()
            if not number & 0x3FF:
                progress(number / workload.ticks)
        self._account()
        number = workload.ticks
        while self.in_system > 1e-3 and number * tick_s < workload.span_s + TAIL_S:
            self._tick(number)
            number += 1
        progress(1.0)
        return result_of(
            self.policy.name,
            self.arrived,
            self.attained,
            self.replicas_used_s,
            workload.span_s,
            self.replicas,
            self.ttft,
            self.tpot,
            self._samples,
        )

    @property
    def in_system(self) -> float:
        """Requests that arrived and have not ended."""
        running = self.decode.running + sum(pool.running for pool in self.parting)
        coming = sum(float(b[WEIGHT].sum()) for bs in self._under_way.values() for b in bs)
        return self.prefill.queued + coming + self.decode.waiting + running

    def _prompt_s(self, prompt: float) -> float:
        timing = self.setting.timing
        alone_ms = timing.prompt_ms(round(prompt), self.setting.machine.tokens_per_step)
        return (alone_ms + timing.kv_transfer_ms(round(prompt), RACK)) / 1e3

    def _account(self) -> None:
        self.replicas.pass_time(self.now_s)
        self.replicas_used_s = self.replicas.used_s

    def _tick(self, number: int) -> None:
        workload, replicas = self.workload, self.replicas
        tick_s = workload.tick_s
        from_s = number * tick_s
        replicas.pass_time(from_s)
        self.now_s = from_s + tick_s
        self.decode.instances += replicas.warmed(from_s)["decode"]
        ending = [count for at_s, count in self._leaving if at_s <= from_s]
        if ending:
            replicas.drained("prefill", sum(ending))
            self._leaving = [(at_s, count) for at_s, count in self._leaving if at_s > from_s]
        self._prefilled = None
        for batch in self.prefill.tick(
            self._arrivals(number), replicas.ready["prefill"], from_s, tick_s
        ):
            self._send(batch, number)
        self._prefilled_minute.add(self._prefilled)
        ended, ttft_s, here_s, weight = self.decode.tick(
            self._under_way.pop(number, []), from_s, tick_s, self.setting.slo.ttft_ms / 1e3
        )
        bins = counted(1e3 * ttft_s, weight) if len(ttft_s) else None
        self._ttft_minute.add(bins)
        self._joined_minute.add(counted(1e3 * here_s, weight) if len(here_s) else None)
        if bins is not None:
            self.ttft += bins
        self._end([ended, *self._part(from_s, tick_s)])

    def _arrivals(self, number: int) -> Numbers:
        workload = self.workload
        if number >= workload.ticks:
            return np.zeros((7, 0))
        which = slice(workload.first[number], workload.first[number + 1])
        prompt, output, weight = (
            workload.prompt[which],
            workload.output[which],
            workload.weight[which],
        )
        if len(weight):
            tallies = self._tallies
            count = float(weight.sum())
            self.arrived += count
            tallies.arrived += count
            tallies.prompt += float(prompt @ weight)
            tallies.prompt_squared += float((prompt * prompt) @ weight)
        return self.prefill.batch(workload.at_s[which], prompt, output, weight)

    def _send(self, batch: Numbers, number: int) -> None:
        """To decode, in the tick in which its KV is there."""
        bins = counted(1e3 * (batch[POSITION] - batch[AT]), batch[WEIGHT])
        self._prefilled = bins if self._prefilled is None else self._prefilled + bins
        ticks = np.maximum((batch[POSITION] / self.workload.tick_s).astype(np.int64), number)
        low, high = int(ticks.min()), int(ticks.max())
        if low == high:
            self._under_way[low].append(batch)
            return
        for tick in range(low, high + 1):
            part = batch[:, ticks == tick]
            if part.shape[1]:
                self._under_way[tick].append(part)

    def _part(self, from_s: float, tick_s: float) -> list[Ended]:
        found = []
        kept = []
        for pool in self.parting:
            found.append(pool.tick([], from_s, tick_s, 0.0)[0])
            if not pool.gone and pool.running < GONE_BELOW * pool.instances:
                self.replicas.drained("decode", pool.instances)
                # What is left of requests ends as if the instances were there.
                pool.gone = True
            if pool.running > 0:
                kept.append(pool)
        self.parting = kept
        return found

    def _end(self, batches: list[Ended]) -> None:
        tallies, slo = self._tallies, self.setting.slo
        bins = None
        for ended in batches:
            count = float(ended.count.sum())
            if count <= 0:
                continue
            self.finished += count
            tallies.finished += count
            tallies.output += ended.output
            tallies.output_squared += ended.output_squared
            self.attained += float(ended.good[ended.tpot_ms <= slo.tpot_ms].sum())
            mine = counted(ended.tpot_ms, ended.count)
            bins = mine if bins is None else bins + mine
        self._tpot_minute.add(bins)
        if bins is not None:
            self.tpot += bins

    def _decide(self) -> None:
        replicas = self.replicas
        replicas.pass_time(self.now_s)
        self._samples.append(
            Sample(self.now_s, self._tallies.arrived, dict(replicas.ready), replicas.used)
        )
        for role, step in replicas.decide(self.policy.decide(self._observe()), self.now_s).items():
            if not step.drain:
                continue
            if role == "prefill":
                self._leaving.append((self.now_s + self._drain_s, step.drain))
            else:
                self.parting.append(self.decode.part(step.drain))

    def _observe(self) -> Observation:
        tallies, self._tallies = self._tallies, _Tallies()
        replicas, decode = self.replicas, self.decode
        return Observation(
            now_s=self.now_s,
            arrived_requests=round(tallies.arrived),
            prompt_tokens=tallies.prompt,
            prompt_tokens_squared=tallies.prompt_squared,
            output_tokens=tallies.output,
            output_tokens_squared=tallies.output_squared,
            finished_requests=round(tallies.finished),
            cached_tokens=0.0,
            queued_requests=round(self.prefill.queued),
            running_requests=round(decode.running),
            ttft_p90_ms=self._ttft_minute.percentile(0.9),
            tpot_p90_ms=self._tpot_minute.percentile(0.9),
            kv_share=min(1.0, decode.kv_share),
            ready=dict(replicas.ready),
            warming={role: len(times) for role, times in replicas.warming.items()},
            draining=dict(replicas.draining),
            late_ttft=self._ttft_minute.beyond(self.setting.slo.ttft_ms),
            late_tpot=self._tpot_minute.beyond(self.setting.slo.tpot_ms),
            waiting_decode=round(decode.waiting),
            prefilling_requests=round(self.prefill.working),
            prefilled_p90_ms=self._prefilled_minute.percentile(0.9),
            joined_p90_ms=self._joined_minute.percentile(0.9),
        )
