"""KV blocks gained and lost, added up until somebody asks."""

from argosy.engine.api import BlocksChanged


class NetChanges:
    """What became of blocks since `take` was last called, in the order it happened.

    A block that came and went is in neither list, so who hears of a change need not
    know in which order its parts happened.
    """

    def __init__(self) -> None:
        self._stored: dict[int, None] = {}
        self._removed: dict[int, None] = {}
        self._cleared = False

    def store(self, block: int) -> None:
        """The block, absent until now, is here."""
        if block in self._removed:
            del self._removed[block]
        else:
            self._stored[block] = None

    def remove(self, block: int) -> None:
        """The block, here until now, is gone."""
        if block in self._stored:
            del self._stored[block]
        else:
            self._removed[block] = None

    def clear(self) -> None:
        """All blocks are gone."""
        self._stored, self._removed, self._cleared = {}, {}, True

    def take(self) -> BlocksChanged | None:
        """The change so far, which is forgotten; None for nothing."""
        if not (self._stored or self._removed or self._cleared):
            return None
        change = BlocksChanged(list(self._stored), list(self._removed), self._cleared)
        self._stored, self._removed, self._cleared = {}, {}, False
        return change
