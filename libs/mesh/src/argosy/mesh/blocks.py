"""Chained KV block hashes: one name for a block everywhere in the mesh.

A block's hash covers its own tokens and, through the chain, all tokens before it, so
equal hashes mean equal prefixes. Source of the idea: vLLM, docs/design/prefix_caching.
"""

from array import array
from collections.abc import Sequence

import xxhash


def root_hash(model: str, cache_salt: str = "") -> int:
    """Where a chain starts: prompts of other models or salts never share a block."""
    return xxhash.xxh3_64_intdigest(f"{model}\0{cache_salt}".encode())


def chained_block_hashes(token_ids: Sequence[int], block_tokens: int, root: int) -> list[int]:
    """Hash every full block of `token_ids`, in prompt order.

    Returns [len(token_ids) // block_tokens] 64-bit values; a partial last block has none.
    """
    tokens = memoryview(array("I", token_ids).tobytes())
    width = 4 * block_tokens
    hashes = []
    parent = root
    for start in range(0, len(tokens) - width + 1, width):
        digest = xxhash.xxh3_64(parent.to_bytes(8, "little"))
        digest.update(tokens[start : start + width])
        parent = digest.intdigest()
        hashes.append(parent)
    return hashes


def digest_of(hashes: Sequence[int]) -> int:
    """One 64-bit value for a list of block hashes; 0 for none."""
    return xxhash.xxh3_64_intdigest(array("Q", hashes).tobytes()) if hashes else 0
