"""The router's state for status, health and facts. Reads the core's state, never changes it."""

import asyncio

import msgspec

from argosy.mesh.service import Mesh
from argosy.router.core.fleet import members
from argosy.router.core.state import RouterState
from argosy.router.settings import RouterSettings
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.router.v1 import events_pb2 as router_pb2_events
from argosy.wire.router.v1 import router_pb2


class FleetView:
    """Answers which instances there are, and whether a request would work now."""

    def __init__(self, mesh: Mesh[RouterSettings], state: RouterState) -> None:
        self._mesh = mesh
        self._state = state

    def trouble(self) -> str:
        """Why a request would fail now; empty when it would not."""
        if not self._mesh.ready:
            return f"waiting for {self._mesh.waiting_for}"
        state = self._state
        if state.queued_requests >= state.limits.queue_limit:
            return f"the queue is full: {state.queued_requests} requests"
        model = self._mesh.settings.model
        # A sleeping instance is woken on demand: a request only waits for that.
        usable = (i for i in state.instances.values() if i.live or not (i.serving or i.final))
        if not any(i.role == "decode" and i.model == model for i in usable):
            return f"no decode instance of {model} is live"
        return ""

    def models(self) -> list[router_pb2.Model]:
        """Models that have joined since start, whether or not an instance is live."""
        return [
            router_pb2.Model(name=name, max_model_tokens=context)
            for name, context in sorted(self._state.models.items())
        ]

    def status(self) -> router_pb2.StatusReply:
        """Everything, for operators' eyes."""
        state = self._state
        reply = router_pb2.StatusReply(
            ready=not self.trouble(),
            waiting_for=self.trouble(),
            queued_requests=state.queued_requests,
            running_requests=len(state.requests) - state.queued_requests,
        )
        for name, instance in sorted(state.instances.items()):
            load = inference_pb2.Load(
                instance_id=name,
                epoch=instance.epoch,
                running_requests=sum(r.running_requests for r in instance.ranks),
                waiting_requests=sum(
                    r.waiting_requests + len(r.sent) + len(r.inbound) for r in instance.ranks
                ),
                queued_prefill_tokens=sum(r.prefill_tokens for r in instance.ranks),
                kv_used_blocks=sum(r.kv_used_blocks for r in instance.ranks),
                kv_total_blocks=instance.kv_total_blocks * len(instance.ranks),
                kv_held_blocks=instance.kv_held_blocks,
                at_us=instance.reported_us,
            )
            reply.instances.append(
                router_pb2.InstanceView(
                    instance_id=name,
                    role=instance.role,
                    address=instance.address,
                    live=instance.live,
                    reason=instance.reason,
                    load=load,
                )
            )
        return reply

    def queue_fact(self) -> router_pb2_events.QueueReported:
        """What waits and what was asked for, for the autoscaler and for people."""
        state, now_us = self._state, self._mesh.clock.now_us()
        oldest_us = min((r.arrived_us for r in state.requests.values() if r.queued), default=now_us)
        return router_pb2_events.QueueReported(
            router=self._mesh.name,
            model=self._mesh.settings.model,
            queued_requests=state.queued_requests,
            queued_tokens=sum(state.queued_by_band.values()),
            oldest_wait_ms=max(0, now_us - oldest_us) // 1000,
            running_requests=len(state.requests) - state.queued_requests,
            arrived_requests=state.arrived_requests,
            rejected_requests=state.rejected_requests,
            at_us=now_us,
            busy_requests=members.busy_requests(state),
            epoch=self._mesh.epoch,
            traffic=router_pb2_events.Traffic(**msgspec.structs.asdict(state.traffic)),
        )

    async def until_idle(self) -> None:
        """Return when no request is under way."""
        while self._state.requests:
            await asyncio.sleep(0.05)
