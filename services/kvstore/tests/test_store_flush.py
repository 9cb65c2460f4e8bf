"""A flush: what it writes, and how much work that is."""

from collections.abc import Iterator
from typing import Any

import pytest

from argosy.domain.core import Effect
from argosy.kvstore.core import effects, events
from argosy.kvstore.core.state import StoredBlock, StoreLimits
from argosy.kvstore.core.store import StoreCore
from argosy.kvstore.policies import new_state

BLOCK_BYTES = 4096
BATCH_BLOCKS = 32
"""As many writes end together as the shell puts into one batch."""


class CountedBlocks(dict[bytes, StoredBlock]):
    """The store's blocks, counting every look at one of them."""

    looks = 0

    def get(self, key: bytes, default: Any = None) -> Any:
        self.looks += 1
        return super().get(key, default)

    def __getitem__(self, key: bytes) -> StoredBlock:
        self.looks += 1
        return super().__getitem__(key)

    def values(self) -> Any:
        return self._counted()

    def _counted(self) -> Iterator[StoredBlock]:
        for block in super().values():
            self.looks += 1
            yield block


def stored(blocks: int, *, chained: bool, writing_blocks: int = 64) -> StoreCore:
    """A store with that many blocks in memory and none on SSD."""
    room = 2 * blocks * BLOCK_BYTES
    limits = StoreLimits(
        room, 2 * room, writing_bytes=writing_blocks * BLOCK_BYTES, spare_share=0.0
    )
    core = StoreCore(new_state(limits))
    keys = [number.to_bytes(16, "little") for number in range(1, blocks + 1)]
    offered = [
        events.Offered(key, keys[number - 1] if chained and number else b"", number, 16)
        for number, key in enumerate(keys)
    ]
    core.step(events.RoomRequested(now_us=1, lease=1, block_bytes=BLOCK_BYTES, blocks=offered))
    core.step(events.BlocksWritten(now_us=1, lease=1, checksums=[1] * blocks))
    core.state.blocks = CountedBlocks(core.state.blocks)
    return core


def flushed(core: StoreCore, failures: int = 0) -> effects.PublishFlushed:
    """Flush, with an SSD that fails that many times; what the store says at the end."""
    out: list[Effect] = core.step(events.FlushRequested(now_us=2, flush=1))
    writing: list[bytes] = []
    while True:
        for effect in out:
            if isinstance(effect, effects.PublishFlushed):
                assert not core.state.flushes
                return effect
            if isinstance(effect, effects.WriteSsd):
                writing += [move.key for move in effect.moves]
        batch, writing = writing[:BATCH_BLOCKS], writing[BATCH_BLOCKS:]
        failures, trouble = failures - 1, "disk full" if failures > 0 else ""
        out = core.step(events.SsdWritten(now_us=2, keys=batch, trouble=trouble))


def looks_per_block(blocks: int, *, chained: bool) -> float:
    core = stored(blocks, chained=chained)
    assert flushed(core).written == blocks
    found = core.state.blocks
    assert isinstance(found, CountedBlocks)
    return found.looks / blocks


@pytest.mark.parametrize("chained", [False, True])
def test_the_work_of_a_flush_grows_with_its_blocks_and_no_faster(chained: bool) -> None:
    few, many = (looks_per_block(blocks, chained=chained) for blocks in (200, 3200))
    assert many < 1.2 * few
    assert many < 32


@pytest.mark.parametrize("chained", [False, True])
def test_a_flush_writes_every_block_that_only_memory_has(chained: bool) -> None:
    core = stored(300, chained=chained)
    assert flushed(core).written == 300
    assert all(block.ssd >= 0 for block in dict(core.state.blocks).values())


def test_a_flush_ends_without_the_blocks_that_ssd_would_not_take() -> None:
    core = stored(300, chained=False)
    assert flushed(core, failures=100).written == 0
    assert core.state.ssd_trouble == "disk full"
    assert not core.state.writing_blocks


def test_a_second_flush_finds_nothing_left_to_write() -> None:
    core = stored(100, chained=True)
    flushed(core)
    assert flushed(core) == effects.PublishFlushed(flush=1, written=0, dropped=0)
