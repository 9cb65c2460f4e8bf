"""Where blocks are: they enter a tier and leave it, and are evicted when it needs room.

No block is kept whose prefix is gone: policies evict leaves first, and a block that loses its
prefix in both tiers all the same is dropped with it.
"""

from argosy.domain.core import Effect
from argosy.kvstore.core import effects
from argosy.kvstore.core.slots import ssd_slot_bytes
from argosy.kvstore.core.state import DRAM, SSD, StoredBlock, StoreState, TierState

TRIES_MAX = 64
"""How many blocks one event may evict for one slot, so that a step's time is bounded. One is enough
where blocks are of one size; a segment of another size takes one for each block in it."""


def held(block: StoredBlock | None) -> bool:
    """Whether the store can give its bytes, now or after a read from SSD."""
    if block is None or block.doomed or block.corrupt >= 0:
        return False
    return block.ssd >= 0 or (block.dram >= 0 and not block.reading)


def pin(state: StoreState, key: bytes) -> None:
    """Keep the block in its tiers until `unpin`."""
    for tier in state.tiers:
        tier.eviction.pin(key)


def unpin(state: StoreState, key: bytes) -> None:
    """Take one `pin` back."""
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
    """Take the block out of that tier, and free its slot.

    On SSD, what continues it goes with it: the scan at a start keeps whole prefixes only.
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
    """Drop the block, and with it what continues it, which is of no use any more.

    A block that is being read or written is dropped when that is over.
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
    """The offset of a slot of that size, if need be after evictions; -1 if there can be none."""
    tier = state.tiers[number]
    found: list[Effect] = []
    if not tier.slots.most(size):
        return -1, found  # However much were evicted.
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
    """The block to evict next; None if none may be."""
    key = tier.eviction.victim(now_us)
    assert not isinstance(key, int)
    return key


def evict(state: StoreState, number: int, block: StoredBlock, size: int) -> list[Effect]:
    """Evict a block for the sake of a slot of `size` bytes; nothing if that would not help."""
    tier = state.tiers[number]
    if number == SSD and block.dram >= 0:
        return []  # Memory would have to write it again later: nothing would be gained.
    own = block.block_bytes if number == DRAM else ssd_slot_bytes(block.block_bytes)
    if own == size:
        return let_go(state, number, block)
    # Its slot is of another size: its whole segment is evicted, so that it can be cut anew.
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
        return []  # One of its slots is in use: to evict the others would be in vain.
    found: list[Effect] = []
    for other in others:
        found += let_go(state, number, other)
    return found


def let_go(state: StoreState, number: int, block: StoredBlock) -> list[Effect]:
    """Evict a block from a tier, unless somebody reads or writes it."""
    if (block.dram, block.ssd)[number] < 0 or block.in_use:
        return []
    state.tiers[number].evicted_blocks += 1
    if number == DRAM and block.ssd < 0:
        state.counts.let_go_blocks += 1
    return leave(state, number, block)


def settle(state: StoreState, block: StoredBlock) -> list[Effect]:
    """A reader or writer is done with the block: drop it, or its corrupt copy, if that was due."""
    if block.in_use:
        return []
    if block.doomed:
        return forget(state, block)
    number, block.corrupt = block.corrupt, -1
    return leave(state, number, block) if number >= 0 else []


def read(
    state: StoreState, block: StoredBlock, now_us: int
) -> tuple[effects.Move | None, list[Effect]]:
    """Begin to read a block from SSD into a slot of memory; None if there is no slot."""
    offset, found = take_slot(state, DRAM, block.block_bytes, now_us)
    if offset < 0:
        return None, found
    block.dram, block.reading = offset, True
    return move_of(block, block.ssd), found


def move_of(block: StoredBlock, ssd_offset: int) -> effects.Move:
    """The move of a block between its slot in memory and that one on SSD."""
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
