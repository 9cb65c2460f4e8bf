"""Chained names of KV blocks: routers use hashes, KV stores use keys.

Both cover a block's own tokens and, through the chain, all tokens before it. So equal names mean
equal prefixes (the idea is vLLM's: docs/design/prefix_caching).

A hash has 64 bits and is fast to compute. A collision only makes the router expect a prefix hit
that is not there. A key decides whose KV a request gets, so it must not collide even on purpose:
it is 128 bits of BLAKE2b, and it covers the model's revision too.
"""

import hashlib
from array import array
from collections.abc import Sequence

import xxhash

KEY_BYTES = 16


def root_hash(model: str, cache_salt: str = "", adapter: str = "") -> int:
    """The parent of a chain's first block. Other models, adapters and salts give other chains."""
    name = f"{model}\0{cache_salt}\0{adapter}" if adapter else f"{model}\0{cache_salt}"
    return xxhash.xxh3_64_intdigest(name.encode())


def chained_block_hashes(token_ids: Sequence[int], block_tokens: int, root: int) -> list[int]:
    """Hash every full block of `token_ids`, in prompt order. Fastest when given an array("I").

    Returns len(token_ids) // block_tokens 64-bit values; a partial last block gets none.
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
    """Hash a list of block hashes into one 64-bit value; an empty list gives 0."""
    return xxhash.xxh3_64_intdigest(array("Q", hashes).tobytes()) if hashes else 0


def root_key(revision: str, cache_salt: str = "") -> bytes:
    """The parent of a chain's first key.

    revision: everything besides the tokens that determines the KV: weights, dtype, block size.
    """
    name = b"".join(
        len(part).to_bytes(4) + part for part in (revision.encode(), cache_salt.encode())
    )
    return hashlib.blake2b(name, digest_size=KEY_BYTES).digest()


def chained_block_keys(token_ids: Sequence[int], block_tokens: int, root: bytes) -> list[bytes]:
    """Return the key of every full block of `token_ids`, in prompt order; KEY_BYTES each.

    root: the result of root_key, or the key of the block before the first token.
    """
    packed = token_ids if isinstance(token_ids, array) else array("I", token_ids)
    tokens = memoryview(packed).cast("B")
    width = 4 * block_tokens
    keys = []
    parent = root
    for start in range(0, len(tokens) - width + 1, width):
        block = hashlib.blake2b(tokens[start : start + width], digest_size=KEY_BYTES, key=parent)
        parent = block.digest()
        keys.append(parent)
    return keys


def block_checksum(key: bytes, data: bytes | memoryview) -> int:
    """Checksum a block's bytes together with its key, so that another block's bytes do not match.

    Never returns 0: that value means "no checksum".
    """
    return xxhash.xxh3_64_intdigest(data, int.from_bytes(key[:8], "little")) or 1
