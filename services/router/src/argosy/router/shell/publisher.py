"""Publishes the router's facts: its dispatches, for the other routers; its queue, for all.

Dispatches are gathered for GATHER_S, or until there are BATCH_MAX, and published as one fact.
The queue is published every QUEUE_S, so that its absence means something too.
"""

import asyncio

from argosy.mesh.service import Mesh
from argosy.router.core import effects
from argosy.router.settings import RouterSettings
from argosy.router.shell.view import FleetView
from argosy.wire.router.v1 import events_pb2

GATHER_S = 0.001
"""A fact per millisecond at most: far less than a prefill takes, and some dispatches share one."""
BATCH_MAX = 256
"""Bounds a fact's size: 256 dispatches with BLOCKS_MAX blocks each are about 2 MiB."""
BLOCKS_MAX = 1024
"""Leading blocks of a prompt that are published: 32,768 tokens at the default block size."""
QUEUE_S = 0.25
"""Four a second: the autoscaler reads them once a second, other routers wait for several."""


class RouterPublisher:
    """See the module."""

    def __init__(self, mesh: Mesh[RouterSettings]) -> None:
        self._mesh = mesh
        self._gathered = events_pb2.RequestsDispatched(router=mesh.name)
        self._due: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, view: FleetView) -> None:
        """Publish the queue from now on."""
        self._task = asyncio.create_task(self._report_queue(view))

    def stop(self) -> None:
        """Publish what was gathered, and stop."""
        if self._task is not None:
            self._task.cancel()
        self._send()

    def add(self, effect: effects.TellPeerRouters) -> None:
        """Add one dispatch or end to the next fact."""
        fact = self._gathered
        if effect.ended:
            fact.ended.append(effect.request_id)
        else:
            fact.dispatched.append(
                events_pb2.Dispatched(
                    request_id=effect.request_id,
                    prefill=effect.prefill,
                    prefill_dp_rank=effect.prefill_rank,
                    decode=effect.decode,
                    decode_dp_rank=effect.decode_rank,
                    prompt_tokens=effect.prompt_tokens,
                    uncached_tokens=effect.uncached_tokens,
                    tenant=effect.tenant,
                    blocks=effect.blocks[:BLOCKS_MAX],
                )
            )
        if len(fact.dispatched) + len(fact.ended) >= BATCH_MAX:
            self._send()
        elif self._due is None:
            self._due = asyncio.get_running_loop().call_later(GATHER_S, self._send)

    def publish_demand(self, effect: effects.PublishDemand) -> None:
        """Publish that requests wait for a model that sleeps."""
        waited_us = self._mesh.clock.now_us() - effect.oldest_us
        self._mesh.bus.publish(
            events_pb2.DemandSeen(
                router=self._mesh.name,
                model=effect.model,
                queued_requests=effect.queued_requests,
                queued_tokens=effect.queued_tokens,
                oldest_wait_ms=max(0, waited_us) // 1000,
            )
        )

    def _send(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._gathered.dispatched or self._gathered.ended:
            self._mesh.bus.publish(self._gathered)
            self._gathered = events_pb2.RequestsDispatched(router=self._mesh.name)

    async def _report_queue(self, view: FleetView) -> None:
        while True:
            self._mesh.bus.publish(view.queue_fact())
            await asyncio.sleep(QUEUE_S)
