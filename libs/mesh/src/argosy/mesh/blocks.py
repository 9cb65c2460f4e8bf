"""Chained KV block hashes: one name for a block everywhere in the mesh.

A block's hash covers its own tokens and, through the chain, all tokens before it, so
equal hashes mean equal prefixes. Source of the idea: vLLM, docs/design/prefix_caching.
"""

from array import array
from collections.abc import Sequence

import xxhash


def root_hash(model: str, cache_salt: str = "", adapter: str = "") -> int:
    """Where a chain starts: prompts of other models, adapters or salts never share a block."""
    name = f"{model}\0{cache_salt}\0{adapter}" if adapter else f"{model}\0{cache_salt}"
    return xxhash.xxh3_64_intdigest(name.encode())


def chained_block_hashes(token_ids: Sequence[int], block_tokens: int, root: int) -> list[int]:
    """Hash every full block of `token_ids`, in prompt order; quickest from an array("I").

    Returns [len(token_ids) // block_tokens] 64-bit values; a partial last block has none.
    Each block is hashed with its parent's hash as the seed.
    """
    packed = token_ids if isinstance(token_ids, array) else array("I", token_ids)
    tokens = memoryview(packed).cast("B")
    width = 4 * block_tokens
    digest = xxhash.xxh3_64_intdigest
    hashes = []
    parent = root
    for start in range(0, len(tokens) - width + 1, width):
        parent = digest(tokens[start : start + width], parent)
        hashes.append(parent)
    return hashes


def digest_of(hashes: Sequence[int]) -> int:
    """One 64-bit value for a list of block hashes; 0 for none."""
    return xxhash.xxh3_64_intdigest(array("Q", hashes).tobytes()) if hashes else 0
