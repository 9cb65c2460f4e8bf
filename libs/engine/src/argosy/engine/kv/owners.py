"""Which stores there are, and which of them keeps which block.

Ownership is by rendezvous hashing (Thaler and Ravishankar, 1996): each span of a chain
goes to the store that scores highest for it, so a store that comes or goes moves only its
own share. Spans, not blocks, so that a prefix is few calls and hangs together on its store.
"""

from collections.abc import Sequence

import xxhash

SPAN_BLOCKS = 16


def owner_of(span_key: bytes, stores: Sequence[str]) -> str:
    """The store that keeps the span that begins with this block."""
    return max(
        stores, key=lambda store: (xxhash.xxh3_64_intdigest(store.encode() + span_key), store)
    )


def owners_of(keys: Sequence[bytes], stores: Sequence[str]) -> list[str]:
    """For each block of a chain, given from its first block on, the store that keeps it."""
    if len(stores) == 1:
        return list(stores) * len(keys)
    owners: list[str] = []
    for start in range(0, len(keys), SPAN_BLOCKS):
        span = min(SPAN_BLOCKS, len(keys) - start)
        owners += [owner_of(keys[start], stores)] * span
    return owners
