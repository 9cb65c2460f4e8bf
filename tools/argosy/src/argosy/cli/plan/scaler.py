"""The autoscaler of a fleet, to be asked, and what its figures are for people."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from argosy.client.control import ControlClient
from argosy.launcher.home import RunningFleet

UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


@asynccontextmanager
async def scaler_of(running: RunningFleet) -> AsyncIterator[ControlClient]:
    """The fleet's autoscaler; closed at the end."""
    remote = ControlClient(running)
    try:
        yield remote
    finally:
        await remote.close()


def iso(at_us: int, timespec: str = "seconds") -> str:
    """UTC. A time beyond what calendars hold is said to be far."""
    try:
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)
    except OverflowError:
        return "far"
    return f"{at.replace(tzinfo=None).isoformat(timespec=timespec)}Z"


def lasting(microseconds: int) -> str:
    """The two largest units of a span of time: 3 d 4 h."""
    left_s = max(0, microseconds) // 1_000_000
    parts: list[str] = []
    for unit, unit_s in UNITS:
        count, left_s = divmod(left_s, unit_s)
        if count or parts:
            parts.append(f"{count} {unit}")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if not part.startswith("0 ")) or "0 s"
