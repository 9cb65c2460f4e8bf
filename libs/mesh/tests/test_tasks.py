"""Background tasks that fail do not go unseen."""

import asyncio
import subprocess
import sys

import pytest

from argosy.mesh.tasks import EXIT_FAILED, start_watched

PROCESS = """
import asyncio
from argosy.mesh.tasks import start_watched

async def work():
    raise ValueError("a defect")

async def main():
    task = start_watched(work(), "the heartbeat")
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_a_background_task_that_fails_ends_the_process_and_says_which_it_was() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROCESS], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == EXIT_FAILED
    assert "the heartbeat failed: ValueError('a defect')" in ended.stderr


async def test_a_background_task_that_ends_or_is_cancelled_has_not_failed() -> None:
    failures: list[str] = []

    async def work(seconds: float) -> None:
        await asyncio.sleep(seconds)

    await start_watched(work(0), "short work", failures.append)
    endless = start_watched(work(3600), "long work", failures.append)
    await asyncio.sleep(0)
    endless.cancel()
    with pytest.raises(asyncio.CancelledError):
        await endless
    assert failures == []
