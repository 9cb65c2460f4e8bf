"""What an eviction policy is, and how a store comes by one.

The store tells a policy what is requested and what is held; the policy names victims. A policy is
part of the store's state: it decides by what it was told alone, and can be written as plain data
and read back. `argosy.kvstore.policies` finds the policies that are installed.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

Key = bytes | int
"""Names a block; opaque to a policy: the hash of its tokens, or a number."""


class EvictionPolicy(ABC):
    """Chooses which block a tier evicts. Times are the store's, in µs, and never go back.

    `ChainPolicy` (chains.py) keeps the books every policy needs; `RankedPolicy` (ranked.py) also
    chooses the victim, by a rank for each block. lru.py is the shortest example.
    """

    name = ""
    """By which it was found; set by `build_policy`."""

    @abstractmethod
    def __init__(self, capacity_blocks: int) -> None:
        """For a tier that holds about that many blocks."""

    @abstractmethod
    def asked(self, chain: Sequence[Key], now_us: int) -> None:
        """A prompt needs these blocks, root first, whether they are held or not."""

    @abstractmethod
    def stored(self, key: Key, parent: Key | None, now_us: int) -> None:
        """The tier holds the block from now on. parent: the block it continues, if any."""

    @abstractmethod
    def removed(self, key: Key) -> None:
        """The tier no longer holds the block: it was evicted or lost."""

    @abstractmethod
    def pin(self, key: Key) -> None:
        """The block is in use once more: neither it nor its prefix is a victim until `unpin`."""

    @abstractmethod
    def unpin(self, key: Key) -> None:
        """The block is in use once less."""

    @abstractmethod
    def victim(self, now_us: int) -> Key | None:
        """The held block to evict next, unpinned and without held children; None: there is none.

        Asking evicts nothing: `removed` follows if the store does.
        """

    @abstractmethod
    def worth_keeping(self, key: Key, now_us: int) -> bool:
        """Whether a slower tier should get the block when this tier evicts it."""

    @abstractmethod
    def to_plain(self) -> dict[str, Any]:
        """All it knows as data that msgpack can hold; maps have strings as keys."""

    @classmethod
    @abstractmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """A policy that decides as the one `to_plain` was taken of."""

    def to_snapshot(self) -> dict[str, Any]:
        """As `argosy.domain.core.Snapshotable`: with the name, for `from_snapshot`."""
        return {"policy": self.name, "state": self.to_plain()}

    @staticmethod
    def from_snapshot(snapshot: dict[str, Any]) -> "EvictionPolicy":
        """The policy of that snapshot. Raises KeyError if no policy of its name is installed."""
        name = snapshot["policy"]
        policy = POLICIES[name].from_plain(snapshot["state"])
        policy.name = name
        return policy


POLICIES: dict[str, type[EvictionPolicy]] = {}
"""Policies by name. `argosy.kvstore.policies` fills it when it is imported."""


def build_policy(name: str, capacity_blocks: int) -> EvictionPolicy:
    """A new policy for a tier of that many blocks. Raises KeyError if there is none of the name."""
    policy = POLICIES[name](capacity_blocks)
    policy.name = name
    return policy
