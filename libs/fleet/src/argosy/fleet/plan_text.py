"""Operational plans as people write them, and the spans of time they are about.

    Friday 20:00-23:00 at least 6
    weekdays 08:00-18:00 at least 4 prefill
    2026-12-24 18:00-23:00 at most 2 decode
    drain rack 3 at 02:00 for 2h
    no scale-down until Monday

Times are of the fleet's time zone; a span that ends before it begins ends on the next day. What
has a day of the week, `daily`, `weekdays` or `weekends` comes again and again; the rest is once,
counted from when the plan was made: `at 02:00` is the next 02:00 after that.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
GROUPS = {"daily": range(7), "weekdays": range(5), "weekends": range(5, 7)}
FOREVER = timedelta(days=3650)
EXAMPLE = "`Friday 20:00-23:00 at least 6`, `drain rack 3 at 02:00`, `no scale-down until Monday`"

_DAY = rf"(?P<day>{'|'.join(DAYS)}|{'|'.join(GROUPS)}|\d{{4}}-\d\d-\d\d)"
_TIME = r"(?P<{}>\d\d?:\d\d)"
_SPAN = re.compile(
    rf"(?:{_DAY}\s+)?{_TIME.format('start')}\s*[-–]\s*{_TIME.format('end')}\s+"
    r"at\s+(?P<bound>least|most)\s+(?P<count>\d{1,6})(?:\s+(?P<role>prefill|decode))?"
)
_DRAIN = re.compile(
    rf"drain\s+rack\s+(?P<rack>\S+)\s+at\s+(?:{_DAY}\s+)?{_TIME.format('start')}"
    r"(?:\s+for\s+(?P<count>\d{1,4})\s*(?P<unit>m|h|d))?"
)
_HOLD = re.compile(rf"no\s+scale-?\s?down\s+until\s+{_DAY}(?:\s+{_TIME.format('start')})?")


@dataclass(frozen=True)
class PlanText:
    """A plan, read. kind: at_least, at_most, hold or drain."""

    kind: str
    day: str = ""
    start: time = time(0)
    end: time | None = None
    lasts: timedelta = FOREVER
    count: int = 0
    role: str = ""
    rack: str = ""


def read(text: str) -> PlanText:
    """A plan from its text. Raises ValueError that says what to write."""
    words = " ".join(text.split())
    if found := _SPAN.fullmatch(words.lower()):
        kind = f"at_{found['bound']}"
        return PlanText(
            kind,
            found["day"] or "daily",
            clock(found["start"]),
            clock(found["end"]),
            count=int(found["count"]),
            role=found["role"] or "",
        )
    if found := re.compile(_DRAIN.pattern, re.IGNORECASE).fullmatch(words):
        lasts = FOREVER
        if found["count"]:
            hours = {"m": 1 / 60, "h": 1, "d": 24}[found["unit"].lower()]
            lasts = timedelta(hours=int(found["count"]) * hours)
        day = (found["day"] or "").lower()
        return PlanText("drain", day, clock(found["start"]), lasts=lasts, rack=found["rack"])
    if found := _HOLD.fullmatch(words.lower()):
        start = clock(found["start"]) if found["start"] else time(0)
        return PlanText("hold", found["day"], start)
    raise ValueError(f"cannot read the plan '{text}': write such as {EXAMPLE}")


def clock(text: str) -> time:
    """20:00; 24:00 is midnight. Raises ValueError."""
    hours, minutes = (int(part) for part in text.split(":"))
    if hours > 24 or minutes > 59 or (hours == 24 and minutes):
        raise ValueError(f"{text} is no time of day: write 00:00 to 24:00")
    return time(hours % 24, minutes)


def spans(
    plan: PlanText, made: datetime, after: datetime, before: datetime
) -> list[tuple[datetime, datetime]]:
    """When it holds, as far as that touches the time from `after` to `before`.

    All times are aware, and `made` is in the fleet's time zone. Raises ValueError for a date that
    there is not.
    """
    zone = made.tzinfo
    assert isinstance(zone, ZoneInfo)
    if plan.kind == "hold":
        found = [(made, next_at(plan, made))]
    elif plan.kind == "drain":
        start = next_at(plan, made)
        found = [(start, start + plan.lasts)]
    else:
        found = [one_day(plan, day, zone) for day in days_of(plan, after, before, zone)]
    return [(start, end) for start, end in found if start < before and end > after]


def one_day(plan: PlanText, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The span that begins on a day."""
    assert plan.end is not None
    last = day if plan.end > plan.start else day + timedelta(days=1)
    return datetime.combine(day, plan.start, zone), datetime.combine(last, plan.end, zone)


def days_of(plan: PlanText, after: datetime, before: datetime, zone: ZoneInfo) -> list[date]:
    """Days on which a span of it begins that may touch the time."""
    if plan.day[:1].isdigit():
        return [date.fromisoformat(plan.day)]
    first = after.astimezone(zone).date() - timedelta(days=1)
    count = (before.astimezone(zone).date() - first).days + 1
    wanted = GROUPS.get(plan.day) or (DAYS.index(plan.day),)
    every = (first + timedelta(days=number) for number in range(count))
    return [day for day in every if day.weekday() in wanted]


def next_at(plan: PlanText, made: datetime) -> datetime:
    """The first such time after the plan was made."""
    if plan.day[:1].isdigit():
        return datetime.combine(date.fromisoformat(plan.day), plan.start, made.tzinfo)
    wanted = GROUPS.get(plan.day or "daily") or (DAYS.index(plan.day),)
    for number in range(9):
        day = made.date() + timedelta(days=number)
        at = datetime.combine(day, plan.start, made.tzinfo)
        if day.weekday() in wanted and at > made:
            return at
    raise AssertionError("a week has every day")
