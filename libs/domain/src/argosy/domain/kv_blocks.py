"""Chained names of KV blocks: hashes by which routers know them, keys by which they are stored.

Both cover a block's own tokens and, through the chain, all tokens before it, so equal
names mean equal prefixes. Source of the idea: vLLM, docs/design/prefix_caching. A hash is
64 bit and quick: two that collide cost a detour. A key decides whose KV somebody gets: 128
bit of BLAKE2b over the model's revision too, so nobody can make two that are alike.
"""

import hashlib
from array import array
from collections.abc import Sequence

import xxhash

KEY_BYTES = 16


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


def root_key(revision: str, cache_salt: str = "") -> bytes:
    """Where a chain of keys starts. revision: all that makes KV what it is, but for the tokens."""
    name = b"".join(
        len(part).to_bytes(4) + part for part in (revision.encode(), cache_salt.encode())
    )
    return hashlib.blake2b(name, digest_size=KEY_BYTES).digest()


def chained_block_keys(token_ids: Sequence[int], block_tokens: int, root: bytes) -> list[bytes]:
    """Keys of every full block of `token_ids`, in prompt order; KEY_BYTES each.

    root: as root_key gives it, or the key of the block before the first token.
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
    """Of a block's bytes under its key: bytes of another block, though whole, do not check.

    Never 0, which says that there is none.
    """
    return xxhash.xxh3_64_intdigest(data, int.from_bytes(key[:8], "little")) or 1
