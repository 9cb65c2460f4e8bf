"""What the operator hears on the bus, for its core: nodes, and the lives of instances."""

import asyncio
from typing import Any

from argosy.mesh.bus import Envelope
from argosy.mesh.driver import Driver
from argosy.mesh.instance_facts import state_name
from argosy.mesh.service import Mesh
from argosy.operator.core import events
from argosy.operator.settings import OperatorSettings
from argosy.wire.instance.v1 import events_pb2 as instance_pb2
from argosy.wire.node_agent.v1 import events_pb2 as node_pb2

CHANGES = (
    "InstanceReady",
    "InstanceDraining",
    "InstanceSlept",
    "InstanceWaking",
    "InstanceWoke",
    "InstanceStopped",
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
        caught_up = [
            bus.follow(node_pb2.InstanceStarted, self._on_started, f"{durable}-started"),
            bus.follow(node_pb2.InstanceExited, self._on_exited, f"{durable}-exited"),
            bus.follow(node_pb2.InstanceRefused, self._on_refused, f"{durable}-refused"),
            *(
                bus.follow(getattr(instance_pb2, name), self._on_change, f"{durable}-{name}")
                for name in CHANGES
            ),
        ]
        await asyncio.gather(*(event.wait() for event in caught_up))

    def _on_node(self, fact: node_pb2.NodeReported, envelope: Envelope) -> None:
        now_us = self._driver.now_us()
        self._driver.feed(
            events.NodeSeen(now_us=now_us, node=fact.node, memory_bytes=fact.memory_bytes)
        )

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
