"""Checks the bytes of blocks in every tier; the core drops copies that are corrupt."""

import asyncio
from collections.abc import AsyncIterator

from argosy.domain.kv_blocks import block_checksum
from argosy.kvstore.core import events
from argosy.kvstore.core.effects import Move
from argosy.kvstore.core.state import DRAM, SSD, StoredBlock, StoreState
from argosy.kvstore.core.tiers import move_of
from argosy.kvstore.shell.segments import Segments
from argosy.mesh.driver import Driver
from argosy.transfer.memory import Memory
from argosy.wire.kvstore.v1 import kvstore_pb2

BATCH_BLOCKS = 64
"""Checked in one go of a thread: between two the event loop serves others."""


async def verify(
    state: StoreState, memory: Memory, segments: Segments | None, driver: Driver
) -> AsyncIterator[kvstore_pb2.VerifyProgress]:
    """Check all blocks; yields progress by batch. A block that moves meanwhile is left out."""
    keys = list(state.blocks)
    progress = kvstore_pb2.VerifyProgress(total_blocks=len(keys))
    for start in range(0, len(keys) or 1, BATCH_BLOCKS):
        batch = keys[start : start + BATCH_BLOCKS]
        progress.corrupt_blocks += await check(batch, state, memory, segments, driver)
        progress.checked_blocks += len(batch)
        yield progress


async def check(
    keys: list[bytes], state: StoreState, memory: Memory, segments: Segments | None, driver: Driver
) -> int:
    """Check these blocks in every tier; returns how many corrupt copies were dropped."""
    blocks = [state.blocks[key] for key in keys if key in state.blocks]
    moves = [move_of(block, block.ssd) for block in blocks if not block.reading]
    corrupt = 0
    for before, tier in await asyncio.to_thread(wrong, moves, memory, segments):
        block = state.blocks.get(before.key)
        if block is not None and same_place(block, before, tier):
            corrupt += 1
            driver.feed(events.BlockCorrupt(now_us=driver.now_us(), key=before.key, tier=tier))
    return corrupt


def same_place(block: StoredBlock, before: Move, tier: int) -> bool:
    """Whether the copy that was looked at is still where it was."""
    if tier == DRAM:
        return block.dram == before.dram_offset
    return block.ssd == before.ssd_offset


def wrong(moves: list[Move], memory: Memory, segments: Segments | None) -> list[tuple[Move, int]]:
    """The copies that are not what was stored, with their tier."""
    found = []
    for m in moves:
        if m.dram_offset >= 0:
            data = memory.view[m.dram_offset : m.dram_offset + m.block_bytes]
            if block_checksum(m.key, data) != m.checksum:
                found.append((m, DRAM))
        if m.ssd_offset >= 0 and segments is not None and not segments.check(m):
            found.append((m, SSD))
    return found
