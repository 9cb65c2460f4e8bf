"""What the store publishes: a report at each heartbeat, and changes of its blocks, in batches.

Bounds: a batch goes out after BATCH_S at the latest, or when it has BATCH_BLOCKS.
"""

import asyncio

from argosy.kvstore.core.state import StoreState
from argosy.kvstore.settings import KvstoreSettings
from argosy.mesh.service import Mesh
from argosy.mesh.tasks import start_watched
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.instance.v1 import events_pb2 as instance_pb2
from argosy.wire.kvstore.v1 import events_pb2, kvstore_pb2

TIERS = (kvstore_pb2.TIER_DRAM, kvstore_pb2.TIER_SSD)
BATCH_S = 0.02
"""As often as an instance reports: routers learn of a block before its prompt comes again."""
BATCH_BLOCKS = 8192
"""At most 10 bytes each on the wire: well within NATS' 1 MB."""
PART_BLOCKS = 50_000
"""Of one message of a snapshot: 500 kB at most, within gRPC's 4 MB."""


class KvStorePublisher:
    """See the module."""

    def __init__(self, mesh: Mesh[KvstoreSettings], state: StoreState) -> None:
        self._mesh = mesh
        self._state = state
        self._changes: dict[tuple[int, int], bool] = {}
        """(tier, hash) -> whether the tier has it now. A block that came and went is in no fact."""
        self._sequence = 0
        self._due: asyncio.TimerHandle | None = None
        self._heartbeat: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Publish that the store is ready, now and whenever the bus is connected again."""
        self._announce()
        self._mesh.bus.on_connection.append(self._on_connection)
        self._heartbeat = start_watched(self._beat(), "the heartbeat")

    def stop(self) -> None:
        """Publish that the store has stopped."""
        if self._due is not None:
            self._due.cancel()
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            mesh = self._mesh
            change = instance_pb2.Change(state=instance_pb2.STATE_STOPPED, number=2)
            gone = instance_pb2.InstanceStopped(
                instance_id=mesh.name, epoch=mesh.epoch, change=change
            )
            mesh.bus.publish(gone)

    def changed(self, tier: int, hashes: list[int], *, stored: bool) -> None:
        """A tier has stored these blocks, or lost them."""
        for block in hashes:
            if self._changes.get((tier, block), stored) != stored:
                del self._changes[tier, block]
            else:
                self._changes[tier, block] = stored
        if len(self._changes) >= BATCH_BLOCKS:
            self.flush()
        elif self._changes and self._due is None:
            self._due = asyncio.get_running_loop().call_later(BATCH_S, self.flush)

    def flush(self) -> None:
        """Publish what has changed."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        changes, self._changes = self._changes, {}
        for kind, stored in ((events_pb2.KvEvicted, False), (events_pb2.KvStored, True)):
            for tier in (0, 1):
                blocks = [h for (t, h), now in changes.items() if t == tier and now == stored]
                if blocks:
                    self._sequence += 1
                    self._mesh.bus.publish(
                        kind(
                            store_id=self._mesh.name,
                            epoch=self._mesh.epoch,
                            tier=TIERS[tier],
                            blocks=blocks,
                            change_sequence=self._sequence,
                        )
                    )

    def snapshot(self) -> list[inference_pb2.KvSnapshotPart]:
        """Every block held now, by tier, in parts."""
        self.flush()
        held: tuple[list[int], list[int]] = ([], [])
        for block in self._state.blocks.values():
            if block.dram >= 0 and not block.reading:
                held[0].append(block.hash)
            if block.ssd >= 0:
                held[1].append(block.hash)
        return [
            inference_pb2.KvSnapshotPart(
                instance_id=self._mesh.name,
                epoch=self._mesh.epoch,
                dp_rank=tier,
                change_sequence=self._sequence,
                blocks=hashes[start : start + PART_BLOCKS],
            )
            for tier, hashes in enumerate(held)
            for start in range(0, max(1, len(hashes)), PART_BLOCKS)
        ]

    def tier_stats(self) -> list[kvstore_pb2.TierStats]:
        """What each tier holds, and has done since the start."""
        return [
            kvstore_pb2.TierStats(
                tier=TIERS[number],
                capacity_bytes=tier.slots.capacity_bytes,
                used_bytes=tier.slots.used_bytes,
                blocks=tier.blocks,
                tokens=tier.tokens,
                hit_blocks=tier.hit_blocks,
                evicted_blocks=tier.evicted_blocks,
                fetch_ms=tier.fetch_ms,
                fetch_gb_per_s=tier.fetch_gb_per_s,
            )
            for number, tier in enumerate(self._state.tiers)
            if tier.slots.segments
        ]

    def _on_connection(self, connected: bool) -> None:
        if connected:
            self._announce()

    def _announce(self) -> None:
        mesh = self._mesh
        mesh.bus.publish(
            instance_pb2.InstanceReady(
                instance_id=mesh.name,
                epoch=mesh.epoch,
                role=instance_pb2.ROLE_KVSTORE,
                change=instance_pb2.Change(state=instance_pb2.STATE_ACTIVE, number=1),
                address=mesh.address,
                node=mesh.settings.node,
            )
        )
        self._report()

    def _report(self) -> None:
        mesh = self._mesh
        mesh.bus.publish(
            events_pb2.StoreReported(
                store_id=mesh.name,
                epoch=mesh.epoch,
                address=mesh.address,
                node=mesh.settings.node,
                tiers=self.tier_stats(),
            )
        )

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._mesh.settings.heartbeat_s)
            self._report()
