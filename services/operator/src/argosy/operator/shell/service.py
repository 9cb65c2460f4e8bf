"""The operator: fleet files in, decisions out, and what became of them."""

import logging
from pathlib import Path
from typing import Any

from argosy.domain.errors import ArgosyError
from argosy.domain.pools import Template
from argosy.fleet.file import parse_fleet
from argosy.mesh import rpc
from argosy.mesh.bus import Envelope
from argosy.mesh.service import Mesh
from argosy.operator.core import effects, events
from argosy.operator.core.operator import SPEC
from argosy.operator.core.state import OperatorState
from argosy.operator.settings import OperatorSettings
from argosy.operator.shell.scaling_fact import scaling_fact
from argosy.operator.shell.subscriptions import OperatorSubscriptions
from argosy.wire.autoscaler.v1 import events_pb2 as scaler_pb2
from argosy.wire.operator.v1 import events_pb2, operator_pb2, operator_pb2_grpc

log = logging.getLogger(__name__)


class OperatorService(operator_pb2_grpc.OperatorServicer):
    """Serves Apply and Status. The control log is its memory."""

    def __init__(self, mesh: Mesh[OperatorSettings]) -> None:
        self.mesh = mesh
        self.tracer = mesh.tracer
        self._state = OperatorState()
        self._unreadable_generation = 0
        """At least that of any fleet file on the control log that cannot be read."""
        self._driver = mesh.drive(SPEC, self._state, self._perform)
        descriptor = operator_pb2.DESCRIPTOR.services_by_name["Operator"]
        mesh.server.add(operator_pb2_grpc.add_OperatorServicer_to_server, self, descriptor)

    async def start(self) -> None:
        """Read the control log: what was decided, the file that holds, what became of it."""
        await self.mesh.wait_for_bus()
        self.mesh.wait_for("the fleet's control log")
        bus, durable = self.mesh.bus, f"{self.mesh.name}-{self.mesh.epoch}"
        await bus.follow(events_pb2.InstanceDecided, self._on_decided, f"{durable}-decided").wait()
        await bus.follow(scaler_pb2.ScaleDecided, self._on_scale, f"{durable}-scale").wait()
        await bus.follow(
            events_pb2.FleetApplied,
            self._on_applied,
            f"{durable}-applied",
            on_unreadable=self._on_unreadable,
        ).wait()
        await OperatorSubscriptions(self.mesh, self._driver).start()

    async def drain(self) -> None:
        """Nothing runs here."""

    async def stop(self) -> None:
        """Nothing is held here."""

    @rpc.handler("operator.apply")
    async def Apply(
        self, request: operator_pb2.ApplyRequest, context: Any
    ) -> operator_pb2.ApplyReply:
        """Check a fleet file and make it hold."""
        self.mesh.check_ready()
        fact = events_pb2.FleetApplied(
            generation=max(self._state.generation, self._unreadable_generation) + 1,
            fleet_yaml=request.fleet_yaml,
            base_dir=request.base_dir,
            scaling=scaling_fact(parse_fleet(request.fleet_yaml)),
        )
        self.mesh.bus.publish(fact)
        self._apply(fact)
        return operator_pb2.ApplyReply(generation=fact.generation)

    @rpc.handler("operator.status", traced=False)
    async def Status(self, request: Any, context: Any) -> operator_pb2.StatusReply:
        """Every instance that shall exist, and what became of it."""
        reply = operator_pb2.StatusReply(
            fleet=self.mesh.settings.fleet, generation=self._state.generation
        )
        for name, instance in sorted(self._state.instances.items()):
            if instance.wanted:
                reply.instances.append(
                    operator_pb2.InstanceStatus(
                        instance_id=name,
                        role=instance.template.role,
                        node=instance.node,
                        state=instance.state,
                        reason=instance.reason,
                        since_ms=instance.since_us // 1000,
                        restarts=instance.restarts,
                        refused=instance.refused,
                    )
                )
        return reply

    def _perform(self, effect: Any) -> None:
        match effect:
            case effects.DecideInstance():
                self.mesh.bus.publish(
                    events_pb2.InstanceDecided(
                        instance_id=effect.instance,
                        generation=effect.generation,
                        run=effect.run,
                        node=effect.node,
                        role=effect.role,
                        memory_bytes=effect.memory_bytes,
                        cpu=effect.cores,
                        settings=effect.settings,
                        reason=effect.reason,
                        devices=effect.devices,
                    )
                )

    def _apply(self, fact: events_pb2.FleetApplied) -> None:
        fleet = parse_fleet(fact.fleet_yaml)
        pools = fleet.pools(Path(fact.base_dir))
        now_us = self._driver.now_us()
        bounds = {pool.role: (pool.min, pool.max) for pool in fact.scaling.pools}
        self._driver.feed(
            events.FleetApplied(
                now_us=now_us, generation=fact.generation, pools=pools, bounds=bounds
            )
        )

    def _on_applied(self, fact: events_pb2.FleetApplied, envelope: Envelope) -> None:
        try:
            self._apply(fact)
        except ArgosyError as error:
            # Written by another version. What was decided goes on; a new file takes its place.
            self._keep_generation(fact.generation, error.message)

    def _on_unreadable(self, envelope: Envelope, error: str) -> None:
        # Each file is one fact on the log, so no generation is beyond its place there.
        self._keep_generation(envelope.log_sequence, error)

    def _keep_generation(self, generation: int, error: str) -> None:
        """Let no later file have a generation that nodes and scalers think is an old one."""
        self._unreadable_generation = max(self._unreadable_generation, generation)
        log.error(
            "cannot read the fleet file of generation %d (%s): instances stay as they were "
            "decided; apply a file to go on from there",
            generation,
            error,
        )

    def _on_scale(self, fact: scaler_pb2.ScaleDecided, envelope: Envelope) -> None:
        if fact.advisory:
            return
        stop = [name for pool in fact.pools for name in pool.stop]
        exist = {pool.role: pool.exist for pool in fact.pools}
        self._driver.feed(
            events.ScaleSeen(
                now_us=self._driver.now_us(), generation=fact.generation, exist=exist, stop=stop
            )
        )

    def _on_decided(self, fact: events_pb2.InstanceDecided, envelope: Envelope) -> None:
        template = Template(
            fact.role, fact.memory_bytes, int(fact.cpu), dict(fact.settings), fact.devices
        )
        self._driver.feed(
            events.InstanceDecisionRecalled(
                now_us=self._driver.now_us(),
                instance=fact.instance_id,
                run=fact.run,
                node=fact.node,
                template=template,
                generation=fact.generation,
            )
        )
