"""Instances' lives as their node sees them: decisions in, calls to instances, refusals out.

A call that fails is made again while its decision holds and the process is the same: an
instance that is gone has another life, told by its next facts.
"""

import asyncio
import logging
from typing import Any

from argosy.domain.errors import ArgosyError
from argosy.mesh import rpc, telemetry
from argosy.mesh.bus import Envelope
from argosy.mesh.driver import Driver
from argosy.mesh.instance_facts import state_name
from argosy.mesh.service import Mesh
from argosy.node_agent.core import effects, events, sleep
from argosy.node_agent.core.state import NodeState
from argosy.node_agent.settings import NodeAgentSettings
from argosy.wire.autoscaler.v1 import events_pb2 as scaler_pb2
from argosy.wire.instance.v1 import events_pb2 as instance_events_pb2
from argosy.wire.instance.v1 import instance_pb2
from argosy.wire.instance.v1.instance_pb2_grpc import LifecycleStub
from argosy.wire.node_agent.v1 import events_pb2

log = logging.getLogger(__name__)

CALL_S = 2.0
OLD_MS = 30_000
RETRY_S = 0.2
CHANGES = ("InstanceDraining", "InstanceSlept", "InstanceWaking", "InstanceWoke")


class Instances:
    """See the module."""

    def __init__(self, mesh: Mesh[NodeAgentSettings], state: NodeState, driver: Driver) -> None:
        self._mesh = mesh
        self._state = state
        self._driver = driver
        self._addresses: dict[str, tuple[str, str]] = {}
        """With the epoch of the process there."""
        self._since_ms = mesh.clock.now_ms()

    async def start(self) -> None:
        """Follow decisions, and what instances tell of themselves."""
        bus, durable = self._mesh.bus, f"{self._mesh.name}-{self._mesh.epoch}"
        caught_up = [
            bus.follow(instance_events_pb2.InstanceReady, self._on_ready, f"{durable}-ready"),
            *(
                bus.follow(getattr(instance_events_pb2, name), self._on_change, f"{durable}-{name}")
                for name in CHANGES
            ),
            bus.follow(scaler_pb2.SleepDecided, self._on_sleep, f"{durable}-sleep"),
            bus.follow(scaler_pb2.WakeDecided, self._on_wake, f"{durable}-wake"),
        ]
        await asyncio.gather(*(event.wait() for event in caught_up))

    async def ask(self, effect: effects.PutToSleep | effects.WakeUp) -> None:
        """Tell the instance what was decided."""
        process = self._state.processes[effect.name]
        epoch = process.epoch
        # However long it loads.
        while (
            process.pid
            and process.epoch == epoch
            and process.decision_sequence == effect.decision_sequence
        ):
            try:
                await self._call(effect)
                return
            except (ArgosyError, KeyError) as error:
                log.debug("%s does not take a decision yet: %s", effect.name, error)
            await asyncio.sleep(RETRY_S)

    async def _call(self, effect: effects.PutToSleep | effects.WakeUp) -> None:
        epoch, address = self._addresses[effect.name]
        if epoch != self._state.processes[effect.name].epoch:
            raise KeyError(effect.name)  # That address may be somebody else's by now.
        stub = self._mesh.channels.stub(LifecycleStub, address)
        if isinstance(effect, effects.WakeUp):
            wake = instance_pb2.WakeRequest(
                decision_sequence=effect.decision_sequence, cause=effect.cause
            )
            reply = await rpc.call(stub.Wake, wake, timeout_s=CALL_S, instance=effect.name)
            self._tell(effect.name, reply.epoch, reply.change)
            return
        sleep = instance_pb2.SleepRequest(
            decision_sequence=effect.decision_sequence,
            level=effect.level,
            drain_ms=effect.drain_us // 1000,
            cause=effect.cause,
        )
        reply = await rpc.call(stub.Sleep, sleep, timeout_s=CALL_S, instance=effect.name)
        # Where it is already, it tells nothing new: the answer says so.
        self._tell(effect.name, reply.epoch, reply.change)

    def announce_refused(self, effect: effects.AnnounceSleepDecisionRefused) -> None:
        """Publish why it cannot be."""
        self._mesh.bus.publish(
            events_pb2.SleepDecisionRefused(
                instance_id=effect.name,
                node=self._mesh.settings.node,
                reason=effect.reason,
                decision_sequence=effect.decision_sequence,
                wake=effect.wake,
            )
        )

    def pool(self) -> dict[str, int]:
        """What the silent pool holds, as NodeReported tells it."""
        state = self._state
        asleep = (p for p in state.processes.values() if p.sleep_state == "silent")
        return {
            "silent_bytes": sum(process.held_bytes for process in asleep),
            "devices": len(state.devices),
            "devices_held": len(sleep.holders(state, state.devices)),
        }

    def _on_ready(self, fact: instance_events_pb2.InstanceReady, envelope: Envelope) -> None:
        if fact.instance_id in self._state.processes:
            self._addresses[fact.instance_id] = (fact.epoch, fact.address)
        self._on_change(fact, envelope)

    def _on_change(self, fact: Any, envelope: Envelope) -> None:
        if fact.instance_id not in self._state.processes:
            return
        self._tell(fact.instance_id, fact.epoch, fact.change)

    def _tell(self, name: str, epoch: str, change: instance_events_pb2.Change) -> None:
        state = state_name(change)
        self._driver.feed(
            events.LifecycleChanged(
                now_us=self._driver.now_us(),
                name=name,
                epoch=epoch,
                change=change.number,
                state=state,
                resident_bytes=change.resident_bytes,
                decision_sequence=change.decision_sequence,
            )
        )

    def _concerns(
        self, fact: scaler_pb2.SleepDecided | scaler_pb2.WakeDecided, envelope: Envelope
    ) -> bool:
        """Whether it is of a process of ours: those of the log's past are no more."""
        return fact.node == self._mesh.settings.node and envelope.time_ms >= self._since_ms

    def _on_sleep(self, fact: scaler_pb2.SleepDecided, envelope: Envelope) -> None:
        if not self._concerns(fact, envelope):
            return
        if self._mesh.clock.now_ms() - envelope.time_ms > OLD_MS:
            # It waited for the bus: what it was decided on is past.
            late = "the decision to sleep came too late"
            self.announce_refused(
                effects.AnnounceSleepDecisionRefused(
                    name=fact.instance_id,
                    decision_sequence=fact.decision_sequence,
                    reason=late,
                    wake=False,
                )
            )
            return
        event = events.SleepDecided(
            now_us=self._driver.now_us(),
            name=fact.instance_id,
            decision_sequence=fact.decision_sequence,
            level=fact.level,
            drain_us=fact.drain_ms * 1000,
            cause=fact.reason,
        )
        self._feed("node_agent.sleep", event, envelope)

    def _on_wake(self, fact: scaler_pb2.WakeDecided, envelope: Envelope) -> None:
        if self._concerns(fact, envelope):
            now_us = self._driver.now_us()
            event = events.WakeDecided(
                now_us=now_us,
                name=fact.instance_id,
                decision_sequence=fact.decision_sequence,
                cause=fact.reason,
            )
            self._feed("node_agent.wake", event, envelope)

    def _feed(
        self, name: str, event: events.SleepDecided | events.WakeDecided, envelope: Envelope
    ) -> None:
        """Within the trace of the decision: what is asked of the instance belongs to it."""
        above = telemetry.extract(envelope.headers.items())
        with telemetry.span(self._mesh.tracer, name, above, instance=event.name):
            self._driver.feed(event)
