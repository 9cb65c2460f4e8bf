"""Slots of history on disk: what forecasts are made from survives a restart, and a lost disk.

SQLite, one row a slot. A slot that is on the bus and not here is added when it is read there, so
an empty file is filled again from JetStream. Rows older than KEPT_S are deleted.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from argosy.wire.autoscaler.v1 import events_pb2

KEPT_S = 90 * 86_400
COLUMNS = (
    "seconds",
    "requests",
    "prompt_tokens",
    "prompt_tokens_squared",
    "cached_tokens",
    "finished",
    "output_tokens",
    "output_tokens_squared",
)

INSERT = f"insert or ignore into slots values (?{', ?' * len(COLUMNS)})"  # noqa: S608 - no input
SELECT = (
    f"select start_us, {', '.join(COLUMNS)} from slots "  # noqa: S608 - no input
    "where start_us >= ? order by start_us"
)
SPAN = "select min(start_us), max(start_us) from slots"
RATES = "select start_us, seconds, requests from slots order by start_us"


class History:
    """See the module. folder None: the history ends with the process."""

    def __init__(self, folder: Path | None) -> None:
        self._scratch = TemporaryDirectory(prefix="argosy-history-") if folder is None else None
        if folder is None:
            assert self._scratch is not None
            folder = Path(self._scratch.name)
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "history.sqlite"
        """Other threads and processes read it by connections of their own: see read_slots."""
        self._base = sqlite3.connect(self.path, isolation_level=None)
        self._base.execute("pragma journal_mode = wal")
        columns = ", ".join(f"{name} real" for name in COLUMNS)
        self._base.execute(
            f"create table if not exists slots (start_us integer primary key, {columns})"
        )

    def add(self, slot: events_pb2.DemandMeasured) -> bool:
        """Keep a slot; whether it was not there yet."""
        values = [slot.start_us, *(getattr(slot, name) for name in COLUMNS)]
        done = self._base.execute(INSERT, values)
        oldest_us = slot.start_us - KEPT_S * 1_000_000
        self._base.execute("delete from slots where start_us < ?", [oldest_us])
        return done.rowcount > 0

    def count(self) -> int:
        """Slots that are kept."""
        return int(self._base.execute("select count(*) from slots").fetchone()[0])

    def span_us(self) -> tuple[int, int]:
        """Starts of the first slot and of the last; 0 and 0 where there is none."""
        first, last = self._base.execute(SPAN).fetchone()
        return (0, 0) if first is None else (int(first), int(last))

    def close(self) -> None:
        """Finish writing."""
        self._base.close()
        if self._scratch is not None:
            self._scratch.cleanup()


def read_slots(path: Path, since_us: int = 0) -> list[events_pb2.DemandMeasured]:
    """All from then on, oldest first. Months of them take half a second: not for an event loop.

    Raises sqlite3.Error where the file is none.
    """
    with closing(sqlite3.connect(path)) as base:
        return [
            events_pb2.DemandMeasured(
                start_us=start_us,
                seconds=round(seconds),
                **dict(zip(COLUMNS[1:], sums, strict=True)),
            )
            for start_us, seconds, *sums in base.execute(SELECT, [since_us])
        ]


def read_rates(path: Path) -> list[tuple[int, float]]:
    """Start and requests per second of all slots, oldest first."""
    with closing(sqlite3.connect(path)) as base:
        rows = base.execute(RATES).fetchall()
    return [(start_us, requests / max(1, seconds)) for start_us, seconds, requests in rows]
