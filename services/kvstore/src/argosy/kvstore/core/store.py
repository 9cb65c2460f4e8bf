"""Which blocks the store keeps, in which tier, and who may read and write them.

The way of a block: a writer offers it and writes it into memory; when it is requested again, or
would be evicted next, it is written to SSD; memory evicts it; when it is requested, it is read back
into memory. Each step is an event, and a block's fields say where it is on this way.
"""

from argosy.domain.core import Effect, SetTimer, TimerFired
from argosy.kvstore.core import (
    effects,
    events,
    fetch_cost,
    flushing,
    reading,
    ssd_writes,
    tiers,
    writing,
)
from argosy.kvstore.core.state import SSD, StoredBlock, StoreState

SWEEP = "sweep"
SWEEP_US = 500_000
"""How often expired leases are looked for: a lease lasts for seconds."""


class StoreCore:
    """See the module. All methods are pure on `state`."""

    def __init__(self, state: StoreState) -> None:
        self.state = state

    def step(self, event: events.StoreEvent) -> list[Effect]:
        """Decide on one event."""
        state = self.state
        idle = not state.leases and not state.quarantined
        decided = self._decide(event)
        decided += ssd_writes.keep_spare(state, event.now_us)
        if isinstance(event, events.SsdWritten):
            decided += flushing.blocks_written(state, event)
        if (state.leases or state.quarantined) and (idle or isinstance(event, TimerFired)):
            decided.append(SetTimer(key=SWEEP, at_us=event.now_us + SWEEP_US))
        return decided

    def _decide(self, event: events.StoreEvent) -> list[Effect]:
        state = self.state
        match event:
            case events.BlocksRequested():
                return reading.asked(state, event)
            case events.RoomRequested():
                return writing.room_asked(state, event)
            case events.BlocksWritten():
                return writing.written(state, event)
            case events.LeaseEnded():
                return self._end(event.lease, event.now_us)
            case events.SsdRead():
                return reading.was_read(state, event)
            case events.SsdWritten():
                return ssd_writes.written(state, event.keys, event.trouble, event.now_us)
            case events.BlockCorrupt():
                return self._corrupt(event)
            case events.FlushRequested():
                return flushing.flush_requested(state, event)
            case events.FetchMeasured():
                fetch_cost.measured(state.tiers[event.tier], event.fetched_bytes, event.took_us)
                return []
            case events.SsdRecovered():
                return self._recovered(event)
            case TimerFired():
                return self._sweep(event.now_us)

    def _end(self, number: int, now_us: int) -> list[Effect]:
        lease = self.state.leases.pop(number, None)
        if lease is None:
            return []
        if lease.blocks:
            return writing.ended(self.state, lease, now_us + self.state.limits.lease_us)
        return reading.ended(self.state, lease)

    def _sweep(self, now_us: int) -> list[Effect]:
        """End leases that have expired."""
        decided: list[Effect] = []
        over = [n for n, lease in self.state.leases.items() if lease.expires_us <= now_us]
        for number in over:
            self.state.counts.expired_leases += 1
            decided += [effects.EndLease(lease=number), *self._end(number, now_us)]
        writing.rested(self.state, now_us)
        return decided

    def _corrupt(self, event: events.BlockCorrupt) -> list[Effect]:
        """Drop the copy: at once, or when the block is not in use any more."""
        block = self.state.blocks.get(event.key)
        if block is None or (block.dram, block.ssd)[event.tier] < 0 or block.doomed:
            return []
        self.state.counts.corrupt_blocks += 1
        block.corrupt = event.tier
        return tiers.settle(self.state, block)

    def _recovered(self, event: events.SsdRecovered) -> list[Effect]:
        """Take in the blocks that the scan of SSD found, but for those without their prefix."""
        state = self.state
        tier = state.tiers[SSD]
        by_key = {found.key: found for found in event.blocks}
        kept: dict[bytes, events.Recovered] = {}
        lost: dict[bytes, events.Recovered] = {}
        for found in by_key.values():
            chain: dict[bytes, events.Recovered] = {}
            at: events.Recovered | None = found
            while at is not None and at.key not in kept and at.key not in lost:
                if at.key in chain:
                    break  # The parents form a circle: this chain has no first block.
                chain[at.key] = at
                at = by_key.get(at.parent) if at.parent else None
            links = list(chain.values())
            whole = links and (not links[-1].parent or links[-1].parent in kept)
            (kept if whole else lost).update((link.key, link) for link in reversed(links))
        kept_at = {block.offset for block in kept.values()}
        offsets: dict[int, list[int]] = {}
        for found in kept.values():
            offsets.setdefault(tier.slots.segment_of(found.offset), []).append(found.offset)
        for segment in event.segments:
            held = offsets.get(segment.number, [])
            tier.slots.adopt(segment.number, segment.slot_bytes, held)
        decided: list[Effect] = []
        for found in kept.values():
            block = StoredBlock(
                found.key,
                found.parent,
                found.hash,
                found.tokens,
                found.block_bytes,
                found.checksum,
                ssd=found.offset,
            )
            state.blocks[block.key] = block
            if block.parent:
                above = state.blocks[block.parent]
                above.children[block.key] = None
                block.depth = above.depth + 1
            decided += tiers.enter(state, SSD, block, event.now_us)
        state.counts.recovered_blocks = len(kept)
        # Second copies go, too: or the next scan would find them after the first is evicted.
        if gone := [found.offset for found in event.blocks if found.offset not in kept_at]:
            decided.append(effects.ClearSsd(offsets=gone))
        return decided
