"""Taking a fleet down leaves nothing behind, whatever had happened to it."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.slow


def left_of(path: Path) -> list[str]:
    """Every process that has to do with the fleet in this folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            told = [*process.cmdline(), *process.environ().values()]
            if any(str(path) in text for text in told):
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
    return found


async def test_down_waits_for_what_a_killed_node_agent_left_behind(fleet_launcher: Any) -> None:
    fleet = await fleet_launcher.launch(speed=0.5)
    async with fleet.client(direct=True) as client:
        chunks = client.generate("sim", text="goodbye", max_tokens=100, ignore_eos=True)
        await anext(chunks)
        os.kill(fleet.running.pid, signal.SIGKILL)
        closing = asyncio.create_task(asyncio.to_thread(fleet_launcher.close))
        tokens = 1 + sum([len(chunk.token_ids) async for chunk in chunks])
        await closing

    assert tokens == 100
    assert left_of(fleet.path) == []


async def test_without_its_node_agent_a_fleet_ends_by_itself(
    fleet_launcher: Any, eventually: Any
) -> None:
    fleet = await fleet_launcher.launch()
    os.kill(fleet.running.pid, signal.SIGKILL)

    await eventually(lambda: left_of(fleet.path) == [])


async def test_down_lets_answers_under_way_finish(fleet_launcher: Any) -> None:
    fleet = await fleet_launcher.launch(speed=0.5)
    async with fleet.client() as client:
        chunks = client.generate("sim", text="one last word", max_tokens=60, ignore_eos=True)
        await anext(chunks)
        closing = asyncio.create_task(asyncio.to_thread(fleet_launcher.close))
        tokens = 1 + sum([len(chunk.token_ids) async for chunk in chunks])
        await closing

    assert tokens == 60
    assert left_of(fleet.path) == []


async def test_down_leaves_no_process_and_up_starts_again_in_the_same_place(
    fleet_launcher: Any,
) -> None:
    first = await fleet_launcher.launch(name="again")
    assert len(left_of(first.path)) >= 6
    await asyncio.to_thread(fleet_launcher.close)

    assert left_of(first.path) == []
    assert not (first.path / "state.json").exists()
    second = await fleet_launcher.launch(name="again")
    assert second.path == first.path
    async with second.client() as client:
        assert (await client.answer("sim", text="hello", max_tokens=1)).token_ids
