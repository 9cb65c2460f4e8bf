"""Flushes: write to SSD what is only in memory, or drop all that nobody uses.

A flush visits a block when it is the block's turn and again when its write ends. So its work
grows with the blocks it writes, not with the blocks there are for each write that ends.
"""

from argosy.domain.core import Effect
from argosy.kvstore.core import effects, events, ssd_writes, tiers
from argosy.kvstore.core.state import SSD, Flush, StoredBlock, StoreState


def flush_requested(state: StoreState, event: events.FlushRequested) -> list[Effect]:
    """Begin to write every block that only memory has, or drop all blocks, as the event says.

    PublishFlushed follows at the end.
    """
    if event.drop:
        return _drop_all(state, event.flush)
    unwritten: list[bytes] = []
    if state.tiers[SSD].slots.segments:
        unwritten = [block.key for block in state.blocks.values() if only_in_memory(block)]
    # The oldest block first: the list is used as a stack.
    flush = Flush(dict.fromkeys(unwritten), unwritten[::-1])
    state.flushes[event.flush] = flush
    return _go_on(state, event.flush, flush, event.now_us)


def blocks_written(state: StoreState, event: events.SsdWritten) -> list[Effect]:
    """Count the writes that have ended, and begin others in their place."""
    found: list[Effect] = []
    for number, flush in list(state.flushes.items()):
        for key in event.keys:
            if key in flush.waiting and not _settled(state, flush, key):
                # The write failed: it is tried again first, or the flush ends without it.
                flush.unstarted.append(key)
        found += _go_on(state, number, flush, event.now_us)
    return found


def _drop_all(state: StoreState, number: int) -> list[Effect]:
    """Drop every block that nobody reads or writes."""
    found: list[Effect] = []
    before = len(state.blocks)
    for block in list(state.blocks.values()):
        if block.key in state.blocks and not block.in_use:
            found += tiers.forget(state, block)
    dropped = before - len(state.blocks)
    return [*found, effects.PublishFlushed(flush=number, written=0, dropped=dropped)]


def only_in_memory(block: StoredBlock) -> bool:
    """Whether SSD has no copy of it."""
    return block.ssd < 0 and block.dram >= 0


def _go_on(state: StoreState, number: int, flush: Flush, now_us: int) -> list[Effect]:
    """Begin writes as long as SSD takes them. The flush ends when no write can bring it on."""
    found: list[Effect] = []
    while flush.unstarted:
        key = flush.unstarted.pop()
        if key not in flush.waiting or _settled(state, flush, key):
            continue
        block = state.blocks[key]
        if block.writing < 0:
            found += ssd_writes.write(state, block, now_us)
            if block.writing < 0 and not _settled(state, flush, key):
                flush.unstarted.append(key)
                break
    if not flush.waiting or not state.writing_blocks:
        del state.flushes[number]
        found.append(effects.PublishFlushed(flush=number, written=flush.written, dropped=0))
    return found


def _settled(state: StoreState, flush: Flush, key: bytes) -> bool:
    """Whether the flush has nothing left to do for the block: it is on SSD, or it is gone."""
    block = state.blocks.get(key)
    if block is not None and only_in_memory(block):
        return False
    del flush.waiting[key]
    flush.written += block is not None and block.ssd >= 0
    return True
