"""Where blocks are: room made, blocks let go, written to SSD and read back.

No block is kept whose prefix is gone: policies let leaves go first, and whatever
nonetheless loses its prefix in both tiers goes with it.
"""

from argosy.domain.core import Effect
from argosy.kvstore.core import effects
from argosy.kvstore.core.slots import ssd_slot_bytes
from argosy.kvstore.core.state import DRAM, SSD, StoredBlock, StoreState, TierState

TRIES_MAX = 64
REST_US_MIN, REST_US_MAX = 1_000_000, 60_000_000


def held(block: StoredBlock | None) -> bool:
    """Whether its bytes can be had, now or after a read."""
    if block is None or block.doomed or block.corrupt >= 0:
        return False
    return block.ssd >= 0 or (block.dram >= 0 and not block.reading)


def pin(state: StoreState, key: bytes) -> None:
    """Keep the block where it is."""
    for tier in state.tiers:
        tier.eviction.pin(key)


def unpin(state: StoreState, key: bytes) -> None:
    """It may go again, as far as this is concerned."""
    for tier in state.tiers:
        tier.eviction.unpin(key)


def enter(state: StoreState, number: int, block: StoredBlock, now_us: int) -> list[Effect]:
    """The block is in that tier from now on (its slot is taken already)."""
    tier = state.tiers[number]
    tier.blocks += 1
    tier.tokens += block.tokens
    tier.eviction.stored(block.key, block.parent or None, now_us)
    return [effects.PublishStored(tier=number, hashes=[block.hash])]


def leave(state: StoreState, number: int, block: StoredBlock) -> list[Effect]:
    """The block is in that tier no more; its slot is free.

    On SSD, what continues it goes with it: a start would not find its prefix.
    """
    found: list[Effect] = []
    todo = [block]
    while todo:
        gone = todo.pop()
        if (gone.dram, gone.ssd)[number] < 0:
            continue
        if number == SSD:
            after = [state.blocks[key] for key in gone.children]
            todo += [child for child in after if not child.in_use]
        found += _vacate(state, number, gone)
        if not held(gone) and not gone.in_use:
            found += forget(state, gone)
    return found


def forget(state: StoreState, block: StoredBlock) -> list[Effect]:
    """The block is nowhere: what continues it is of no use any more.

    What somebody is at goes when that is over.
    """
    found: list[Effect] = []
    todo = [block]
    while todo:
        gone = todo.pop()
        todo += [state.blocks[key] for key in gone.children]
        gone.children = {}
        if gone.in_use:
            gone.doomed = True
            continue
        del state.blocks[gone.key]
        if (above := state.blocks.get(gone.parent)) is not None:
            above.children.pop(gone.key, None)
        for number in (DRAM, SSD):
            if (gone.dram, gone.ssd)[number] >= 0:
                found += _vacate(state, number, gone)
    return found


def _vacate(state: StoreState, number: int, block: StoredBlock) -> list[Effect]:
    tier = state.tiers[number]
    tier.blocks -= 1
    tier.tokens -= block.tokens
    tier.eviction.removed(block.key)
    tier.slots.give((block.dram, block.ssd)[number])
    found: list[Effect] = [effects.PublishEvicted(tier=number, hashes=[block.hash])]
    if number == DRAM:
        block.dram = -1
    else:
        found.append(effects.ClearSsd(offsets=[block.ssd]))
        block.ssd = -1
    return found


def take_slot(state: StoreState, number: int, size: int, now_us: int) -> tuple[int, list[Effect]]:
    """A slot of that size, making room if need be; -1 when none can be had."""
    tier = state.tiers[number]
    found: list[Effect] = []
    if not tier.slots.most(size):
        return -1, found  # However much went.
    offset = tier.slots.take(size)
    for _ in range(TRIES_MAX):
        if offset is not None:
            return offset, found
        key = victim(tier, now_us)
        if key is None:
            break
        gone = evict(state, number, state.blocks[key], size)
        if not gone:
            break
        found += gone
        offset = tier.slots.take(size)
    return (-1 if offset is None else offset), found


def victim(tier: TierState, now_us: int) -> bytes | None:
    """Who goes next."""
    key = tier.eviction.victim(now_us)
    assert not isinstance(key, int)
    return key


def evict(state: StoreState, number: int, block: StoredBlock, size: int) -> list[Effect]:
    """Let a block go for the sake of a slot of `size` bytes."""
    tier = state.tiers[number]
    if number == SSD and block.dram >= 0:
        return []  # It would have to be written again, for whose sake this would be evicted.
    own = block.block_bytes if number == DRAM else ssd_slot_bytes(block.block_bytes)
    if own == size:
        return _let_go(state, number, block)
    # Its slot would not do: all of its segment goes, so that it can be cut anew.
    segment = tier.slots.segment_of((block.dram, block.ssd)[number])
    others = [
        other
        for other in state.blocks.values()
        if (offset := (other.dram, other.ssd)[number]) >= 0
        and tier.slots.segment_of(offset) == segment
        and not other.in_use
        and (number == DRAM or other.dram < 0)
    ]
    if len(others) < tier.slots.taken[segment]:
        return []  # Somebody is at one of its slots: the others would go in vain.
    found: list[Effect] = []
    for other in others:
        found += _let_go(state, number, other)
    return found


def _let_go(state: StoreState, number: int, block: StoredBlock) -> list[Effect]:
    if (block.dram, block.ssd)[number] < 0 or block.in_use:
        return []
    state.tiers[number].evicted_blocks += 1
    if number == DRAM and block.ssd < 0:
        state.counts.let_go_blocks += 1
    return leave(state, number, block)


def keep_spare(state: StoreState, now_us: int) -> list[Effect]:
    """Make some room in memory ahead of time: what is worth it is written to SSD first."""
    tier, ssd = state.tiers[DRAM], state.tiers[SSD]
    if not ssd.slots.segments or not tier.blocks:
        return []
    found: list[Effect] = []
    spare_bytes = round(state.limits.spare_share * tier.slots.capacity_bytes)
    for _ in range(TRIES_MAX):
        free_bytes = tier.slots.capacity_bytes - tier.slots.used_bytes
        if free_bytes + state.writing_bytes >= spare_bytes:
            break
        key = victim(tier, now_us)
        if key is None:
            break
        block = state.blocks[key]
        worth = tier.eviction.worth_keeping(key, now_us) or bool(block.children)
        if block.ssd >= 0 or not worth:
            found += _let_go(state, DRAM, block)
        elif not (writes := write(state, block, now_us)):
            break
        else:
            found += writes
    return found


def write(state: StoreState, block: StoredBlock, now_us: int) -> list[Effect]:
    """Begin to write a block to SSD, after those it continues: a start finds whole prefixes.

    Nothing, or less, when SSD rests, is busy enough or has no room.
    """
    chain: list[StoredBlock] = []
    at: StoredBlock | None = block
    while at is not None and at.ssd < 0 and at.writing < 0:
        chain.append(at)
        at = state.blocks.get(at.parent)
    found: list[Effect] = []
    if block.depth > state.tiers[SSD].slots.most(ssd_slot_bytes(block.block_bytes)):
        return found  # Its prefix alone would not leave it room.
    for link in reversed(chain):
        found += _write_one(state, link, now_us)
        if link.writing < 0:
            break
    return found


def _write_one(state: StoreState, block: StoredBlock, now_us: int) -> list[Effect]:
    busy = state.writing_bytes + block.block_bytes > max(
        state.limits.writing_bytes, block.block_bytes
    )
    if busy or now_us < state.ssd_rest_until_us or block.writing >= 0 or block.dram < 0:
        return []
    slot_bytes = ssd_slot_bytes(block.block_bytes)
    # Pinned before room is made, so that neither goes for its own sake.
    pin(state, block.key)
    pin(state, block.parent)
    offset, found = take_slot(state, SSD, slot_bytes, now_us)
    gone = state.blocks.get(block.key) is not block  # With a prefix that was only on SSD.
    if offset < 0 or gone:
        unpin(state, block.key)
        unpin(state, block.parent)
        if offset >= 0:
            state.tiers[SSD].slots.give(offset)
        return found
    block.writing = offset
    state.writing_bytes += block.block_bytes
    state.writing_blocks += 1
    return [*found, effects.WriteSsd(moves=[move(block, offset)], slot_bytes=slot_bytes)]


def written(state: StoreState, keys: list[bytes], trouble: str, now_us: int) -> list[Effect]:
    """Writes are over: the blocks are on SSD, or SSD is left alone for a while."""
    found: list[Effect] = []
    for key in keys:
        block = state.blocks[key]
        offset, block.writing = block.writing, -1
        state.writing_bytes -= block.block_bytes
        state.writing_blocks -= 1
        unpin(state, block.key)
        unpin(state, block.parent)
        above = state.blocks.get(block.parent)
        if trouble:
            state.tiers[SSD].slots.give(offset)
        elif above is not None and above.ssd < 0:
            # Its prefix was not written, or has gone meanwhile: a start would not find it.
            state.tiers[SSD].slots.give(offset)
            found.append(effects.ClearSsd(offsets=[offset]))
        else:
            block.ssd = offset
            found += enter(state, SSD, block, now_us)
        found += settle(state, block)
    rest(state, trouble, now_us)
    return found


def rest(state: StoreState, trouble: str, now_us: int) -> None:
    """Leave SSD alone for a while if there is trouble, each time longer."""
    state.ssd_trouble = trouble
    state.ssd_failures = state.ssd_failures + 1 if trouble else 0
    if trouble:
        rest_us = min(REST_US_MAX, REST_US_MIN << min(10, state.ssd_failures - 1))
        state.ssd_rest_until_us = now_us + rest_us


def settle(state: StoreState, block: StoredBlock) -> list[Effect]:
    """Somebody is done with the block: it goes now, if it should have gone meanwhile."""
    if block.in_use:
        return []
    if block.doomed:
        return forget(state, block)
    number, block.corrupt = block.corrupt, -1
    return leave(state, number, block) if number >= 0 else []


def read(
    state: StoreState, block: StoredBlock, now_us: int
) -> tuple[effects.Move | None, list[Effect]]:
    """Begin to read a block from SSD into a slot of memory, if one can be had."""
    offset, found = take_slot(state, DRAM, block.block_bytes, now_us)
    if offset < 0:
        return None, found
    block.dram, block.reading = offset, True
    return move(block, block.ssd), found


def move(block: StoredBlock, ssd_offset: int) -> effects.Move:
    """A block between its slot in memory and one on SSD."""
    return effects.Move(
        block.key,
        block.parent,
        block.hash,
        block.tokens,
        block.block_bytes,
        block.checksum,
        block.dram,
        ssd_offset,
    )


def measured(tier: TierState, fetched_bytes: int, took_us: int) -> None:
    """Learn what fetching from a tier costs: small ones tell of the call, large ones the rate."""
    took_ms = took_us / 1e3
    if not tier.fetch_gb_per_s:
        tier.fetch_ms, tier.fetch_gb_per_s = 0.0, max(1e-3, fetched_bytes / 1e3 / took_us)
        return
    moving_ms = fetched_bytes / (tier.fetch_gb_per_s * 1e6)
    if moving_ms < took_ms / 2:
        tier.fetch_ms += 0.1 * (took_ms - moving_ms - tier.fetch_ms)
    else:
        rate = fetched_bytes / 1e6 / max(1e-3, took_ms - tier.fetch_ms)
        tier.fetch_gb_per_s += 0.1 * (rate - tier.fetch_gb_per_s)
