"""Which block goes when room is needed, and whether it is worth a slower tier. One file each.

The store tells a policy what is asked for and what is held; the policy names victims.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from argosy.kvstore.core.eviction.chains import Key
from argosy.kvstore.core.eviction.learned import Learned
from argosy.kvstore.core.eviction.lru import Lru
from argosy.kvstore.core.eviction.lru2 import Lru2
from argosy.kvstore.core.eviction.oracle import NextUseOracle
from argosy.kvstore.core.eviction.s3fifo import S3Fifo

__all__ = ["POLICIES", "Eviction", "Key", "NextUseOracle"]


class Eviction(Protocol):
    """Times are of the caller's clock, and do not go back."""

    def asked(self, chain: Sequence[Key], now_us: int) -> None:
        """A prompt asked for these blocks, root first, whether they are held or not."""

    def stored(self, key: Key, parent: Key | None, now_us: int) -> None:
        """Held from now on."""

    def removed(self, key: Key) -> None:
        """No longer held: evicted or lost."""

    def pin(self, key: Key) -> None:
        """In use once more: neither it nor what it hangs from is a victim until `unpin`."""

    def unpin(self, key: Key) -> None:
        """In use once less."""

    def victim(self, now_us: int) -> Key | None:
        """A held block that may go: unpinned, without held children. None: there is none."""

    def worth_keeping(self, key: Key, now_us: int) -> bool:
        """Whether what was seen of it speaks for a slower tier when this one lets it go."""


POLICIES: dict[str, Callable[[int], Eviction]] = {
    "argosy": Learned,
    "lru": Lru,
    "lru2": Lru2,
    "s3fifo": S3Fifo,
}
"""By name, made with the capacity in blocks. `Oracle` has to be given the future besides."""
