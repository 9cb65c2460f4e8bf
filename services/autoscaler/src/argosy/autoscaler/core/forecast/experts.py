"""Experts: simple views of what one non-negative series will be, each fed a slot at a time.

An expert is a function of what was seen of the series (`Experts`) and of how many slots ahead it is
asked for; EXPERTS names them all. To add one, write such a function and its line there; what it has
to remember is a field of Experts, which `observe` keeps. An expert with nothing to say (no day seen
yet, no path from Prophet) says the last value.
"""

from collections.abc import Callable

import msgspec

from argosy.autoscaler.core.forecast.median import Median

DAY_S = 86_400
DAYS_SEEN = 7
"""Of each time of day: a week weighs all weekdays alike."""
HOLT_LEVEL, HOLT_TREND, HOLT_DAMPING = 0.7, 0.1, 0.9
"""Slots of a minute are noisy and levels real: most of a new value is believed, little of its
trend, and a trend is over after some ten slots (damping 0.9 sums to nine slots of it)."""
SHIFT_HALF_LIFE_S = 3 * 3600
"""After which half of what a path is off by now is expected to be gone: a day that runs high in the
morning still does at noon, and says little of the night."""


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
        """The value that many slots on."""
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
        """What each says of the slot that is `slots` after the latest, in the order of NAMES."""
        return [expert(self, slots) for expert in EXPERTS.values()]

    def typical(self, slots: int) -> float | None:
        """The median of that time of day; None: it was not seen yet."""
        return self.daily.typical.get(self.time_of_day(self.slot + slots))

    def shifted(self, value: float, off: float, slots: int) -> float:
        """A value, shifted by what is still left by then of how far off its kind is now."""
        left: float = 0.5 ** (slots * self.slot_s / SHIFT_HALF_LIFE_S)
        return max(0.0, value + left * off)

    def time_of_day(self, slot: int) -> int:
        """Slots since UTC midnight."""
        return slot % max(1, DAY_S // self.slot_s)


def new_experts(slot_s: int) -> Experts:
    """Experts that have seen nothing."""
    return Experts(slot_s, Median(max(3, 3600 // slot_s)), Median(max(3, DAY_S // slot_s)))


def last_value(seen: Experts, slots: int) -> float:
    """It stays as it is."""
    return seen.last


def damped_trend(seen: Experts, slots: int) -> float:
    """Holt's trend goes on, less and less."""
    return seen.holt.ahead(slots)


def last_hour(seen: Experts, slots: int) -> float:
    """The median of the last hour."""
    return seen.hour.value


def last_day(seen: Experts, slots: int) -> float:
    """The median of the last day."""
    return seen.day.value


def time_of_day(seen: Experts, slots: int) -> float:
    """The median of that time of day."""
    typical = seen.typical(slots)
    return seen.last if typical is None else typical


def time_of_day_now(seen: Experts, slots: int) -> float:
    """The same, shifted by how far off it is now."""
    typical = seen.typical(slots)
    return seen.last if typical is None else seen.shifted(typical, seen.daily.off, slots)


def prophet(seen: Experts, slots: int) -> float:
    """Prophet's path."""
    path = seen.path.at(seen.slot + slots)
    return seen.last if path is None else path


def prophet_now(seen: Experts, slots: int) -> float:
    """The same, shifted by how far off it is now."""
    path = seen.path.at(seen.slot + slots)
    return seen.last if path is None else seen.shifted(path, seen.path.off, slots)


EXPERTS: dict[str, Callable[[Experts, int], float]] = {
    "last": last_value,
    "holt": damped_trend,
    "hour": last_hour,
    "day": last_day,
    "seasonal": time_of_day,
    "seasonal_now": time_of_day_now,
    "prophet": prophet,
    "prophet_now": prophet_now,
}
"""All of them, in the order in which their errors and weights are kept."""
NAMES = tuple(EXPERTS)
LAST = NAMES.index("last")
"""The one that is believed until another was measurably better."""
