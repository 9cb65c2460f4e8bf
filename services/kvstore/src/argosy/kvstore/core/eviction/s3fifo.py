"""S3-FIFO (Yang et al., SOSP '23): a small queue for newcomers, a main one, and ghosts.

What has held children, or is pinned, when its turn comes is set aside, and has its turn
again as soon as it may go.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence

from argosy.kvstore.core.eviction.chains import Chains, Key

SMALL_SHARE = 0.1
ASKS_MAX = 3
ASKS_TO_MAIN = 2


class S3Fifo(Chains):
    """Ghosts: as many as the main queue may have."""

    def __init__(self, capacity_blocks: int) -> None:
        super().__init__(capacity_blocks)
        self._small: deque[Key] = deque()
        self._main: deque[Key] = deque()
        self._in_main: dict[Key, bool] = {}
        self._small_blocks = 0
        self._aside: dict[Key, None] = {}
        self._asks: dict[Key, int] = {}
        """Since it was stored, up to ASKS_MAX."""
        self._ghosts: OrderedDict[Key, None] = OrderedDict()

    def asked(self, chain: Sequence[Key], now_us: int) -> None:
        """Count asks of held blocks."""
        asks = self._asks
        for key in chain:
            count = asks.get(key)
            if count is not None and count < ASKS_MAX:
                asks[key] = count + 1

    def stored(self, key: Key, parent: Key | None, now_us: int) -> None:
        """To the main queue when it was let go of late, else to the small one."""
        if key in self._asks:
            return
        self._asks[key] = 0
        main = key in self._ghosts
        if main:
            del self._ghosts[key]
        self._enqueue(key, main=main)
        super().stored(key, parent, now_us)

    def removed(self, key: Key) -> None:
        """No longer held; remembered when it was among the newcomers."""
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
        """By turns of the two queues; what was asked for meanwhile goes on to the main one."""
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
        """Asked for since it was stored, or among those that were."""
        return self._in_main.get(key, False) or self._asks.get(key, 0) > 0

    def _enqueue(self, key: Key, *, main: bool) -> None:
        self._in_main[key] = main
        (self._main if main else self._small).append(key)
        if not main:
            self._small_blocks += 1

    def _freed(self, key: Key) -> None:
        if key in self._aside:
            del self._aside[key]
            (self._main if self._in_main[key] else self._small).appendleft(key)
