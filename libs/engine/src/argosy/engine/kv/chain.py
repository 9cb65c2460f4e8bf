"""A request's blocks by all their names, in order; grows as its answer does."""

from collections.abc import Sequence

from argosy.domain.kv_blocks import chained_block_hashes, chained_block_keys, root_hash, root_key
from argosy.engine.api import Staged
from argosy.engine.kv.owners import SPAN_BLOCKS


class BlockNames:
    """Names full blocks once each. Memory: about 100 B a block."""

    def __init__(self, model: str, revision: str, cache_salt: str, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._root_hash = root_hash(model, cache_salt)
        self._root_key = root_key(revision, cache_salt)
        self.hashes: list[int] = []
        self.keys: list[bytes] = []

    def extend(self, token_ids: Sequence[int], blocks: int) -> None:
        """Name the first `blocks` blocks of `token_ids`, as far as they are full."""
        known, width = len(self.keys), self._block_tokens
        fresh = token_ids[known * width : blocks * width]
        if len(fresh) < width:
            return
        root = self.hashes[-1] if known else self._root_hash
        self.hashes += chained_block_hashes(fresh, width, root)
        self.keys += chained_block_keys(fresh, width, self.keys[-1] if known else self._root_key)

    def staged(self, number: int, slot: int) -> Staged:
        """A block of the chain, copied to that slot."""
        return Staged(
            slot,
            self.keys[number],
            self.keys[number - 1] if number else b"",
            self.keys[number - number % SPAN_BLOCKS],
            self.hashes[number],
            self._block_tokens,
        )
