"""What the operator hears on the bus, told to its core: nodes, instances' lives, work."""

import asyncio
from typing import Any

from argosy.mesh.bus import Envelope
from argosy.mesh.driver import Driver
from argosy.mesh.instance_facts import state_name
from argosy.mesh.service import Mesh
from argosy.operator.core import events
from argosy.operator.settings import OperatorSettings
from argosy.wire.autoscaler.v1 import events_pb2 as scaler_pb2
from argosy.wire.instance.v1 import events_pb2 as instance_pb2
from argosy.wire.node_agent.v1 import events_pb2 as node_pb2
from argosy.wire.operator.v1 import events_pb2
from argosy.wire.router.v1 import events_pb2 as router_pb2

OLD_MS = 5_000
CHANGES = (
    "InstanceReady",
    "InstanceDraining",
    "InstanceSlept",
    "InstanceWaking",
    "InstanceWoke",
    "InstanceStopped",
)

RESTS = (
    events_pb2.SleepDecided,
    events_pb2.WakeDecided,
    scaler_pb2.SleepDecided,
    scaler_pb2.WakeDecided,
)


class OperatorSubscriptions:
    """See the module."""

    def __init__(self, mesh: Mesh[OperatorSettings], driver: Driver) -> None:
        self._mesh = mesh
        self._driver = driver

    async def start(self) -> None:
        """Return when what the control log holds has reached the core."""
        bus, durable = self._mesh.bus, f"{self._mesh.name}-{self._mesh.epoch}"
        bus.listen(node_pb2.NodeReported, self._on_node)
        bus.listen(router_pb2.QueueReported, self._on_queue)
        bus.listen(router_pb2.DemandSeen, self._on_demand)
        bus.listen(scaler_pb2.ScalerReported, self._on_scaler)
        caught_up = [
            bus.follow(node_pb2.InstanceStarted, self._on_started, f"{durable}-started"),
            bus.follow(node_pb2.InstanceExited, self._on_exited, f"{durable}-exited"),
            bus.follow(node_pb2.InstanceRefused, self._on_refused, f"{durable}-refused"),
            bus.follow(node_pb2.RestRefused, self._on_rest_refused, f"{durable}-rest-refused"),
            *(
                bus.follow(kind, self._on_decided, f"{durable}-{number}")
                for number, kind in enumerate(RESTS)
            ),
            *(
                bus.follow(getattr(instance_pb2, name), self._on_change, f"{durable}-{name}")
                for name in CHANGES
            ),
        ]
        await asyncio.gather(*(event.wait() for event in caught_up))

    def _on_node(self, fact: node_pb2.NodeReported, envelope: Envelope) -> None:
        now_us = self._driver.now_us()
        self._driver.feed(
            events.NodeSeen(
                now_us=now_us,
                node=fact.node,
                memory_bytes=fact.memory_bytes,
                promised_bytes=fact.promised_bytes,
            )
        )

    def _on_queue(self, fact: router_pb2.QueueReported, envelope: Envelope) -> None:
        if self._is_old(envelope):
            return
        requests = fact.queued_requests + fact.running_requests + fact.busy_requests
        self._driver.feed(
            events.WorkSeen(
                now_us=self._driver.now_us(),
                router=fact.router,
                requests=requests,
                queued_requests=fact.queued_requests,
                arrived_requests=fact.arrived_requests,
            )
        )

    def _on_demand(self, fact: router_pb2.DemandSeen, envelope: Envelope) -> None:
        if self._is_old(envelope):
            return
        waited_us = fact.oldest_wait_ms * 1000
        self._driver.feed(
            events.DemandSeen(
                now_us=self._driver.now_us(),
                router=fact.router,
                held_requests=fact.held_requests,
                oldest_wait_us=waited_us,
            )
        )

    def _is_old(self, envelope: Envelope) -> bool:
        """Whether it waited for the bus so long that it tells nothing of now."""
        return self._mesh.clock.now_ms() - envelope.time_ms > OLD_MS

    def _on_decided(self, fact: Any, envelope: Envelope) -> None:
        wake = isinstance(fact, events_pb2.WakeDecided | scaler_pb2.WakeDecided)
        scaled = isinstance(fact, scaler_pb2.SleepDecided | scaler_pb2.WakeDecided)
        now_us = self._driver.now_us()
        self._driver.feed(
            events.RestRecalled(
                now_us=now_us, instance=fact.instance_id, turn=fact.turn, wake=wake, scaled=scaled
            )
        )

    def _on_scaler(self, fact: scaler_pb2.ScalerReported, envelope: Envelope) -> None:
        self._driver.feed(events.ScalerSeen(now_us=self._driver.now_us(), acts=fact.mode == "act"))

    def _on_rest_refused(self, fact: node_pb2.RestRefused, envelope: Envelope) -> None:
        now_us = self._driver.now_us()
        event = events.RestRefused(
            now_us=now_us,
            instance=fact.instance_id,
            turn=fact.turn,
            wake=fact.wake,
            reason=fact.reason,
        )
        self._driver.feed(event)

    def _on_change(self, fact: Any, envelope: Envelope) -> None:
        """What an instance tells of itself."""
        change = fact.change
        state = state_name(change)
        self._driver.feed(
            events.InstanceChanged(
                now_us=self._driver.now_us(),
                instance=fact.instance_id,
                state=state,
                reason=change.cause,
                restarts=-1,
                at_us=envelope.time_ms * 1000,
                epoch=fact.epoch,
                change=change.number,
                took_us=sum(step.ms for step in change.steps if step.name != "drain") * 1000,
                resident_bytes=change.resident_bytes,
                level=change.level,
            )
        )

    def _changed(
        self, fact: Any, state: str, reason: str, envelope: Envelope, restarts: int = -1
    ) -> None:
        """What a node agent tells of an instance."""
        now_us, at_us = self._driver.now_us(), envelope.time_ms * 1000
        event = events.InstanceChanged(
            now_us=now_us,
            instance=fact.instance_id,
            state=state,
            reason=reason,
            restarts=restarts,
            at_us=at_us,
            epoch=getattr(fact, "epoch", ""),
        )
        self._driver.feed(event)

    def _on_started(self, fact: node_pb2.InstanceStarted, envelope: Envelope) -> None:
        self._changed(fact, "loading", "its process started", envelope, fact.restarts)

    def _on_exited(self, fact: node_pb2.InstanceExited, envelope: Envelope) -> None:
        state = "failed" if fact.wanted else "stopped"
        self._changed(fact, state, f"exit code {fact.exit_code}", envelope)

    def _on_refused(self, fact: node_pb2.InstanceRefused, envelope: Envelope) -> None:
        self._changed(fact, "pending", fact.reason, envelope)
