"""Experts: simple views of what one non-negative series will be, each fed a slot at a time.

An expert with nothing to say (no day seen yet, no path from Prophet) says the last value.
"""

import msgspec

from argosy.autoscaler.core.forecast.median import Median

NAMES = ("last", "holt", "hour", "day", "seasonal", "seasonal_now", "prophet", "prophet_now")
"""The last value; Holt's damped trend; the median of the last hour, and of the last day; the
median of this time of day; Prophet; and the last two shifted by how far off they are now."""
LAST = NAMES.index("last")

DAY_S = 86_400
DAYS_SEEN = 7
"""Of each time of day: a week weighs all weekdays alike."""
HOLT_LEVEL, HOLT_TREND, HOLT_DAMPING = 0.7, 0.1, 0.9
SHIFT_HALF_LIFE_S = 3 * 3600
"""After which half of what a path is off by now is expected to be gone."""


class Holt(msgspec.Struct):
    """Damped trend (Gardner & McKenzie, Management Science 31, 1985), by slot."""

    level: float = 0
    trend: float = 0

    def observe(self, value: float, *, first: bool) -> None:
        """The next value."""
        if first:
            self.level = value
            return
        expected = self.level + HOLT_DAMPING * self.trend
        level = HOLT_LEVEL * value + (1 - HOLT_LEVEL) * expected
        change = level - self.level
        self.trend = HOLT_TREND * change + (1 - HOLT_TREND) * HOLT_DAMPING * self.trend
        self.level = level

    def ahead(self, slots: int) -> float:
        """The value so many slots on."""
        damped = HOLT_DAMPING * (1 - HOLT_DAMPING**slots) / (1 - HOLT_DAMPING)
        return max(0.0, self.level + damped * self.trend)


class Daily(msgspec.Struct):
    """Medians of the latest values seen at each time of day."""

    seen: dict[int, list[float]] = {}
    typical: dict[int, float] = {}
    off: float = 0
    """What the latest value was above its time of day."""

    def observe(self, time_of_day: int, value: float) -> None:
        """A value at a slot of the day, oldest first."""
        self.off = value - self.typical.get(time_of_day, value)
        values = self.seen.setdefault(time_of_day, [])
        values.append(value)
        if len(values) > DAYS_SEEN:
            del values[0]
        ordered, middle = sorted(values), len(values) // 2
        self.typical[time_of_day] = (ordered[middle] + ordered[-middle - 1]) / 2


class PrecomputedPath(msgspec.Struct):
    """A future computed elsewhere: one value a slot from `start` on."""

    start: int = 0
    values: list[float] = []
    off: float = 0
    """What the latest value was above the path."""

    def at(self, slot: int) -> float | None:
        """What it says of a slot; None: nothing."""
        place = slot - self.start
        return self.values[place] if 0 <= place < len(self.values) else None


class Experts(msgspec.Struct):
    """All experts of one series."""

    slot_s: int
    hour: Median
    day: Median
    slot: int = -1
    """The latest one seen; -1: none yet."""
    last: float = 0
    holt: Holt = msgspec.field(default_factory=Holt)
    daily: Daily = msgspec.field(default_factory=Daily)
    path: PrecomputedPath = msgspec.field(default_factory=PrecomputedPath)

    def observe(self, slot: int, value: float) -> None:
        """A value of a later slot than all before; slots between them are unknown."""
        self.holt.observe(value, first=self.slot < 0)
        self.hour.add(value)
        self.day.add(value)
        self.daily.observe(self.time_of_day(slot), value)
        expected = self.path.at(slot)
        self.path.off = 0 if expected is None else value - expected
        self.slot, self.last = slot, value

    def take_path(self, start: int, values: list[float]) -> None:
        """Prophet's path from a slot on, instead of the one before."""
        path = PrecomputedPath(start, values)
        now = path.at(self.slot)
        if now is None and start == self.slot + 1:
            now = path.at(start)  # a path begins after what it was made from
        path.off = 0 if now is None else self.last - now
        self.path = path

    def ahead(self, slots: int) -> list[float]:
        """What each says of the slot so many after the latest; in the order of NAMES."""
        last, target = self.last, self.slot + slots
        left = 0.5 ** (slots * self.slot_s / SHIFT_HALF_LIFE_S)
        typical = self.daily.typical.get(self.time_of_day(target))
        path = self.path.at(target)
        return [
            last,
            self.holt.ahead(slots),
            self.hour.value,
            self.day.value,
            last if typical is None else typical,
            last if typical is None else max(0.0, typical + left * self.daily.off),
            last if path is None else path,
            last if path is None else max(0.0, path + left * self.path.off),
        ]

    def time_of_day(self, slot: int) -> int:
        """Slots since UTC midnight."""
        return slot % max(1, DAY_S // self.slot_s)


def new_experts(slot_s: int) -> Experts:
    """Experts that have seen nothing."""
    return Experts(slot_s, Median(max(3, 3600 // slot_s)), Median(max(3, DAY_S // slot_s)))
