"""Virtual time: a queue of calls, ordered by time and then by the order they were made in."""

import heapq
from collections.abc import Callable
from typing import Any


class EventQueue:
    """The clock of a simulation. It stands still during a call and jumps to the next one."""

    def __init__(self) -> None:
        self.now_us = 0
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0

    def at(self, at_us: int, call: Callable[..., None], *arguments: Any) -> None:
        """Make a call at a time, which must not have passed."""
        self._sequence += 1
        heapq.heappush(self._heap, (at_us, self._sequence, call, arguments))

    def after(self, delay_us: int, call: Callable[..., None], *arguments: Any) -> None:
        """Make a call after a delay. Zero means: after all other calls of this very time."""
        self.at(self.now_us + delay_us, call, *arguments)

    def run_next(self) -> bool:
        """Make the next call. False means that no call is left."""
        if not self._heap:
            return False
        self.now_us, _, call, arguments = heapq.heappop(self._heap)
        call(*arguments)
        return True

    def run_until(self, until_us: int) -> None:
        """Make all calls up to and including a time."""
        while self._heap and self._heap[0][0] <= until_us:
            self.run_next()
