"""Fetches what an instance or a store holds, for a router that is new or has missed a change.

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
        """Fetch one; the core hears how it ended."""
        task = asyncio.create_task(self._fetch(effect))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Fetch no more."""
        for task in self._tasks:
            task.cancel()

    async def _fetch(self, effect: effects.AskKvSnapshot) -> None:
        try:
            event = await self._snapshot(effect)
        except ArgosyError as error:
            log.info("no KV snapshot of %s: %s", effect.instance, error)
            self.driver.feed(
                events.KvSnapshotFailed(
                    now_us=self.driver.now_us(), instance=effect.instance, epoch=effect.epoch
                )
            )
        else:
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
