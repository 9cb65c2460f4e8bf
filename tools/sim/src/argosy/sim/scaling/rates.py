"""Requests per second as time goes: windows of a rate trace, or a staged ramp."""

import csv
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from argosy.sim.traces.trace import TraceError

Numbers = npt.NDArray[np.float64]

COLUMNS = ("offset_s", "req_per_s")

RAMP = ((330, 2), (360, 4), (360, 6), (360, 8), (360, 10), (360, 4), (300, 1))
"""(seconds, requests/s): the stages of llm-d's scored ramp, 2 to 10 to 1 (llm-d/llm-d,
guides/workload-autoscaling/slo-aware/benchmark-templates/scored-config.yml)."""


def is_rates(path: Path) -> bool:
    """Whether a file holds rates rather than requests, by its first line. Raises TraceError."""
    try:
        with path.open(encoding="utf-8-sig") as lines:
            return lines.readline().strip().startswith(",".join(COLUMNS))
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"cannot read the trace {path}: {error}") from error


def read_rates(path: Path) -> tuple[Numbers, Numbers]:
    """(window starts in seconds from 0, requests per second). Raises TraceError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = [
                (float(row[COLUMNS[0]]), float(row[COLUMNS[1]])) for row in csv.DictReader(lines)
            ]
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise TraceError(f"cannot use the rates in {path}: {error}") from error
    if not all(math.isfinite(at_s) and math.isfinite(rate) and rate >= 0 for at_s, rate in rows):
        raise TraceError(f"cannot use the rates in {path}: each is a finite number, 0 or more")
    if len({at_s for at_s, _ in rows}) < max(2, len(rows)):
        raise TraceError(f"cannot use the rates in {path}: write two windows or more, each once")
    starts, per_s = (np.array(column) for column in zip(*sorted(rows), strict=True))
    return starts - starts[0], per_s


def by_tick(starts_s: Numbers, rates: Numbers, tick_s: float) -> Numbers:
    """The rate in each tick, linear between the middles of windows."""
    window_s = float(starts_s[-1] - starts_s[-2])
    ticks = round((float(starts_s[-1]) + window_s) / tick_s)
    middles = np.append((starts_s[1:] + starts_s[:-1]) / 2, starts_s[-1] + window_s / 2)
    found: Numbers = np.interp((np.arange(ticks) + 0.5) * tick_s, middles, rates)
    return found


def ramp(tick_s: float) -> Numbers:
    """llm-d's ramp, by tick."""
    return np.concatenate([np.full(round(span / tick_s), float(rate)) for span, rate in RAMP])
