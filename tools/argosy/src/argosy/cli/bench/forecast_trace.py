"""Series of request rates, from files that hold rates and from files that hold requests."""

import csv
import math
from itertools import pairwise
from pathlib import Path

import msgspec

from argosy.cli.sim.trace import MOONCAKE_BLOCK_TOKENS, TraceError, read_trace

RATE_COLUMNS = ("offset_s", "req_per_s")
LONG_SLOT_S, SHORT_SLOT_S = 600, 60
DAY_S = 86_400


class Series(msgspec.Struct, frozen=True):
    """Requests per second by slot; None: not known."""

    slot_s: int
    values: list[float | None]

    def seen(self, before: int) -> tuple[list[float], list[float]]:
        """Start times (seconds) and values of known slots below `before`."""
        known = [(at, v) for at, v in enumerate(self.values[:before]) if v is not None]
        return [float(at * self.slot_s) for at, _ in known], [value for _, value in known]


def read_series(path: Path) -> Series:
    """Rates as they are in the file, or requests counted by slot. Raises TraceError.

    Requests of a day and more are counted by 10 minutes, less by the minute; the last slot,
    which the trace may have ended within, is left out. A slot in which nobody came is 0.
    """
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            header = tuple(next(csv.reader(lines), []))
            if header == RATE_COLUMNS:
                return _rates(path, list(csv.reader(lines)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"cannot read the trace {path}: {error}") from error
    arrived_s = [r.arrived_us / 1e6 for r in read_trace(path, None, MOONCAKE_BLOCK_TOKENS)]
    slot_s = LONG_SLOT_S if arrived_s[-1] >= DAY_S else SHORT_SLOT_S
    counts = [0] * int(arrived_s[-1] // slot_s)
    for at_s in arrived_s:
        if at_s < len(counts) * slot_s:
            counts[int(at_s // slot_s)] += 1
    return Series(slot_s, [count / slot_s for count in counts])


def _rates(path: Path, rows: list[list[str]]) -> Series:
    try:
        known = sorted((float(row[0]), float(row[1])) for row in rows if row)
        slot_s = round(min(b[0] - a[0] for a, b in pairwise(known)))
        first_s = known[0][0]
        values: list[float | None] = [None] * (round((known[-1][0] - first_s) / slot_s) + 1)
        for offset_s, rate in known:
            if not (math.isfinite(rate) and rate >= 0):
                raise ValueError(f"no rate: {rate}")
            values[round((offset_s - first_s) / slot_s)] = rate
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise TraceError(f"cannot use the rates in {path}: {error}") from error
    return Series(slot_s, values)
