"""Calls to a fleet's control services: operator, autoscaler, node agent."""

from typing import Protocol

import httpx

from argosy.domain.errors import ArgosyError
from argosy.mesh import rpc
from argosy.wire.autoscaler.v1 import autoscaler_pb2, autoscaler_pb2_grpc, events_pb2
from argosy.wire.node_agent.v1 import node_agent_pb2, node_agent_pb2_grpc
from argosy.wire.operator.v1 import operator_pb2, operator_pb2_grpc

TIMEOUT_S = 10
HISTORY_S = 60
"""Months of slots take a moment."""


class Addresses(Protocol):
    """Where a fleet's services listen: host:port, and a URL for HTTP."""

    operator: str
    autoscaler: str
    node_agent: str
    http: str


class ControlClient:
    """A running fleet's operator, autoscaler, node agent and health."""

    def __init__(self, running: Addresses) -> None:
        self._running = running
        self._channels = rpc.Channels()
        operator = self._channels.get(running.operator)
        self._operator = operator_pb2_grpc.OperatorStub(operator)
        autoscaler = self._channels.get(running.autoscaler)
        self._autoscaler = autoscaler_pb2_grpc.AutoscalerStub(autoscaler)
        node_agent = self._channels.get(running.node_agent)
        self._node_agent = node_agent_pb2_grpc.NodeAgentStub(node_agent)
        self._http = httpx.AsyncClient(base_url=running.http, timeout=TIMEOUT_S, trust_env=False)

    async def close(self) -> None:
        """Hang up."""
        await self._http.aclose()
        await self._channels.close()

    async def apply(self, fleet_yaml: str, base_dir: str) -> int:
        """Make a fleet file hold; returns its generation."""
        request = operator_pb2.ApplyRequest(fleet_yaml=fleet_yaml, base_dir=base_dir)
        reply = await rpc.call(self._operator.Apply, request, timeout_s=TIMEOUT_S)
        return int(reply.generation)

    async def operator_status(self) -> operator_pb2.StatusReply:
        """Instances as the operator knows them."""
        request = operator_pb2.StatusRequest()
        reply = await rpc.call(self._operator.Status, request, timeout_s=TIMEOUT_S)
        assert isinstance(reply, operator_pb2.StatusReply)
        return reply

    async def sleep(self, names: list[str], level: str, drain_ms: int) -> list[str]:
        """Decide that these (none: all) sleep; returns who that is."""
        request = autoscaler_pb2.SleepRequest(instance_ids=names, level=level, drain_ms=drain_ms)
        reply = await rpc.call(self._autoscaler.Sleep, request, timeout_s=TIMEOUT_S)
        return list(reply.instance_ids)

    async def wake(self, names: list[str]) -> list[str]:
        """Decide that these (none: all) wake; returns who that is."""
        request = autoscaler_pb2.WakeRequest(instance_ids=names)
        reply = await rpc.call(self._autoscaler.Wake, request, timeout_s=TIMEOUT_S)
        return list(reply.instance_ids)

    async def sleep_status(self) -> dict[str, autoscaler_pb2.InstanceSleep]:
        """What was last decided on each instance's sleep, by name."""
        request = autoscaler_pb2.SleepStatusRequest()
        reply = await rpc.call(self._autoscaler.SleepStatus, request, timeout_s=TIMEOUT_S)
        return {instance.instance_id: instance for instance in reply.instances}

    async def scaler_status(self) -> autoscaler_pb2.StatusReply:
        """What the autoscaler expects and decided last."""
        request = autoscaler_pb2.StatusRequest()
        reply = await rpc.call(self._autoscaler.Status, request, timeout_s=TIMEOUT_S)
        assert isinstance(reply, autoscaler_pb2.StatusReply)
        return reply

    async def explain(self, decision_id: str) -> autoscaler_pb2.ExplainReply:
        """The decision whose id begins so (empty: the last), and what came of it."""
        request = autoscaler_pb2.ExplainRequest(id=decision_id)
        reply = await rpc.call(self._autoscaler.Explain, request, timeout_s=TIMEOUT_S)
        assert isinstance(reply, autoscaler_pb2.ExplainReply)
        return reply

    async def add_plan(self, name: str, text: str) -> autoscaler_pb2.Plan:
        """Let an operational plan hold; without a name, its text makes one."""
        request = autoscaler_pb2.AddPlanRequest(name=name, text=text)
        reply = await rpc.call(self._autoscaler.AddPlan, request, timeout_s=TIMEOUT_S)
        assert isinstance(reply, autoscaler_pb2.Plan)
        return reply

    async def remove_plan(self, name: str) -> autoscaler_pb2.Plan:
        """Let it hold no more; returns what it was."""
        request = autoscaler_pb2.RemovePlanRequest(name=name)
        reply = await rpc.call(self._autoscaler.RemovePlan, request, timeout_s=TIMEOUT_S)
        assert isinstance(reply, autoscaler_pb2.Plan)
        return reply

    async def plans(self) -> list[autoscaler_pb2.Plan]:
        """Operational plans, those of the fleet file too."""
        request = autoscaler_pb2.ListPlansRequest()
        reply = await rpc.call(self._autoscaler.ListPlans, request, timeout_s=TIMEOUT_S)
        return list(reply.plans)

    async def history(self, since_us: int) -> list[events_pb2.DemandMeasured]:
        """What was asked from then on, slot by slot, oldest first."""
        request = autoscaler_pb2.HistoryRequest(since_us=since_us)
        slots = rpc.stream(self._autoscaler.History, request, timeout_s=HISTORY_S)
        return [slot async for slot in slots]

    async def processes(self) -> list[node_agent_pb2.Process]:
        """Every process of the node."""
        request = node_agent_pb2.ListProcessesRequest()
        reply = await rpc.call(self._node_agent.ListProcesses, request, timeout_s=TIMEOUT_S)
        return list(reply.processes)

    async def scaler_trouble(self) -> str:
        """What the autoscaler waits for; empty when it serves."""
        try:
            await self.sleep_status()
        except ArgosyError as error:
            return f"the autoscaler to start ({error.message})"
        return ""

    async def router_trouble(self) -> str:
        """What /healthz complains of; empty when requests would be served."""
        try:
            reply = await self._http.get("/healthz")
        except httpx.HTTPError:
            return "the router to start"
        return "" if reply.status_code == httpx.codes.OK else reply.text.strip()
