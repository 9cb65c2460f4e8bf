"""What the router hears on the bus, told to its core."""

import asyncio

from argosy.mesh.bus import Envelope
from argosy.mesh.driver import Driver
from argosy.mesh.service import Mesh
from argosy.router.core import events as on
from argosy.router.settings import RouterSettings
from argosy.router.shell.relay import Relay
from argosy.wire.decode.v1 import events_pb2 as decode_pb2
from argosy.wire.instance.v1 import events_pb2 as instance_pb2
from argosy.wire.node_agent.v1 import events_pb2 as node_pb2
from argosy.wire.prefill.v1 import events_pb2 as prefill_pb2

ROLES = {instance_pb2.ROLE_PREFILL: "prefill", instance_pb2.ROLE_DECODE: "decode"}


class Ears:
    """Subscribes to load, idle predictions and instances' lives."""

    def __init__(self, mesh: Mesh[RouterSettings], driver: Driver, relay: Relay) -> None:
        self._mesh = mesh
        self._driver = driver
        self._relay = relay

    async def start(self) -> None:
        """Return when what the control log holds has reached the core."""
        bus = self._mesh.bus
        self._bus_changed(bus.connected.is_set())
        bus.on_connection.append(self._bus_changed)
        bus.listen(prefill_pb2.LoadReported, self._on_load)
        bus.listen(decode_pb2.LoadReported, self._on_load)
        bus.listen(prefill_pb2.IdlePredicted, self._on_idle)
        durable = f"{self._mesh.name}-{self._mesh.epoch}"
        caught_up = [
            bus.follow(instance_pb2.InstanceReady, self._on_ready, f"{durable}-ready"),
            bus.follow(instance_pb2.InstanceDraining, self._on_draining, f"{durable}-draining"),
            bus.follow(instance_pb2.InstanceStopped, self._on_stopped, f"{durable}-stopped"),
            bus.follow(node_pb2.InstanceExited, self._on_exited, f"{durable}-exited"),
        ]
        await asyncio.gather(*(event.wait() for event in caught_up))

    def _bus_changed(self, connected: bool) -> None:
        self._driver.feed(on.BusChanged(self._driver.now_us(), connected))

    def _on_load(
        self, fact: prefill_pb2.LoadReported | decode_pb2.LoadReported, envelope: Envelope
    ) -> None:
        self._relay.heard(fact.load)

    def _on_idle(self, fact: prefill_pb2.IdlePredicted, envelope: Envelope) -> None:
        now_us = self._driver.now_us()
        event = on.IdlePredicted(now_us, fact.instance_id, fact.epoch, fact.idle_at_us)
        self._driver.feed(event)

    def _on_ready(self, fact: instance_pb2.InstanceReady, envelope: Envelope) -> None:
        if fact.role not in ROLES:
            return
        self._driver.feed(
            on.InstanceJoined(
                self._driver.now_us(), fact.instance_id, fact.epoch, ROLES[fact.role],
                fact.address, fact.node, fact.model, fact.kv_total_blocks, fact.block_tokens,
                fact.max_model_tokens, fact.max_running_requests, envelope.time_ms * 1000,
            )
        )  # fmt: skip

    def _on_draining(self, fact: instance_pb2.InstanceDraining, envelope: Envelope) -> None:
        self._left(fact.instance_id, fact.epoch, f"draining: {fact.reason}")

    def _on_stopped(self, fact: instance_pb2.InstanceStopped, envelope: Envelope) -> None:
        self._left(fact.instance_id, fact.epoch, "stopped")

    def _on_exited(self, fact: node_pb2.InstanceExited, envelope: Envelope) -> None:
        self._left(fact.instance_id, fact.epoch, f"its process exited with {fact.exit_code}")

    def _left(self, instance: str, epoch: str, reason: str) -> None:
        self._driver.feed(on.InstanceLeft(self._driver.now_us(), instance, epoch, reason))
