"""Belady's rule: what will be asked for last goes first. It has to be told the future.

A bound for what can be had, not a strict one: it does not weigh a whole prefix.
"""

from collections.abc import Iterable, Sequence

from argosy.kvstore.core.eviction.chains import Key, Ranked

NEVER = 1 << 62


class NextUseOracle(Ranked):
    """Asks must come in the order in which they were foretold."""

    def __init__(self, capacity_blocks: int, future: Iterable[Sequence[Key]] = ()) -> None:
        super().__init__(capacity_blocks)
        self._asks = 0
        self._next: dict[Key, list[int]] = {}
        """When it will be asked for, the last first."""
        for number, chain in enumerate(future, 1):
            for key in chain:
                self._next.setdefault(key, []).append(number)
        for times in self._next.values():
            times.reverse()

    def asked(self, chain: Sequence[Key], now_us: int) -> None:
        """One more of the future has come."""
        self._asks += 1
        for key in chain:
            times = self._next.get(key, [])
            while times and times[-1] <= self._asks:
                times.pop()
        self._asked_again(chain)

    def worth_keeping(self, key: Key, now_us: int) -> bool:
        """Asked for again, ever."""
        return bool(self._next.get(key))

    def _rank(self, key: Key) -> tuple[int, ...]:
        times = self._next.get(key)
        return (-(times[-1] if times else NEVER),)
