"""Fetches the list of KV blocks that an instance or a store holds.

The core asks for it when this router is new, or when it has missed a change.

Bounds: one call per instance (the core asks again only after an answer), SNAPSHOT_S each.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from argosy.domain.errors import ArgosyError
from argosy.mesh import rpc
from argosy.mesh.driver import Driver
from argosy.mesh.service import Mesh
from argosy.router.core import effects, events
from argosy.router.settings import RouterSettings
from argosy.wire.decode.v1 import decode_pb2_grpc
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.kvstore.v1 import kvstore_pb2_grpc
from argosy.wire.prefill.v1 import prefill_pb2_grpc

log = logging.getLogger(__name__)

SNAPSHOT_S = 10
"""A million blocks take about a second; an instance that takes longer is asked again later."""
STUBS: dict[str, Callable[[Any], Any]] = {
    "prefill": prefill_pb2_grpc.PrefillStub,
    "kvstore": kvstore_pb2_grpc.KvStoreStub,
}


class Snapshots:
    """See the module."""

    def __init__(self, mesh: Mesh[RouterSettings]) -> None:
        self._mesh = mesh
        self.driver: Driver
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, effect: effects.AskKvSnapshot) -> None:
        """Fetch one snapshot, and feed the core KvSnapshotTaken or KvSnapshotFailed."""
        task = asyncio.create_task(self._fetch(effect))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Cancel the fetches that are under way."""
        for task in self._tasks:
            task.cancel()

    async def _fetch(self, effect: effects.AskKvSnapshot) -> None:
        # The core asks again only after an answer, so every failure has to be one.
        try:
            event: events.RouterEvent = await self._snapshot(effect)
        except Exception as error:
            if isinstance(error, ArgosyError):
                log.info("no KV snapshot of %s: %s", effect.instance, error)
            else:
                log.exception("the KV snapshot of %s failed", effect.instance)
            event = events.KvSnapshotFailed(
                now_us=self.driver.now_us(), instance=effect.instance, epoch=effect.epoch
            )
        self.driver.feed(event)

    async def _snapshot(self, effect: effects.AskKvSnapshot) -> events.KvSnapshotTaken:
        channel = self._mesh.channels.get(effect.address)
        stub = STUBS.get(effect.role, decode_pb2_grpc.DecodeStub)(channel)
        blocks: list[list[int]] = []
        epoch, sequence = effect.epoch, 0
        parts = rpc.stream(
            stub.KvSnapshot,
            inference_pb2.KvSnapshotRequest(),
            timeout_s=SNAPSHOT_S,
            instance=effect.instance,
        )
        async for part in parts:
            while len(blocks) <= part.dp_rank:
                blocks.append([])
            blocks[part.dp_rank] += part.blocks
            epoch, sequence = part.epoch, part.change_sequence
        now_us = self.driver.now_us()
        return events.KvSnapshotTaken(
            now_us=now_us, instance=effect.instance, epoch=epoch, sequence=sequence, blocks=blocks
        )
