"""Series of request rates, from files that hold rates and from files that hold requests."""

from pathlib import Path

import msgspec
import numpy as np

from argosy.sim.scaling import rates
from argosy.sim.traces.trace import MOONCAKE_BLOCK_TOKENS, read_trace

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
    if rates.is_rates(path):
        return _of_rates(*rates.read_rates(path))
    arrived_s = [r.arrived_us / 1e6 for r in read_trace(path, None, MOONCAKE_BLOCK_TOKENS)]
    slot_s = LONG_SLOT_S if arrived_s[-1] >= DAY_S else SHORT_SLOT_S
    counts = [0] * int(arrived_s[-1] // slot_s)
    for at_s in arrived_s:
        if at_s < len(counts) * slot_s:
            counts[int(at_s // slot_s)] += 1
    return Series(slot_s, [count / slot_s for count in counts])


def _of_rates(starts_s: rates.Numbers, per_s: rates.Numbers) -> Series:
    slot_s = round(float(np.diff(starts_s).min()))
    slots = np.rint(starts_s / slot_s).astype(int)
    values: list[float | None] = [None] * (int(slots[-1]) + 1)
    for slot, rate in zip(slots.tolist(), per_s.tolist(), strict=True):
        values[slot] = rate
    return Series(slot_s, values)
