"""S3-FIFO (Yang et al., SOSP '23): a small queue for new blocks, a main queue, and ghosts.

A block that is pinned or has held children when its turn comes is set aside. It has its turn
again as soon as it may be evicted.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any, Self

from argosy.kvstore.core.eviction.chains import ChainPolicy
from argosy.kvstore.core.eviction.policy import Key

SMALL_SHARE = 0.1
"""Of the capacity, for the small queue: the paper's choice, good over all of its traces."""
ASKS_MAX = 3
"""Where counting ends: the paper's two bits."""
ASKS_TO_MAIN = 2
"""Requests since it was stored that move a block to the main queue. The paper's "more than one"."""


class S3FifoPolicy(ChainPolicy):
    """Remembers as many ghosts as the main queue may have blocks."""

    def __init__(self, capacity_blocks: int) -> None:
        super().__init__(capacity_blocks)
        self._small: deque[Key] = deque()
        self._main: deque[Key] = deque()
        self._in_main: dict[Key, bool] = {}
        self._small_blocks = 0
        self._aside: dict[Key, None] = {}
        self._asks: dict[Key, int] = {}
        """Requests for a held block since it was stored, up to ASKS_MAX."""
        self._ghosts: OrderedDict[Key, None] = OrderedDict()

    def asked(self, chain: Sequence[Key], now_us: int) -> None:
        """See EvictionPolicy."""
        asks = self._asks
        for key in chain:
            count = asks.get(key)
            if count is not None and count < ASKS_MAX:
                asks[key] = count + 1

    def stored(self, key: Key, parent: Key | None, now_us: int) -> None:
        """See EvictionPolicy. A ghost goes to the main queue, any other block to the small one."""
        if key in self._asks:
            return
        self._asks[key] = 0
        main = key in self._ghosts
        if main:
            del self._ghosts[key]
        self._enqueue(key, main=main)
        super().stored(key, parent, now_us)

    def removed(self, key: Key) -> None:
        """See EvictionPolicy. A block of the small queue becomes a ghost."""
        super().removed(key)
        if self._asks.pop(key, None) is None:
            return
        self._aside.pop(key, None)
        if not self._in_main.pop(key):
            self._small_blocks -= 1
            self._ghosts[key] = None
            if len(self._ghosts) > self.capacity_blocks * (1 - SMALL_SHARE):
                self._ghosts.popitem(last=False)

    def victim(self, now_us: int) -> Key | None:
        """See EvictionPolicy. Blocks requested meanwhile go to the end of the main queue."""
        while self._small or self._main:
            small = bool(self._small) and (
                not self._main or self._small_blocks >= SMALL_SHARE * self.capacity_blocks
            )
            queue = self._small if small else self._main
            key = queue[0]
            if self._in_main.get(key) is not (not small):
                queue.popleft()
            elif not self._may_go(key):
                self._aside[queue.popleft()] = None
            elif self._asks[key] < (ASKS_TO_MAIN if small else 1):
                return key
            else:
                queue.popleft()
                if small:
                    self._small_blocks -= 1
                    self._asks[key] = 0
                else:
                    self._asks[key] -= 1
                self._enqueue(key, main=True)
        return None

    def worth_keeping(self, key: Key, now_us: int) -> bool:
        """See EvictionPolicy: requested blocks and those of the main queue are."""
        return self._in_main.get(key, False) or self._asks.get(key, 0) > 0

    def to_plain(self) -> dict[str, Any]:
        """See EvictionPolicy."""
        return {
            **self.chains_to_plain(),
            "small": list(self._small),
            "main": list(self._main),
            "in_main": list(self._in_main.items()),
            "small_blocks": self._small_blocks,
            "aside": list(self._aside),
            "asks": list(self._asks.items()),
            "ghosts": list(self._ghosts),
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """See EvictionPolicy."""
        made = cls(plain["capacity"])
        made.chains_from_plain(plain)
        made._small, made._main = deque(plain["small"]), deque(plain["main"])
        made._in_main = dict(plain["in_main"])
        made._small_blocks = plain["small_blocks"]
        made._aside = dict.fromkeys(plain["aside"])
        made._asks = dict(plain["asks"])
        made._ghosts = OrderedDict.fromkeys(plain["ghosts"])
        return made

    def _enqueue(self, key: Key, *, main: bool) -> None:
        self._in_main[key] = main
        (self._main if main else self._small).append(key)
        if not main:
            self._small_blocks += 1

    def _freed(self, key: Key) -> None:
        if key in self._aside:
            del self._aside[key]
            (self._main if self._in_main[key] else self._small).appendleft(key)
