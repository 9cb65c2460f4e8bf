"""Leases of writers: room for new blocks, and the blocks once they are in memory."""

from argosy.domain.core import Effect
from argosy.kvstore.core import effects, events, tiers
from argosy.kvstore.core.state import DRAM, Lease, StoredBlock, StoreState


def room_asked(state: StoreState, event: events.RoomRequested) -> list[Effect]:
    """Give a slot to each block that is new and whose prefix is stored, or offered with it."""
    decided: list[Effect] = []
    rooms: list[effects.Room] = []
    lease = Lease(event.now_us + state.limits.lease_us)
    full = False
    taken = len(state.leases) >= state.limits.leases_max
    for index, offered in enumerate(event.blocks):
        if offered.key in state.blocks or offered.key in state.promised:
            continue
        parent = state.blocks.get(offered.parent)
        if offered.parent and not tiers.held(parent) and offered.parent not in state.promised:
            continue
        offset = -1
        if not taken:
            # Pinned before room is made, so that it is not evicted for what continues it.
            tiers.pin(state, offered.parent)
            offset, more = tiers.take_slot(state, DRAM, event.block_bytes, event.now_us)
            tiers.unpin(state, offered.parent)
            decided += more
        if offset < 0:
            state.counts.refused_blocks += len(event.blocks) - index
            full = True
            break
        if parent is not None:
            tiers.pin(state, parent.key)
            lease.keys.append(parent.key)
        state.promised[offered.key] = event.lease
        block = StoredBlock(
            offered.key,
            offered.parent,
            offered.hash,
            offered.tokens,
            event.block_bytes,
            checksum=0,
            dram=offset,
        )
        lease.blocks.append(block)
        rooms.append(effects.Room(index, offset))
    if rooms:
        state.leases[event.lease] = lease
    return [*decided, effects.GrantRoom(lease=event.lease, rooms=rooms, full=full)]


def written(state: StoreState, event: events.BlocksWritten) -> list[Effect]:
    """Store the blocks a writer has written, but for those without their prefix."""
    lease = state.leases.pop(event.lease, None)
    if lease is None:
        return [effects.ConfirmStored(lease=event.lease, stored=0)]
    decided: list[Effect] = []
    stored = 0
    _unpromise(state, lease)
    for number, block in enumerate(lease.blocks):
        checksum = event.checksums[number] if number < len(event.checksums) else 0
        above = state.blocks.get(block.parent)
        if not checksum or (block.parent and not tiers.held(above)):
            state.tiers[DRAM].slots.give(block.dram)
            continue
        block.checksum = checksum
        state.blocks[block.key] = block
        if above is not None:
            above.children[block.key] = None
            block.depth = above.depth + 1
        decided += tiers.enter(state, DRAM, block, event.now_us)
        stored += 1
    state.counts.stored_blocks += stored
    return [*decided, effects.ConfirmStored(lease=event.lease, stored=stored)]


def ended(state: StoreState, lease: Lease, quarantine_until_us: int) -> list[Effect]:
    """A writer is gone, or too late: its slots rest, because it may still be writing."""
    _unpromise(state, lease)
    state.quarantined += [(quarantine_until_us, block.dram) for block in lease.blocks]
    return []


def rested(state: StoreState, now_us: int) -> None:
    """Free the slots that have rested long enough."""
    ready = [offset for until_us, offset in state.quarantined if until_us <= now_us]
    state.quarantined = [
        (until_us, offset) for until_us, offset in state.quarantined if until_us > now_us
    ]
    for offset in ready:
        state.tiers[DRAM].slots.give(offset)


def _unpromise(state: StoreState, lease: Lease) -> None:
    for block in lease.blocks:
        state.promised.pop(block.key, None)
    for key in lease.keys:
        tiers.unpin(state, key)
