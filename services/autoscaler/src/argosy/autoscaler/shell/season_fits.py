"""Prophet looks at the history in a process of its own: it is slow, and large once it is imported.

Each fit has a new process, which ends with it. So between two fits nothing of Prophet is held in
memory, and a process that dies (out of memory, say) costs its own fit and none of the later ones.
The process reads the history itself: months of slots take too long to read on the event loop.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from argosy.autoscaler.season.prophet_fit import DAILY_FROM_S
from argosy.autoscaler.season.season_job import SeasonForecast, look_ahead
from argosy.autoscaler.shell.history import History, read_rates
from argosy.domain.plan_window import PlanWindow


class SeasonFits:
    """See the module."""

    def __init__(self, history: History, country: str) -> None:
        self._history = history
        self._country = country
        self._pools: set[ProcessPoolExecutor] = set()

    async def fit(
        self, slot_us: int, count: int, windows: Sequence[PlanWindow]
    ) -> SeasonForecast | None:
        """The next `count` slots as Prophet expects them; None: too little was seen yet.

        Raises BrokenProcessPool if the process dies.
        """
        first_us, last_us = self._history.span_us()
        if last_us - first_us < (DAILY_FROM_S * 1_000_000) - slot_us:
            return None
        pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self._pools.add(pool)
        try:
            return await asyncio.get_running_loop().run_in_executor(
                pool,
                fit_from_history,
                self._history.path,
                slot_us,
                count,
                self._country,
                tuple(windows),
            )
        finally:
            self._pools.discard(pool)
            pool.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Begin no fit that has not begun."""
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)


def fit_from_history(
    path: Path, slot_us: int, count: int, country: str, windows: Sequence[PlanWindow]
) -> SeasonForecast | None:
    """Read the history and let Prophet look ahead: what the process does."""
    return look_ahead(read_rates(path), slot_us, count, country, windows)
