"""Slots of history on disk: what forecasts are made from survives a restart, and a lost disk.

SQLite, one row a slot. A slot that is on the bus and not here is added when it is read there, so
an empty file is filled again from JetStream. Rows older than KEPT_S are deleted.
"""

import sqlite3
from pathlib import Path

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


class History:
    """See the module. folder None: in memory only."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        path = ":memory:" if folder is None else folder / "history.sqlite"
        self._base = sqlite3.connect(path, isolation_level=None)
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

    def slots(self, since_us: int = 0) -> list[events_pb2.DemandMeasured]:
        """All from then on, oldest first."""
        rows = self._base.execute(SELECT, [since_us])
        return [
            events_pb2.DemandMeasured(
                start_us=start_us,
                seconds=round(seconds),
                **dict(zip(COLUMNS[1:], rest, strict=True)),
            )
            for start_us, seconds, *rest in rows
        ]

    def count(self) -> int:
        """Slots that are kept."""
        return int(self._base.execute("select count(*) from slots").fetchone()[0])

    def close(self) -> None:
        """Finish writing."""
        self._base.close()
