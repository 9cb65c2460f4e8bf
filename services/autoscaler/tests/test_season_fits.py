"""Prophet's fits: each in a process of its own, which may die, and none that is not needed."""

import asyncio
import math
import multiprocessing
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from argosy.autoscaler.shell.history import History, read_rates, read_slots
from argosy.autoscaler.shell.season_fits import SeasonFits
from argosy.wire.autoscaler.v1 import events_pb2

SLOT_US = 600_000_000
BEGAN_US = 1_767_571_200_000_000
DAY = 86_400_000_000 // SLOT_US


def filled(folder: Path, days: int) -> History:
    """A history of so many whole days, busy at noon."""
    history = History(folder)
    for slot in range(days * DAY):
        requests = 600 * (2 - math.cos(2 * math.pi * slot / DAY))
        start_us = BEGAN_US + slot * SLOT_US
        history.add(events_pb2.DemandMeasured(start_us=start_us, seconds=600, requests=requests))
    return history


async def test_after_a_fit_whose_process_died_the_next_one_fits(tmp_path: Path) -> None:
    history = filled(tmp_path, 3)
    fits = SeasonFits(history, "")
    first = asyncio.create_task(fits.fit(SLOT_US, DAY, ()))
    while not (children := multiprocessing.active_children()):
        await asyncio.sleep(0.001)
    children[0].kill()
    with pytest.raises(BrokenProcessPool):
        await first
    season = await fits.fit(SLOT_US, DAY, ())
    history.close()
    assert season is not None
    assert len(season.rates) >= DAY
    assert max(season.rates) == pytest.approx(3, rel=0.2)
    assert min(season.rates) == pytest.approx(1, rel=0.3)


async def test_between_two_fits_there_is_no_process_of_theirs(tmp_path: Path) -> None:
    history = filled(tmp_path, 3)
    await SeasonFits(history, "").fit(SLOT_US, DAY, ())
    (pool_process, *_) = multiprocessing.active_children() or [None]
    if pool_process is not None:
        await asyncio.to_thread(pool_process.join, 30)
    history.close()
    assert multiprocessing.active_children() == []


async def test_what_is_too_short_for_a_season_starts_no_process(tmp_path: Path) -> None:
    history = filled(tmp_path, 1)
    assert await SeasonFits(history, "").fit(SLOT_US, DAY, ()) is None
    history.close()
    assert multiprocessing.active_children() == []


def test_the_service_itself_imports_neither_prophet_nor_pandas() -> None:
    check = (
        "import sys, argosy.autoscaler.shell.service;"
        "sys.exit(bool({'prophet', 'pandas', 'cmdstanpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_others_read_the_history_while_it_is_written(tmp_path: Path) -> None:
    history = filled(tmp_path, 1)
    slots, rates = read_slots(history.path, BEGAN_US + SLOT_US), read_rates(history.path)
    span_us = history.span_us()
    history.close()
    assert len(slots) == DAY - 1
    assert [slot.start_us for slot in slots] == [start_us for start_us, _ in rates][1:]
    assert span_us == (rates[0][0], rates[-1][0])


def test_a_history_without_a_folder_can_be_read_too() -> None:
    history = History(None)
    assert history.span_us() == (0, 0)
    history.add(events_pb2.DemandMeasured(start_us=BEGAN_US, seconds=600, requests=60))
    assert read_rates(history.path) == [(BEGAN_US, 0.1)]
    history.close()
    assert not history.path.exists()
