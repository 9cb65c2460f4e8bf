"""Staging slots for what is loaded: who has them, and until when."""

from collections import deque


class LoadSlots:
    """`count` slots. Taken by loads, given back when the engine has taken the KV in."""

    def __init__(self, count: int) -> None:
        self._free = deque(range(count))

    def take(self, count: int) -> list[int]:
        """Up to `count` slots; fewer, or none, when most are in use."""
        return [self._free.popleft() for _ in range(min(count, len(self._free)))]

    def give(self, slots: list[int]) -> None:
        """These are free again."""
        self._free.extend(slots)
