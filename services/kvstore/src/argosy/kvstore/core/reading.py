"""Leases of readers: the longest stored prefix of a chain, from memory and from SSD."""

import msgspec

from argosy.domain.core import Effect
from argosy.kvstore.core import effects, events, ssd_writes, tiers
from argosy.kvstore.core.state import DRAM, SSD, Lease, StoredBlock, StoreState


def asked(state: StoreState, event: events.BlocksRequested) -> list[Effect]:
    """Lease what is held of the chain, from its first block on."""
    chain = [*event.before, *event.keys]
    _note(state, chain, event)
    before = leading(state, event.before)
    found = _prefix(state, event)
    if len(state.leases) >= state.limits.leases_max:
        found = []
    for block in found:
        block.leases += 1
        tiers.pin(state, block.key)
    decided: list[Effect] = []
    moves: list[effects.Move] = []
    lease = Lease(event.now_us + state.limits.lease_us)
    for number, block in enumerate(found):
        if block.dram < 0:
            lease.ssd[block.key] = None
            move, more = tiers.read(state, block, event.now_us)
            decided += more
            if move is None:
                _give_back(state, found[number:])
                break
            moves.append(move)
        elif block.reading:
            lease.ssd[block.key] = None
        state.tiers[SSD if block.key in lease.ssd else DRAM].hit_blocks += 1
        if block.reading:
            state.awaited.setdefault(block.key, []).append(event.lease)
        lease.keys.append(block.key)
    if not lease.keys:
        return [
            *decided,
            effects.GrantBlocks(
                lease=event.lease, blocks=[], total=0, last=True, before_held=before
            ),
        ]
    state.leases[event.lease] = lease
    first = grant(state, event.lease, lease)
    decided.append(msgspec.structs.replace(first, before_held=before))
    for block in found[: len(lease.keys)]:
        if block.asked > 1 and block.ssd < 0 and not block.reading:
            # A second request is evidence enough to keep the block through a restart.
            decided += ssd_writes.write(state, block, event.now_us)
    return [*decided, effects.ReadSsd(moves=moves)] if moves else decided


def leading(state: StoreState, keys: list[bytes]) -> int:
    """How many of these blocks, from the first on, the store has."""
    for number, key in enumerate(keys):
        if not tiers.held(state.blocks.get(key)):
            return number
    return len(keys)


def _note(state: StoreState, chain: list[bytes], event: events.BlocksRequested) -> None:
    state.counts.asked_blocks += len(event.keys)
    for tier in state.tiers:
        tier.eviction.asked(chain, event.now_us)
    for key in chain:
        if (block := state.blocks.get(key)) is not None:
            block.asked += 1
            block.asked_us = event.now_us


def _prefix(state: StoreState, event: events.BlocksRequested) -> list[StoredBlock]:
    found: list[StoredBlock] = []
    for key in event.keys:
        block = state.blocks.get(key)
        if block is None or not tiers.held(block) or block.block_bytes != event.block_bytes:
            break
        if block.dram < 0 and event.now_us < state.ssd_backoff_until_us:
            break
        found.append(block)
    return found


def grant(state: StoreState, number: int, lease: Lease) -> effects.GrantBlocks:
    """Grant those of the lease's next blocks that are in memory now."""
    placed = []
    for key in lease.keys[lease.granted :]:
        block = state.blocks[key]
        if block.reading or block.dram < 0:
            break
        tier = SSD if key in lease.ssd else DRAM
        placed.append(effects.PlacedBlock(key, block.dram, block.checksum, tier))
    lease.granted += len(placed)
    last = lease.granted == len(lease.keys)
    return effects.GrantBlocks(lease=number, blocks=placed, total=len(lease.keys), last=last)


def was_read(state: StoreState, event: events.SsdRead) -> list[Effect]:
    """Take in that reads from SSD have ended, and grant to the leases that waited for them."""
    decided: list[Effect] = []
    waiting: dict[int, None] = {}
    if event.trouble:
        ssd_writes.rest(state, event.trouble, event.now_us)
    for key in event.good:
        state.blocks[key].reading = False
        decided += tiers.enter(state, DRAM, state.blocks[key], event.now_us)
        waiting.update(dict.fromkeys(state.awaited.pop(key, ())))
    for key in event.bad:
        block = state.blocks[key]
        block.reading = False
        state.tiers[DRAM].slots.give(block.dram)
        block.dram = -1
        for number in state.awaited.pop(key, ()):
            decided += _shorten(state, number, key)
        state.counts.corrupt_blocks += 1
        decided += tiers.leave(state, SSD, block)
    for number in waiting:
        lease = state.leases.get(number)
        if lease is not None and lease.granted < len(lease.keys):
            more = grant(state, number, lease)
            if more.blocks:
                decided.append(more)
    return decided + settle_all(state, [*event.good, *event.bad])


def _shorten(state: StoreState, number: int, key: bytes) -> list[Effect]:
    """Shorten the lease to what is before this block, which could not be read."""
    lease = state.leases.get(number)
    if lease is None or key not in lease.keys:
        return []
    at = lease.keys.index(key)
    _give_back(state, [state.blocks[k] for k in lease.keys[at:]])
    for later in lease.keys[at:]:
        if number in (waiting := state.awaited.get(later, [])):
            waiting.remove(number)
    del lease.keys[at:]
    return (
        [effects.GrantBlocks(lease=number, blocks=[], total=at, last=True)]
        if lease.granted >= at
        else []
    )


def ended(state: StoreState, lease: Lease) -> list[Effect]:
    """A reader's lease has ended."""
    _give_back(state, [state.blocks[key] for key in lease.keys])
    return settle_all(state, lease.keys)


def settle_all(state: StoreState, keys: list[bytes]) -> list[Effect]:
    """Drop those of these blocks that were to be dropped when they are not in use any more."""
    decided: list[Effect] = []
    for key in keys:
        if (block := state.blocks.get(key)) is not None:
            decided += tiers.settle(state, block)
    return decided


def _give_back(state: StoreState, blocks: list[StoredBlock]) -> None:
    for block in blocks:
        block.leases -= 1
        tiers.unpin(state, block.key)
