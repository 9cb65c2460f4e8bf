"""What the autoscaler hears on the bus, for its core: the fleet, its members, load, decisions.

Counts become the floats that the core's events declare: a journal reads them back as such, and
has to find what was decided on.
"""

import asyncio
from typing import Any

from argosy.autoscaler.core import events
from argosy.autoscaler.core.state import PLAN
from argosy.autoscaler.settings import AutoscalerSettings
from argosy.autoscaler.shell import publisher
from argosy.domain.demand import Machine, Slo
from argosy.fleet.plans import Plans
from argosy.mesh.bus import Envelope
from argosy.mesh.driver import Driver
from argosy.mesh.instance_facts import state_name, timing_of
from argosy.mesh.service import Mesh
from argosy.wire.autoscaler.v1 import events_pb2
from argosy.wire.decode.v1 import events_pb2 as decode_pb2
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.instance.v1 import events_pb2 as instance_pb2
from argosy.wire.node_agent.v1 import events_pb2 as node_pb2
from argosy.wire.operator.v1 import events_pb2 as operator_pb2
from argosy.wire.prefill.v1 import events_pb2 as prefill_pb2
from argosy.wire.router.v1 import events_pb2 as router_pb2

OLD_MS = 5_000
STEPS_MAX = 64
"""Of an instance, given to the core at once; the oldest are left out."""
CHANGES = ("InstanceDraining", "InstanceSlept", "InstanceWaking", "InstanceWoke", "InstanceStopped")
DECIDED_BY = {number: name for name, number in publisher.DECIDED_BY.items()}
ROLES = {instance_pb2.ROLE_PREFILL: "prefill", instance_pb2.ROLE_DECODE: "decode"}


class AutoscalerSubscriptions:
    """See the module. What the control log holds is heard first, then what happens."""

    def __init__(self, mesh: Mesh[AutoscalerSettings], driver: Driver, plans: Plans) -> None:
        self._mesh = mesh
        self._driver = driver
        self._plans = plans
        self._loads: dict[str, tuple[inference_pb2.Load, list[events.MeasuredStep]]] = {}

    async def start(self) -> None:
        """Return when what the control log holds has reached the core."""
        bus, durable = self._mesh.bus, f"{self._mesh.name}-{self._mesh.epoch}"
        # Who there is to be, then who came up, then where each is in its life.
        await bus.follow(operator_pb2.InstanceDecided, self._on_member, f"{durable}-who").wait()
        await bus.follow(instance_pb2.InstanceReady, self._on_ready, f"{durable}-ready").wait()
        caught_up = [
            bus.follow(getattr(instance_pb2, name), self._on_change, f"{durable}-{name}")
            for name in CHANGES
        ]
        caught_up += [
            bus.follow(kind, self._on_sleep_decision, f"{durable}-{kind.DESCRIPTOR.name}")
            for kind in (events_pb2.SleepDecided, events_pb2.WakeDecided)
        ]
        caught_up += [
            bus.follow(node_pb2.InstanceStarted, self._on_started, f"{durable}-started"),
            bus.follow(node_pb2.InstanceExited, self._on_exited, f"{durable}-exited"),
            bus.follow(node_pb2.SleepDecisionRefused, self._on_refused, f"{durable}-refused"),
            bus.follow(events_pb2.PlanChanged, self._on_plan, f"{durable}-plans"),
        ]
        await asyncio.gather(*(event.wait() for event in caught_up))
        bus.listen(node_pb2.NodeReported, self._on_node)
        bus.listen(router_pb2.QueueReported, self._on_queue)
        bus.listen(router_pb2.DemandSeen, self._on_demand)
        bus.listen(prefill_pb2.LoadReported, self._on_load)
        bus.listen(decode_pb2.LoadReported, self._on_load)
        await bus.follow(operator_pb2.FleetApplied, self._on_applied, f"{durable}-fleet").wait()

    def tell_plans(self) -> None:
        """Let the core know when which plans hold."""
        now_us = self._driver.now_us()
        self._driver.feed(events.PlansChanged(now_us=now_us, windows=self._plans.windows(now_us)))

    def _on_applied(self, fact: operator_pb2.FleetApplied, envelope: Envelope) -> None:
        scaling = fact.scaling
        highs = {pool.role: pool.max for pool in scaling.pools}
        made_us = envelope.time_ms * 1000
        self._plans.apply(list(scaling.plans), scaling.timezone, highs, scaling.budget, made_us)
        pools = {p.role: events.PoolBounds(p.replicas, p.min, p.max) for p in scaling.pools}
        self._driver.feed(
            events.ScalingApplied(
                now_us=self._driver.now_us(),
                generation=fact.generation,
                mode=scaling.mode,
                pools=pools,
                budget=scaling.budget,
                silent=scaling.silent,
                idle_sleep_us=scaling.idle_sleep_ms * 1000,
                sleep_level=scaling.sleep_level,
                slo=Slo(scaling.ttft_ms, scaling.tpot_ms),
                ratio_min=scaling.ratio_min,
                ratio_max=scaling.ratio_max,
                dwell_us=scaling.dwell_ms * 1000,
            )
        )
        self.tell_plans()

    def _on_plan(self, fact: events_pb2.PlanChanged, envelope: Envelope) -> None:
        self._plans.changed(fact.name, "" if fact.removed else fact.text, envelope.time_ms * 1000)
        self.tell_plans()

    def _on_member(self, fact: operator_pb2.InstanceDecided, envelope: Envelope) -> None:
        now_us = self._driver.now_us()
        self._driver.feed(
            events.MemberDecided(
                now_us=now_us,
                instance=fact.instance_id,
                role=fact.role,
                node=fact.node,
                run=fact.run,
                generation=fact.generation,
                memory_bytes=fact.memory_bytes,
            )
        )

    def _on_ready(self, fact: instance_pb2.InstanceReady, envelope: Envelope) -> None:
        role = ROLES.get(fact.role)
        if role is None:
            return
        machine = Machine(
            fact.kv_total_blocks * fact.block_tokens,
            fact.max_running_requests or 1,
            fact.tokens_per_step or Machine().tokens_per_step,
        )
        self._driver.feed(
            events.MemberJoined(
                now_us=self._driver.now_us(),
                instance=fact.instance_id,
                epoch=fact.epoch,
                role=role,
                node=fact.node,
                rack=fact.rack,
                change=fact.change.number,
                timing=timing_of(fact),
                machine=machine,
                # One that sleeps describes itself anew too, when the bus has been away.
                state=state_name(fact.change) if fact.HasField("change") else "active",
                at_us=envelope.time_ms * 1000,
            )
        )

    def _on_change(self, fact: Any, envelope: Envelope) -> None:
        change = fact.change
        took_us = sum(step.ms for step in change.steps if step.name != "drain") * 1000
        self._driver.feed(
            events.MemberChanged(
                now_us=self._driver.now_us(),
                instance=fact.instance_id,
                epoch=fact.epoch,
                change=change.number,
                state=state_name(change),
                took_us=took_us,
                at_us=envelope.time_ms * 1000,
                resident_bytes=change.resident_bytes,
                level=change.level,
            )
        )

    def _on_started(self, fact: node_pb2.InstanceStarted, envelope: Envelope) -> None:
        self._changed_by_node(fact, "loading", envelope)

    def _on_exited(self, fact: node_pb2.InstanceExited, envelope: Envelope) -> None:
        self._changed_by_node(fact, "failed" if fact.wanted else "stopped", envelope)

    def _changed_by_node(self, fact: Any, state: str, envelope: Envelope) -> None:
        self._driver.feed(
            events.MemberChanged(
                now_us=self._driver.now_us(),
                instance=fact.instance_id,
                epoch=fact.epoch,
                change=0,
                state=state,
                at_us=envelope.time_ms * 1000,
            )
        )

    def _on_sleep_decision(self, fact: Any, envelope: Envelope) -> None:
        """A SleepDecided or a WakeDecided."""
        self._driver.feed(
            events.SleepDecisionRecalled(
                now_us=self._driver.now_us(),
                instance=fact.instance_id,
                decision_sequence=fact.decision_sequence,
                wake=isinstance(fact, events_pb2.WakeDecided),
                decided_by=DECIDED_BY.get(fact.decided_by, PLAN),
            )
        )

    def _on_refused(self, fact: node_pb2.SleepDecisionRefused, envelope: Envelope) -> None:
        self._driver.feed(
            events.SleepDecisionRefused(
                now_us=self._driver.now_us(),
                instance=fact.instance_id,
                decision_sequence=fact.decision_sequence,
                wake=fact.wake,
                reason=fact.reason,
            )
        )

    def _on_node(self, fact: node_pb2.NodeReported, envelope: Envelope) -> None:
        self._driver.feed(
            events.NodeSeen(
                now_us=self._driver.now_us(),
                node=fact.node,
                free_bytes=fact.memory_bytes - fact.promised_bytes,
            )
        )

    def _on_demand(self, fact: router_pb2.DemandSeen, envelope: Envelope) -> None:
        if self._is_old(envelope):
            return
        self._driver.feed(
            events.DemandSeen(
                now_us=self._driver.now_us(),
                router=fact.router,
                queued_requests=fact.queued_requests,
                oldest_wait_us=fact.oldest_wait_ms * 1000,
            )
        )

    def _on_queue(self, fact: router_pb2.QueueReported, envelope: Envelope) -> None:
        if self._is_old(envelope):
            return
        traffic = fact.traffic
        self._driver.feed(
            events.TrafficSeen(
                now_us=self._driver.now_us(),
                router=fact.router,
                epoch=fact.epoch,
                queued=fact.queued_requests,
                queued_tokens=float(fact.queued_tokens),
                requests=float(traffic.requests),
                prompt_tokens=float(traffic.prompt_tokens),
                prompt_tokens_squared=traffic.prompt_tokens_squared,
                cached_tokens=float(traffic.cached_tokens),
                running=fact.running_requests + fact.busy_requests,
                ttft_buckets=list(traffic.ttft_buckets),
                trace=envelope.id or f"{envelope.source}#{envelope.sequence}",
            )
        )

    def _on_load(
        self, fact: prefill_pb2.LoadReported | decode_pb2.LoadReported, envelope: Envelope
    ) -> None:
        if self._is_old(envelope):
            return
        load = fact.load
        steps = self._loads[load.instance_id][1] if load.instance_id in self._loads else []
        steps += [
            events.MeasuredStep(p.us, p.prefill_tokens, p.decode_requests, p.kv_share)
            for p in load.steps
        ]
        if isinstance(fact, prefill_pb2.LoadReported):
            load.ClearField("work")  # What prefill finishes is not an answer.
        self._loads[load.instance_id] = (load, steps[-STEPS_MAX:])

    def tell_loads(self) -> None:
        """Each instance's last report: they come with every step, and sums lose nothing."""
        for load, steps in self._loads.values():
            work = load.work
            self._driver.feed(
                events.LoadSeen(
                    now_us=self._driver.now_us(),
                    instance=load.instance_id,
                    epoch=load.epoch,
                    running=load.running_requests,
                    waiting=load.waiting_requests,
                    queued_tokens=load.queued_prefill_tokens,
                    kv_share=load.kv_used_blocks / max(1, load.kv_total_blocks),
                    finished=float(work.finished_requests),
                    output_tokens=float(work.output_tokens),
                    output_tokens_squared=work.output_tokens_squared,
                    ttft_buckets=list(work.ttft_buckets),
                    tpot_buckets=list(work.tpot_buckets),
                    steps=steps,
                )
            )
        self._loads.clear()

    def _is_old(self, envelope: Envelope) -> bool:
        """Whether it waited for the bus so long that it tells nothing of now."""
        return self._mesh.clock.now_ms() - envelope.time_ms > OLD_MS
