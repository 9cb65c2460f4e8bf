"""The operator: fleet files in, decisions out, and what became of them."""

from pathlib import Path
from typing import Any

from argosy.mesh import rpc
from argosy.mesh.bus import Envelope
from argosy.mesh.service import Mesh
from argosy.operator.core import effects as do
from argosy.operator.core import events as on
from argosy.operator.core.operator import SPEC, OperatorState
from argosy.operator.settings import OperatorSettings
from argosy.operator.shell.fleet_file import parse_fleet
from argosy.wire.instance.v1 import events_pb2 as instance_pb2
from argosy.wire.node_agent.v1 import events_pb2 as node_pb2
from argosy.wire.operator.v1 import events_pb2, operator_pb2, operator_pb2_grpc


class OperatorService(operator_pb2_grpc.OperatorServicer):
    """Serves Apply and Status. The control log is its memory."""

    def __init__(self, mesh: Mesh[OperatorSettings]) -> None:
        self.mesh = mesh
        self.tracer = mesh.tracer
        self._state = OperatorState()
        self._driver = mesh.drive(SPEC, self._state, self._perform)
        descriptor = operator_pb2.DESCRIPTOR.services_by_name["Operator"]
        mesh.server.add(operator_pb2_grpc.add_OperatorServicer_to_server, self, descriptor)

    async def start(self) -> None:
        """Read the control log: what was decided, the file that holds, what became of it."""
        await self.mesh.wait_for_bus()
        self.mesh.wait_for("the fleet's control log")
        bus, durable = self.mesh.bus, f"{self.mesh.name}-{self.mesh.epoch}"
        await bus.follow(events_pb2.InstanceDecided, self._on_decided, f"{durable}-decided").wait()
        await bus.follow(events_pb2.FleetApplied, self._on_applied, f"{durable}-applied").wait()
        bus.listen(node_pb2.NodeReported, self._on_node)
        for caught_up in (
            bus.follow(node_pb2.InstanceStarted, self._on_started, f"{durable}-started"),
            bus.follow(node_pb2.InstanceExited, self._on_exited, f"{durable}-exited"),
            bus.follow(node_pb2.InstanceRefused, self._on_refused, f"{durable}-refused"),
            bus.follow(instance_pb2.InstanceReady, self._on_ready, f"{durable}-ready"),
            bus.follow(instance_pb2.InstanceDraining, self._on_draining, f"{durable}-draining"),
        ):
            await caught_up.wait()

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
        parse_fleet(request.fleet_yaml)
        fact = events_pb2.FleetApplied(
            generation=self._state.generation + 1,
            fleet_yaml=request.fleet_yaml,
            base_dir=request.base_dir,
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
                        instance_id=name, role=instance.template.role, node=instance.node,
                        state=instance.state, reason=instance.reason,
                        since_ms=instance.since_us // 1000, restarts=instance.restarts,
                    )
                )  # fmt: skip
        return reply

    def _perform(self, effect: Any) -> None:
        match effect:
            case do.DecideInstance():
                self.mesh.bus.publish(
                    events_pb2.InstanceDecided(
                        instance_id=effect.instance, generation=effect.generation, run=effect.run,
                        node=effect.node, role=effect.role, memory_bytes=effect.memory_bytes,
                        cpu=effect.cores, settings=effect.settings, reason=effect.reason,
                    )
                )  # fmt: skip

    def _apply(self, fact: events_pb2.FleetApplied) -> None:
        fleet = parse_fleet(fact.fleet_yaml)
        pools = fleet.pools(Path(fact.base_dir))
        self._driver.feed(on.FleetApplied(self._driver.now_us(), fact.generation, pools))

    def _on_applied(self, fact: events_pb2.FleetApplied, envelope: Envelope) -> None:
        self._apply(fact)

    def _on_decided(self, fact: events_pb2.InstanceDecided, envelope: Envelope) -> None:
        template = on.Template(fact.role, fact.memory_bytes, int(fact.cpu), dict(fact.settings))
        self._driver.feed(
            on.DecisionRecalled(
                self._driver.now_us(), fact.instance_id, fact.run, fact.node, template
            )
        )

    def _on_node(self, fact: node_pb2.NodeReported, envelope: Envelope) -> None:
        now_us = self._driver.now_us()
        self._driver.feed(on.NodeSeen(now_us, fact.node, fact.memory_bytes, fact.promised_bytes))

    def _changed(
        self, instance: str, state: str, reason: str, envelope: Envelope, restarts: int = -1
    ) -> None:
        now_us, at_us = self._driver.now_us(), envelope.time_ms * 1000
        event = on.InstanceChanged(now_us, instance, state, reason, restarts, at_us)
        self._driver.feed(event)

    def _on_started(self, fact: node_pb2.InstanceStarted, envelope: Envelope) -> None:
        self._changed(fact.instance_id, "starting", "loading", envelope, fact.restarts)

    def _on_exited(self, fact: node_pb2.InstanceExited, envelope: Envelope) -> None:
        self._changed(fact.instance_id, "exited", f"exit code {fact.exit_code}", envelope)

    def _on_refused(self, fact: node_pb2.InstanceRefused, envelope: Envelope) -> None:
        self._changed(fact.instance_id, "refused", fact.reason, envelope)

    def _on_ready(self, fact: instance_pb2.InstanceReady, envelope: Envelope) -> None:
        self._changed(fact.instance_id, "ready", "", envelope)

    def _on_draining(self, fact: instance_pb2.InstanceDraining, envelope: Envelope) -> None:
        self._changed(fact.instance_id, "draining", fact.reason, envelope)
