"""NVIDIA Dynamo's planner for roles apart, SLA mode: a throughput floor and load steps.

ai-dynamo/dynamo, components/src/dynamo/planner/core: throughput_scaling.py, load_scaling.py,
perf_model/{prefill,decode}.py; defaults of config/defaults.py. Every 180 s the floor: requests
per second over what an engine does at these lengths within the SLA, the next interval
predicted to be as the last (its `constant` predictor; `arima` begins with the same). At most 8
replicas a step (PR 14296). Every 5 s one more where each engine is predicted to break the
SLA, one fewer where the rest would keep within 80 % of it and KV still fits. Its models are
regressions of step times, kept fresh by what engines report; here they are the profile itself,
and beyond all KV there is, the line from none to all. Engines of a role are taken to be
equally loaded, and a role with an instance on its way is left as it is, as in its single-role
path. The SLA is the run's, not its default.
"""

import math

from argosy.domain.demand import Machine, Slo
from argosy.domain.timing import Timing
from argosy.sim.scaling.observation import ROLES, Observation

THROUGHPUT_S = 180.0
LOAD_S = 5.0
DOWN_SENSITIVITY = 0.8
STEP_MAX = 8
MIN_ENDPOINT = 1


class Dynamo:
    """See the module."""

    name = "dynamo"
    every_s = LOAD_S

    def __init__(self, timing: Timing, machine: Machine, slo: Slo) -> None:
        self._timing, self._machine, self._slo = timing, machine, slo
        self._floor: dict[str, int] = {}
        self._prompt = self._output = 0.0
        """Mean lengths, of the last interval that had any."""
        self._next_s = THROUGHPUT_S
        self._sums = [0.0] * 4

    def decide(self, observation: Observation) -> dict[str, int]:
        """The load loop's step above the throughput loop's floor."""
        if not self._floor:
            # Until the first interval is over: as it was started.
            self._floor = {
                role: observation.ready[role] + observation.warming[role] for role in ROLES
            }
        for number, value in enumerate(
            (
                observation.arrived_requests,
                observation.prompt_tokens,
                observation.finished_requests,
                observation.output_tokens,
            )
        ):
            self._sums[number] += value
        self._learn()
        wanted = {}
        steps = {"prefill": self._prefill_step, "decode": self._decode_step}
        for role, step in steps.items():
            there = observation.ready[role] + observation.warming[role]
            moving = observation.warming[role] or not observation.ready[role] or not self._prompt
            wanted[role] = there if moving else there + step(observation)
        if observation.now_s >= self._next_s - 1e-9:
            self._next_s += THROUGHPUT_S
            self._set_floor(observation)
        return {role: max(wanted[role], self._floor[role]) for role in ROLES}

    def _learn(self) -> None:
        arrived, prompts, finished, outputs = self._sums
        if arrived and finished:
            self._prompt, self._output = prompts / arrived, outputs / finished

    def _set_floor(self, observation: Observation) -> None:
        rate = self._sums[0] / THROUGHPUT_S
        self._sums = [0.0] * 4
        if not self._prompt:
            return
        need = {"prefill": self._prefill_need(rate), "decode": self._decode_need(rate)}
        for role in ROLES:
            there = observation.ready[role] + observation.warming[role]
            need[role] = min(there + STEP_MAX, max(there - STEP_MAX, need[role]))
            self._floor[role] = max(MIN_ENDPOINT, need[role])

    # -- throughput: what an engine does

    def _ttft_ms(self, tokens: float) -> float:
        """Steps that this many tokens take."""
        most = self._machine.tokens_per_step
        steps = max(0, math.ceil(tokens / most) - 1)
        last = self._timing.prefill_step_ms(round(tokens - steps * most))
        return steps * self._timing.prefill_step_ms(most) + last

    def _prefill_need(self, rate: float) -> int:
        ttft_ms = self._ttft_ms(self._prompt)
        missed = math.ceil(ttft_ms / self._slo.ttft_ms) if ttft_ms > self._slo.ttft_ms else 1
        return max(math.ceil(rate * ttft_ms / 1e3), missed)

    def _step_ms(self, kv_tokens: float, requests: float) -> float:
        share = kv_tokens / self._machine.kv_tokens
        full_ms = self._timing.decode_step_ms(min(1.0, share), round(requests))
        slope_ms = self._timing.decode_step_ms(1.0) - self._timing.decode_step_ms(0.0)
        return full_ms + slope_ms * max(0.0, share - 1)

    def _decode_need(self, rate: float) -> int:
        context = self._prompt + self._output / 2
        most = max(1, min(int(self._machine.kv_tokens / context), self._machine.max_running))
        best = 1
        low, high = 1, most
        while low <= high:
            middle = (low + high) // 2
            if self._step_ms(middle * context, middle) <= self._slo.tpot_ms:
                best, low = middle, middle + 1
            else:
                high = middle - 1
        per_engine = best / (self._output * self._step_ms(best * context, best) / 1e3)
        return math.ceil(rate / per_engine)

    # -- load: one more, one fewer, or neither

    def _prefill_step(self, observation: Observation) -> int:
        ready, sla_ms = observation.ready["prefill"], self._slo.ttft_ms
        queued = observation.queued_requests * self._prompt / ready
        if self._ttft_ms(queued + self._prompt) > sla_ms:
            return 1
        own_ms = self._ttft_ms(self._prompt)
        room_ms = (sla_ms - own_ms) * DOWN_SENSITIVITY
        if ready < 2 or room_ms <= 0:
            return 0
        after_ms = self._ttft_ms(queued * ready / (ready - 1) + self._prompt)
        return -1 if after_ms - own_ms < room_ms else 0

    def _decode_step(self, observation: Observation) -> int:
        ready, machine = observation.ready["decode"], self._machine
        context = self._prompt + self._output / 2
        running = observation.running_requests / ready
        scheduled = observation.kv_share * machine.kv_tokens
        held = scheduled + observation.waiting_decode * context / ready
        if self._step_ms(held + context, running + 1) > self._slo.tpot_ms:
            return 1
        if ready < 2:
            return 0
        after = held * ready / (ready - 1)
        fits = after < machine.kv_tokens
        after_ms = self._step_ms(after + context, running + 1)
        return -1 if fits and after_ms < self._slo.tpot_ms * DOWN_SENSITIVITY else 0
