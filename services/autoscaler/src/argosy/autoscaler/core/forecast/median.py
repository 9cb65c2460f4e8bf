"""The latest values, in order of their coming and in order of size."""

from bisect import bisect_left, insort

import msgspec


class Latest(msgspec.Struct):
    """At most `size` values, the oldest forgotten."""

    size: int
    recent: list[float] = []
    ordered: list[float] = []

    def add(self, value: float) -> None:
        """One more."""
        self.recent.append(value)
        insort(self.ordered, value)
        if len(self.recent) > self.size:
            del self.ordered[bisect_left(self.ordered, self.recent.pop(0))]


class Median(Latest):
    """And their median."""

    value: float = 0

    def add(self, value: float) -> None:
        """One more."""
        Latest.add(self, value)
        middle = len(self.ordered) // 2
        self.value = (self.ordered[middle] + self.ordered[-middle - 1]) / 2
