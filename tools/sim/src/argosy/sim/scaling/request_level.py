"""Simulates a trace request by request: the real router's core and simulated engines.

The instances of a scaling policy start (loading is the warm-up), join, drain and stop. The newest
drain first, as Kubernetes chooses among equal pods. The router refuses nothing, as in the flow
simulation. It queues prompts while decode instances have no room, so the observation counts what
it queues then as waiting for decode, not for prefill.
"""

import math
from collections import deque
from collections.abc import Callable

import numpy as np

from argosy.engine.profile import Profile
from argosy.sim.fleet.instance import SimInstance
from argosy.sim.fleet.request import SimRequest
from argosy.sim.fleet.simulation import Simulation
from argosy.sim.fleet.spec import MAX_RUNNING, SimFleet
from argosy.sim.reports.report import itl_ms, ttft_ms
from argosy.sim.scaling.flow_level import MINUTE_S, ScalingSetup
from argosy.sim.scaling.histogram import counted
from argosy.sim.scaling.observation import ROLES, Observation, ScalingPolicy
from argosy.sim.scaling.replicas import Replicas
from argosy.sim.scaling.result import Sample, ScalingResult, result_of
from argosy.sim.scaling.workload import Workload

BLOCK_TOKENS = 256
"""Larger than engines use: long runs of decode steps are then equal and simulated as one."""


NO_ROOM = 0.95
"""With more of decode's KV or slots in use than this, queued prompts wait for decode."""


class RequestSimulation:
    """One policy's way through a trace. Deterministic."""

    def __init__(self, workload: Workload, setting: ScalingSetup, policy: ScalingPolicy) -> None:
        self.workload, self.setting, self.policy = workload, setting, policy
        assert isinstance(setting.timing, Profile)
        assert setting.machine.max_running == MAX_RUNNING
        self.replicas = Replicas(setting.budget, setting.warm_up_s, dict(setting.initial))
        fleet = SimFleet(
            prefill=setting.initial["prefill"],
            decode=setting.initial["decode"],
            kv_tokens=setting.machine.kv_tokens,
            block_tokens=BLOCK_TOKENS,
            profile=setting.timing,
            slo=setting.slo,
        )
        self._shape = fleet.shape()
        self.simulation = Simulation(workload.trace(), fleet)
        self._serving: dict[str, list[SimInstance]] = {
            role: [
                instance for instance in self.simulation.instances.values() if instance.role == role
            ]
            for role in ROLES
        }
        self._names = {role: len(instances) for role, instances in self._serving.items()}
        self._coming = deque(self.simulation.requests)
        self._unbegun: list[SimRequest] = []
        self._running: list[SimRequest] = []
        self._ttft: deque[tuple[float, float]] = deque()
        self._tpot: deque[tuple[float, float]] = deque()
        self._prefilling: list[SimRequest] = []
        self._full = False
        """Decode has had no room since the last tick."""
        self._prefilled: deque[tuple[float, float]] = deque()
        self._joined: deque[tuple[float, float]] = deque()
        self._samples: list[Sample] = []

    def run(self, progress: Callable[[float], None] = lambda _: None) -> ScalingResult:
        """Run until the last request has ended. Instances count as used until the trace is over."""
        simulation, span_s = self.simulation, self.workload.span_s
        self._after(self.policy.every_s, self._decide)
        simulation.run(lambda ended, total: progress(ended / max(1, total)))
        self.replicas.pass_time(max(span_s, self.replicas.at_s))
        outcomes = [sim_request.outcome for sim_request in simulation.requests]
        ended = [o for o in outcomes if o.ended_us is not None and not o.rejected]
        ttft = np.array([ttft_ms(o) for o in ended])
        tpot = np.array([itl_ms(o) or 0.0 for o in ended])
        slo = self.setting.slo
        within = float(((ttft <= slo.ttft_ms) & (tpot <= slo.tpot_ms)).sum())
        return result_of(
            self.policy.name,
            len(outcomes),
            within,
            self.replicas.used_s,
            span_s,
            self.replicas,
            counted(ttft, None),
            counted(tpot, None),
            self._samples,
        )

    def _after(self, delay_s: float, call: Callable[[], None]) -> None:
        self.simulation.queue.after(round(1e6 * delay_s), call)

    @property
    def _now_s(self) -> float:
        return self.simulation.queue.now_us / 1e6

    def _pass_time(self) -> None:
        """Until now, or the trace's end if that was before."""
        self.replicas.pass_time(max(self.replicas.at_s, min(self._now_s, self.workload.span_s)))

    def _decide(self) -> None:
        if self._now_s > self.workload.span_s:
            return
        self._pass_time()
        replicas, observation = self.replicas, self._observe()
        self._samples.append(
            Sample(self._now_s, observation.arrived_requests, dict(replicas.ready), replicas.used)
        )
        for role, step in replicas.decide(self.policy.decide(observation), self._now_s).items():
            if step.start:
                self._after(self.setting.warm_up_s, self._warmed)
            for _ in range(step.drain):
                instance = self._serving[role].pop()
                instance.drain(lambda role=role: self._drained(role))  # type: ignore[misc]
        self._after(self.policy.every_s, self._decide)

    def _warmed(self) -> None:
        self._pass_time()
        for role, count in self.replicas.warmed(self._now_s + 1e-6).items():
            for _ in range(count):
                self._start(role)

    def _start(self, role: str) -> None:
        name = f"{role}-{self._names[role]:03d}"
        self._names[role] += 1
        instance = self.simulation.add_instance(name, role, self._shape)
        self._serving[role].append(instance)
        instance.start()

    def _drained(self, role: str) -> None:
        self._pass_time()
        self.replicas.drained(role, 1)

    def _observe(self) -> Observation:
        arrived = self._arrive()
        stats = {
            r: [s.scheduler.stats() for s in instances] for r, instances in self._serving.items()
        }
        decode = stats["decode"]
        blocks = self.setting.machine.kv_tokens // BLOCK_TOKENS
        held = sum(router.core.state.queued_requests for router in self.simulation.routers)
        kv_share = sum(s.kv_used_blocks for s in decode) / (blocks * max(1, len(decode)))
        running = sum(s.running_requests for s in decode)
        slots = self.setting.machine.max_running * len(decode)
        self._full = held > 0 and (kv_share > NO_ROOM or running > NO_ROOM * slots)
        finished = self._progress()
        waiting = (
            sum(s.waiting_requests for s in stats["prefill"]),
            sum(s.waiting_requests for s in decode),
        )
        prompts = [p.request.prompt_tokens for p in arrived]
        outputs = [p.outcome.output_tokens for p in finished]
        return Observation(
            now_s=self._now_s,
            arrived_requests=len(arrived),
            prompt_tokens=float(sum(prompts)),
            prompt_tokens_squared=float(sum(n * n for n in prompts)),
            output_tokens=float(sum(outputs)),
            output_tokens_squared=float(sum(n * n for n in outputs)),
            finished_requests=len(finished),
            cached_tokens=float(sum(p.outcome.cached_tokens for p in finished)),
            queued_requests=waiting[0] + (0 if self._full else held),
            running_requests=running,
            ttft_p90_ms=self._p90(self._ttft),
            tpot_p90_ms=self._p90(self._tpot),
            kv_share=kv_share,
            ready=dict(self.replicas.ready),
            warming={role: len(times) for role, times in self.replicas.warming.items()},
            draining=dict(self.replicas.draining),
            late_ttft=beyond(self._ttft, self.setting.slo.ttft_ms),
            late_tpot=beyond(self._tpot, self.setting.slo.tpot_ms),
            waiting_decode=waiting[1] + (held if self._full else 0),
            prefilling_requests=sum(s.running_requests for s in stats["prefill"]),
            prefilled_p90_ms=self._p90(self._prefilled),
            joined_p90_ms=self._p90(self._joined),
        )

    def _arrive(self) -> list[SimRequest]:
        found = []
        while self._coming and self._coming[0].request.arrived_us <= self.simulation.queue.now_us:
            found.append(self._coming.popleft())
        self._unbegun += found
        self._prefilling += found
        return found

    def _progress(self) -> list[SimRequest]:
        """Note who got a first token; returns who ended since the last time."""
        for sim_request in self._prefilling:
            if sim_request.prefilled_us is not None:
                took_ms = (sim_request.prefilled_us - self._turn_us(sim_request)) / 1e3
                self._prefilled.append((sim_request.prefilled_us / 1e6, took_ms))
        self._prefilling = [p for p in self._prefilling if p.prefilled_us is None]
        began = [p for p in self._unbegun if p.outcome.first_us is not None]
        for sim_request in began:
            first_us = sim_request.outcome.first_us or 0
            self._ttft.append((first_us / 1e6, ttft_ms(sim_request.outcome)))
            held_us = self._turn_us(sim_request) - sim_request.outcome.arrived_us
            here_us = first_us - (sim_request.prefilled_us or first_us) + held_us
            self._joined.append((first_us / 1e6, here_us / 1e3))
        self._unbegun = [p for p in self._unbegun if p.outcome.first_us is None]
        now_us = self.simulation.queue.now_us
        ended: list[SimRequest] = []
        running: list[SimRequest] = []
        for sim_request in self._running + began:
            done_us = sim_request.outcome.ended_us
            over = done_us is not None and done_us <= now_us
            (ended if over else running).append(sim_request)
        self._running = running
        for sim_request in ended:
            gap_ms = itl_ms(sim_request.outcome)
            if gap_ms is not None:
                self._tpot.append(((sim_request.outcome.ended_us or 0) / 1e6, gap_ms))
        return ended

    def _turn_us(self, sim_request: SimRequest) -> int:
        """From when on a prompt was prefill's to serve."""
        arrived_us = sim_request.outcome.arrived_us
        return (sim_request.dispatched_us or arrived_us) if self._full else arrived_us

    def _p90(self, values: deque[tuple[float, float]]) -> float:
        kept = [pair for pair in values if pair[0] >= self._now_s - MINUTE_S]
        values.clear()
        values.extend(kept)
        if not kept:
            return 0.0
        ordered = sorted(ms for _, ms in kept)
        return ordered[min(len(ordered) - 1, math.ceil(0.9 * len(ordered)) - 1)]


def beyond(values: deque[tuple[float, float]], ms: float) -> float:
    """The share of what was longer."""
    return sum(value > ms for _, value in values) / len(values) if values else 0.0
