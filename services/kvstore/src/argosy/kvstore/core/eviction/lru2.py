"""LRU-2 (O'Neil, SIGMOD '93): by the last ask but one; blocks asked for once go first."""

from collections import OrderedDict
from collections.abc import Sequence

from argosy.kvstore.core.eviction.chains import Key, Ranked

GHOSTS_PER_BLOCK = 2


class Lru2(Ranked):
    """Blocks let go are remembered, so that a second ask counts although the first was lost."""

    def __init__(self, capacity_blocks: int) -> None:
        super().__init__(capacity_blocks)
        self._asks = 0
        self._times: dict[Key, tuple[int, int]] = {}
        """(last ask but one or 0, last ask), of held blocks and ghosts."""
        self._ghosts: OrderedDict[Key, None] = OrderedDict()

    def asked(self, chain: Sequence[Key], now_us: int) -> None:
        """Shift the times of these blocks."""
        self._asks += 1
        times, never = self._times, (0, 0)
        for key in chain:
            times[key] = (times.get(key, never)[1], self._asks)
            if not self._held(key):
                self._remember(key)
        self._asked_again(chain)

    def stored(self, key: Key, parent: Key | None, now_us: int) -> None:
        """Held from now on."""
        self._ghosts.pop(key, None)
        super().stored(key, parent, now_us)

    def removed(self, key: Key) -> None:
        """No longer held, but remembered."""
        super().removed(key)
        if key in self._times:
            self._remember(key)

    def worth_keeping(self, key: Key, now_us: int) -> bool:
        """Asked for twice."""
        return self._rank(key)[0] > 0

    def _remember(self, key: Key) -> None:
        self._ghosts[key] = None
        self._ghosts.move_to_end(key)
        if len(self._ghosts) > GHOSTS_PER_BLOCK * self.capacity_blocks:
            gone, _ = self._ghosts.popitem(last=False)
            del self._times[gone]

    def _rank(self, key: Key) -> tuple[int, ...]:
        return self._times.setdefault(key, (0, self._asks))
