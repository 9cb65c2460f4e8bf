"""Writes to SSD: which blocks are written, when, and what follows when a write has ended.

A block is written after the blocks it continues, because the scan at a start keeps whole prefixes
only. An SSD that fails is left alone for a while, and longer each time.
"""

from argosy.domain.core import Effect
from argosy.kvstore.core import effects, tiers
from argosy.kvstore.core.slots import ssd_slot_bytes
from argosy.kvstore.core.state import DRAM, SSD, StoredBlock, StoreState

SPARES_MAX = 64
"""How many blocks one event may evict or write ahead of time, so that a step's time is bounded."""
BACKOFF_US_MIN, BACKOFF_US_MAX = 1_000_000, 60_000_000
"""How long SSD is left alone after a failure: a second for a hiccup, doubled up to a minute, after
which a disk that was replaced or emptied is found again soon enough."""
BACKOFF_DOUBLINGS_MAX = 10
"""More would exceed BACKOFF_US_MAX anyway."""


def keep_spare(state: StoreState, now_us: int) -> list[Effect]:
    """Free some memory ahead of puts. Blocks that are worth it are written to SSD first."""
    tier, ssd = state.tiers[DRAM], state.tiers[SSD]
    if not ssd.slots.segments or not tier.blocks:
        return []
    found: list[Effect] = []
    spare_bytes = round(state.limits.spare_share * tier.slots.capacity_bytes)
    for _ in range(SPARES_MAX):
        free_bytes = tier.slots.capacity_bytes - tier.slots.used_bytes
        if free_bytes + state.writing_bytes >= spare_bytes:
            break
        key = tiers.victim(tier, now_us)
        if key is None:
            break
        block = state.blocks[key]
        worth = tier.eviction.worth_keeping(key, now_us) or bool(block.children)
        if block.ssd >= 0 or not worth:
            found += tiers.let_go(state, DRAM, block)
        elif not (writes := write(state, block, now_us)):
            break
        else:
            found += writes
    return found


def write(state: StoreState, block: StoredBlock, now_us: int) -> list[Effect]:
    """Begin to write a block to SSD, after those it continues.

    Writes none, or only some of these, if SSD is left alone, has enough to do or has no room.
    """
    chain: list[StoredBlock] = []
    at: StoredBlock | None = block
    while at is not None and at.ssd < 0 and at.writing < 0:
        chain.append(at)
        at = state.blocks.get(at.parent)
    found: list[Effect] = []
    if block.depth > state.tiers[SSD].slots.most(ssd_slot_bytes(block.block_bytes)):
        return found  # With its prefix it is more than SSD can hold.
    for link in reversed(chain):
        found += _write_one(state, link, now_us)
        if link.writing < 0:
            break
    return found


def _write_one(state: StoreState, block: StoredBlock, now_us: int) -> list[Effect]:
    busy = state.writing_bytes + block.block_bytes > max(
        state.limits.writing_bytes, block.block_bytes
    )
    if busy or now_us < state.ssd_backoff_until_us or block.writing >= 0 or block.dram < 0:
        return []
    slot_bytes = ssd_slot_bytes(block.block_bytes)
    # Pinned before room is made, so that neither is evicted for its own sake.
    tiers.pin(state, block.key)
    tiers.pin(state, block.parent)
    offset, found = tiers.take_slot(state, SSD, slot_bytes, now_us)
    # Evictions may have dropped the block: with a prefix that was only on SSD.
    gone = state.blocks.get(block.key) is not block
    if offset < 0 or gone:
        tiers.unpin(state, block.key)
        tiers.unpin(state, block.parent)
        if offset >= 0:
            state.tiers[SSD].slots.give(offset)
        return found
    block.writing = offset
    state.writing_bytes += block.block_bytes
    state.writing_blocks += 1
    return [*found, effects.WriteSsd(moves=[tiers.move_of(block, offset)], slot_bytes=slot_bytes)]


def written(state: StoreState, keys: list[bytes], trouble: str, now_us: int) -> list[Effect]:
    """Take in that writes have ended: well, or with `trouble`, and then SSD is left alone."""
    found: list[Effect] = []
    for key in keys:
        block = state.blocks[key]
        offset, block.writing = block.writing, -1
        state.writing_bytes -= block.block_bytes
        state.writing_blocks -= 1
        tiers.unpin(state, block.key)
        tiers.unpin(state, block.parent)
        above = state.blocks.get(block.parent)
        if trouble:
            state.tiers[SSD].slots.give(offset)
        elif above is not None and above.ssd < 0:
            # Its prefix was not written, or was evicted meanwhile: a start would not find it.
            state.tiers[SSD].slots.give(offset)
            found.append(effects.ClearSsd(offsets=[offset]))
        else:
            block.ssd = offset
            found += tiers.enter(state, SSD, block, now_us)
        found += tiers.settle(state, block)
    rest(state, trouble, now_us)
    return found


def rest(state: StoreState, trouble: str, now_us: int) -> None:
    """Leave SSD alone for a while if there is `trouble`, for longer each time."""
    state.ssd_trouble = trouble
    state.ssd_failures = state.ssd_failures + 1 if trouble else 0
    if trouble:
        backoff_us = min(
            BACKOFF_US_MAX, BACKOFF_US_MIN << min(BACKOFF_DOUBLINGS_MAX, state.ssd_failures - 1)
        )
        state.ssd_backoff_until_us = now_us + backoff_us
