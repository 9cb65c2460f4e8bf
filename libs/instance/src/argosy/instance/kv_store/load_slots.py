"""Staging slots for KV to load."""

from collections import deque


class LoadSlots:
    """`count` slots. A load takes some, and gives them back when the engine has loaded the KV."""

    def __init__(self, count: int) -> None:
        self._free = deque(range(count))

    def take(self, count: int) -> list[int]:
        """Up to `count` slots; fewer, or none, when most are in use."""
        return [self._free.popleft() for _ in range(min(count, len(self._free)))]

    def give(self, slots: list[int]) -> None:
        """Free these slots."""
        self._free.extend(slots)
