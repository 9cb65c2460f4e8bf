"""What one Get was granted, and how long its fetch took."""

import msgspec

from argosy.kvstore.core import effects, events


class GrantedBlocks(msgspec.Struct):
    """What a Get was granted so far: what its fetch cost is learned from it."""

    block_bytes: int
    began_us: int
    total: int = 0
    blocks: int = 0
    tiers: dict[int, None] = {}
    complete: bool = False

    def add(self, grant: effects.GrantBlocks) -> None:
        """Add what one more grant has."""
        self.total, self.complete = grant.total, grant.last
        self.blocks += len(grant.blocks)
        self.tiers.update(dict.fromkeys(placed.tier for placed in grant.blocks))

    def measured(self, now_us: int) -> events.FetchMeasured | None:
        """How long the fetch took; None if it was of several tiers, or of none."""
        if len(self.tiers) != 1 or not self.blocks:
            return None
        took_us = max(1, now_us - self.began_us)
        return events.FetchMeasured(
            now_us=now_us,
            tier=next(iter(self.tiers)),
            fetched_bytes=self.blocks * self.block_bytes,
            took_us=took_us,
        )
