"""The facts a KV store publishes, as a live one does."""

from argosy.kvstore.core.state import DRAM, SSD
from argosy.router.core import events
from argosy.sim.fleet.event_queue import EventQueue
from argosy.sim.fleet.ports import Publish

STORE_NAME, EPOCH = "kvstore-0", "1"
CHANGES_US = 20_000
"""Changes are collected this long and then published as one fact, as live stores do."""


class StorePublisher:
    """Collects changes of blocks and publishes what is left of them."""

    def __init__(self, queue: EventQueue, publish: Publish) -> None:
        self._queue = queue
        self._publish = publish
        self._sequence = 0
        """The number of the last change that was published."""
        self._changes: dict[tuple[int, int], bool] = {}
        """(tier, block) → whether it was stored or removed."""

    def seen(self, costs: list[tuple[float, float]]) -> None:
        """The store is there. Costs are (fetch_ms, fetch_gb_per_s) of each tier."""
        self._publish(
            lambda now_us: events.StoreSeen(
                now_us=now_us, store=STORE_NAME, epoch=EPOCH, address=STORE_NAME, tiers=costs
            )
        )

    def changed(self, tier: int, hashes: list[int], *, stored: bool) -> None:
        """Blocks were stored or removed. One after the other cancels out."""
        if not self._changes:
            self._queue.after(CHANGES_US, self.publish_changes)
        for block in hashes:
            if self._changes.get((tier, block), stored) != stored:
                del self._changes[tier, block]
            else:
                self._changes[tier, block] = stored

    def publish_changes(self) -> None:
        """Publish the changes collected so far."""
        changes, self._changes = self._changes, {}
        for tier in (DRAM, SSD):
            removed = [h for (t, h), stored in changes.items() if t == tier and not stored]
            added = [h for (t, h), stored in changes.items() if t == tier and stored]
            if removed or added:
                self._sequence += 1
                self._publish_change(tier, added, removed, self._sequence)

    def _publish_change(
        self, tier: int, added: list[int], removed: list[int], sequence: int
    ) -> None:
        self._publish(
            lambda now_us: events.KvChanged(
                now_us=now_us,
                instance=STORE_NAME,
                epoch=EPOCH,
                sequence=sequence,
                stored=added,
                removed=removed,
                dp_rank=tier,
            )
        )

    def snapshot(self, now_us: int, blocks: list[list[int]]) -> events.KvSnapshotTaken:
        """All blocks by tier, including every change published so far."""
        return events.KvSnapshotTaken(
            now_us=now_us, instance=STORE_NAME, epoch=EPOCH, sequence=self._sequence, blocks=blocks
        )
