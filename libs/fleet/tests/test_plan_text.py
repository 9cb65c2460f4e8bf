from datetime import datetime, time
from zoneinfo import ZoneInfo

import pytest

from argosy.fleet.plan_text import PlanText, read, spans

BERLIN = ZoneInfo("Europe/Berlin")
MADE = datetime(2026, 11, 18, 12, 0, tzinfo=BERLIN)
"""A Wednesday."""


def of(text: str, after: datetime, before: datetime) -> list[tuple[str, str]]:
    found = spans(read(text), MADE, after, before)
    return [(f"{start:%a %d %H:%M}", f"{end:%a %d %H:%M}") for start, end in found]


def week(text: str) -> list[tuple[str, str]]:
    return of(text, MADE, datetime(2026, 11, 25, 12, 0, tzinfo=BERLIN))


def test_a_day_of_the_week_comes_again() -> None:
    assert week("Friday 20:00–23:00 at least 6") == [("Fri 20 20:00", "Fri 20 23:00")]
    assert len(week("weekdays 08:00-18:00 at least 4 prefill")) == 6
    assert len(week("daily 23:00-01:00 at most 2 decode")) == 7


def test_a_span_over_midnight_ends_the_next_day() -> None:
    assert ("Wed 18 23:00", "Thu 19 01:00") in week("daily 23:00-01:00 at most 2")


def test_a_span_that_began_yesterday_still_holds() -> None:
    after = datetime(2026, 11, 19, 0, 30, tzinfo=BERLIN)
    before = datetime(2026, 11, 19, 0, 45, tzinfo=BERLIN)
    assert of("daily 23:00-01:00 at most 2", after, before) == [("Wed 18 23:00", "Thu 19 01:00")]


def test_no_scale_down_holds_from_now_to_the_day() -> None:
    assert week("no scale-down until Monday") == [("Wed 18 12:00", "Mon 23 00:00")]


def test_a_drain_begins_at_the_next_such_time_and_lasts() -> None:
    assert week("drain rack 3 at 02:00 for 2h") == [("Thu 19 02:00", "Thu 19 04:00")]
    assert week("drain rack A-7 at 14:00")[0][0] == "Wed 18 14:00"
    assert read("drain rack A-7 at 14:00").rack == "A-7"


def test_a_date_is_once() -> None:
    assert week("2026-11-20 18:00-23:00 at most 2") == [("Fri 20 18:00", "Fri 20 23:00")]


def test_clocks_that_change_keep_the_wall_time() -> None:
    made = datetime(2026, 10, 24, 12, 0, tzinfo=BERLIN)
    before = datetime(2026, 10, 27, tzinfo=BERLIN)
    found = spans(read("daily 01:00-05:00 at most 2"), made, made, before)
    assert [(b.timestamp() - a.timestamp()) / 3600 for a, b in found] == [5, 4]
    assert {f"{a:%H:%M}-{b:%H:%M}" for a, b in found} == {"01:00-05:00"}


@pytest.mark.parametrize(
    "text", ["", "at least 6", "Friday 25:00-26:00 at least 6", "drain rack at 02:00", "x" * 1000]
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write"):
        read(text)


def test_roles_and_counts_are_read() -> None:
    assert read("Friday 20:00-23:00 at least 6 decode") == PlanText(
        "at_least", "friday", time(20), time(23), count=6, role="decode"
    )
