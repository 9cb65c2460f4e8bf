"""The prefixes that are requested most, for `argosy kv top`."""

import msgspec

from argosy.kvstore.core.state import StoredBlock, StoreState


class HotPrefix(msgspec.Struct, frozen=True):
    """A chain from its first block to the last one that is requested as often."""

    last: StoredBlock
    blocks: int
    tokens: int
    dram_blocks: int
    ssd_blocks: int


def hottest(state: StoreState, limit: int) -> list[HotPrefix]:
    """The `limit` prefixes requested most often, the longest of each, the most often first."""
    ends = [block for block in state.blocks.values() if block.asked and _ends(state, block)]
    ends.sort(key=lambda block: (-block.asked, -block.asked_us, block.key))
    return [_hot(state, block) for block in ends[:limit]]


def _ends(state: StoreState, block: StoredBlock) -> bool:
    """Whether no block that continues it was requested as often."""
    return all(state.blocks[key].asked < block.asked for key in block.children)


def _hot(state: StoreState, last: StoredBlock) -> HotPrefix:
    blocks = tokens = dram = ssd = 0
    at: StoredBlock | None = last
    while at is not None:
        blocks += 1
        tokens += at.tokens
        dram += at.dram >= 0
        ssd += at.ssd >= 0
        at = state.blocks.get(at.parent)
    return HotPrefix(last, blocks, tokens, dram, ssd)
