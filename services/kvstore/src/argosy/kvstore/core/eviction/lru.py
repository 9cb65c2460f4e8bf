"""Least recently used."""

from collections.abc import Sequence

from argosy.kvstore.core.eviction.chains import Key, Ranked


class Lru(Ranked):
    """The block whose last ask is longest ago goes first."""

    def __init__(self, capacity_blocks: int) -> None:
        super().__init__(capacity_blocks)
        self._asks = 0
        self._last: dict[Key, int] = {}
        """Of blocks that are held, or were just asked for and may be about to be stored."""
        self._awaited: Sequence[Key] = ()

    def asked(self, chain: Sequence[Key], now_us: int) -> None:
        """Only held blocks and the last chain are remembered."""
        self._asks += 1
        for key in self._awaited:
            if key not in self._blocks:
                self._last.pop(key, None)
        self._awaited = tuple(chain)
        self._last.update(dict.fromkeys(chain, self._asks))
        self._asked_again(chain)

    def removed(self, key: Key) -> None:
        """No longer held."""
        super().removed(key)
        self._last.pop(key, None)

    def _rank(self, key: Key) -> tuple[int, ...]:
        return (self._last.setdefault(key, self._asks),)
