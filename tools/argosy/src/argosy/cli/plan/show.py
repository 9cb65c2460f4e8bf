"""Operational plans: added, listed and removed."""

import json
import time
from typing import Any

from rich.table import Table
from rich.text import Text

from argosy.cli import console
from argosy.cli.plan.scaler import iso, lasting, scaler_of
from argosy.launcher.home import RunningFleet
from argosy.wire.autoscaler.v1 import autoscaler_pb2

COLUMNS = {"name": 8, "text": 16, "source": 8, "next": 17, "": 11}
"""With what is not to be broken within: words, times."""


async def add(running: RunningFleet, text: str, name: str, *, as_json: bool) -> None:
    """Let a plan hold from now on."""
    async with scaler_of(running) as remote:
        plan = await remote.add_plan(name, text)
    told(plan, "holds", as_json=as_json)


async def remove(running: RunningFleet, name: str, *, as_json: bool) -> None:
    """Let a plan hold no more."""
    async with scaler_of(running) as remote:
        plan = await remote.remove_plan(name)
    told(plan, "is no more", as_json=as_json)


async def show_plans(running: RunningFleet, *, as_json: bool) -> None:
    """All of them, soonest first."""
    async with scaler_of(running) as remote:
        plans = await remote.plans()
    plans.sort(key=lambda plan: (not plan.until_us, plan.from_us, plan.name))
    if as_json:
        print(json.dumps([as_dict(plan) for plan in plans]))
        return
    if not plans:
        console.out.print(
            'no plans: add one with `argosy plan add "Friday 20:00-23:00 at least 6"`'
        )
        return
    table = Table(box=None)
    for title, least in COLUMNS.items():
        table.add_column(title, overflow="fold", min_width=least)
    for plan in plans:
        at, soon = next_time(plan, now_us())
        table.add_row(*(Text(part) for part in (plan.name, plan.text, plan.source, at, soon)))
    console.out.print(table)


def told(plan: autoscaler_pb2.Plan, what: str, *, as_json: bool) -> None:
    """What became of a plan."""
    if as_json:
        print(json.dumps(as_dict(plan)))
        return
    at, soon = next_time(plan, now_us())
    line = f"{plan.name} {what}: {plan.text}" + (f"; next {at}, {soon}" if plan.until_us else "")
    console.out.print(line, markup=False, soft_wrap=True)


def next_time(plan: autoscaler_pb2.Plan, now: int) -> tuple[str, str]:
    """Its present or next span in UTC, and how far off that is."""
    if not plan.until_us or plan.until_us <= now:
        return "-", "over"
    start, end = iso(plan.from_us, "minutes"), iso(plan.until_us, "minutes")
    span = f"{start} to {end[11:] if end[:10] == start[:10] else end}"
    if plan.from_us <= now:
        return span, f"now, {lasting(plan.until_us - now)} more"
    return span, f"in {lasting(plan.from_us - now)}"


def as_dict(plan: autoscaler_pb2.Plan) -> dict[str, Any]:
    """For JSON: times in Unix microseconds; both 0 when there is none any more."""
    names = ("name", "text", "source", "from_us", "until_us")
    return {name: getattr(plan, name) for name in names}


def now_us() -> int:
    """Unix time."""
    return time.time_ns() // 1000
