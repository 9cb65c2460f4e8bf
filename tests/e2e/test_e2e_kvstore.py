"""A fleet with a KV store: what one instance has computed, the others find there."""

import asyncio
import itertools
import json
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from argosy.wire.kvstore.v1 import events_pb2

pytestmark = pytest.mark.slow

BLOCK_TOKENS = 32
PROMPT_BLOCKS = 20
ROUNDS, AT_ONCE = 6, 4


@pytest.fixture(scope="module")
def stored_fleet(
    tmp_path_factory: pytest.TempPathFactory, new_fleet_launcher: Any
) -> Iterator[Any]:
    """Two decodes that do all by themselves, and a store."""
    launcher = new_fleet_launcher(tmp_path_factory.mktemp("stored"))
    yield asyncio.run(launcher.launch(name="stored", prefill=0, decode=2, kv_store=True))
    launcher.close()


def prompt() -> str:
    """Of more than PROMPT_BLOCKS blocks, which nobody has."""
    return f"{uuid.uuid4().hex} " + "the door of the old ship turns slowly to the north " * 95


async def ask(fleet: Any, text: str, **options: Any) -> Any:
    options = {"max_tokens": 40, "temperature": 0, "ignore_eos": True, **options}
    async with fleet.client() as client:
        return await client.answer("sim", text=text, **options)


async def argosy_kv(fleet: Any, *words: str) -> Any:
    """`argosy kv ... --json`, as people call it."""
    where = ["--home", str(fleet.path.parent), "--fleet", fleet.running.fleet]
    command = Path(sys.executable).parent / "argosy"
    process = await asyncio.create_subprocess_exec(
        str(command),
        "kv",
        *words,
        *where,
        "--json",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(os.environ),
    )
    said, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    return json.loads(said)


async def holds(fleet: Any, eventually: Any, blocks: int) -> None:
    """Return once the store says that it has so many blocks in memory."""
    async with fleet.hears(events_pb2.StoreReported) as heard:
        await eventually(lambda: heard and heard[-1].tiers[0].blocks >= blocks)


async def blocks_of(fleet: Any, eventually: Any) -> int:
    """In memory, as the store says."""
    async with fleet.hears(events_pb2.StoreReported) as heard:
        await eventually(lambda: heard)
    return int(heard[-1].tiers[0].blocks)


async def test_a_turn_that_lands_elsewhere_finds_the_turn_before_it_in_the_store(
    stored_fleet: Any, lone_fleet: Any, eventually: Any
) -> None:
    async def finds_it() -> bool:
        """Loads that take longer than computing would are cut short: on a busy machine, some."""
        await eventually(stored_fleet.is_whole, 60)
        text = prompt()
        before = await blocks_of(stored_fleet, eventually)
        first = await ask(stored_fleet, text)
        assert first.usage.cached_tokens == 0
        assert first.text == (await ask(lone_fleet, text)).text
        await holds(stored_fleet, eventually, before + PROMPT_BLOCKS)
        found = []
        for name in ("decode-0", "decode-1"):
            # Killed one after the other: each comes back with nothing of its own.
            await stored_fleet.kill(name)
            again = await ask(stored_fleet, text + first.text + " and then?")
            plain = await ask(lone_fleet, text + first.text + " and then?")
            assert again.text == plain.text
            found.append(again.usage.cached_tokens >= PROMPT_BLOCKS * BLOCK_TOKENS)
            await eventually(stored_fleet.is_whole, 60)
        return all(found)

    await eventually(finds_it, 120)


async def test_requests_go_on_when_the_store_is_killed_and_it_serves_again(
    stored_fleet: Any, eventually: Any
) -> None:
    await eventually(stored_fleet.is_whole, 60)
    old = (await stored_fleet.processes())["kvstore-0"].pid
    killed = asyncio.Event()
    texts = [prompt() for _ in range(AT_ONCE)]

    async def converse(text: str) -> None:
        for turn in itertools.count():
            answer = await ask(stored_fleet, text)
            assert answer.text
            text += answer.text
            if turn == ROUNDS // 2:
                killed.set()
            if turn >= ROUNDS:
                return

    async def kill() -> None:
        await killed.wait()
        await stored_fleet.kill("kvstore-0")

    await asyncio.gather(kill(), *(converse(text) for text in texts))

    async def is_back() -> bool:
        process = (await stored_fleet.processes())["kvstore-0"]
        return bool(process.state == "running" and process.pid != old)

    await eventually(is_back, 60)
    text = ""

    async def is_stored() -> bool:
        """Instances may still be resting from it, and offer what they have computed but once."""
        nonlocal text
        text = prompt()
        before = await blocks_of(stored_fleet, eventually)
        await ask(stored_fleet, text)
        return await blocks_of(stored_fleet, eventually) >= before + PROMPT_BLOCKS

    async def is_found() -> bool:
        await eventually(is_stored, 60)
        await stored_fleet.kill("decode-0")
        await stored_fleet.kill("decode-1")
        await eventually(stored_fleet.is_whole, 60)
        cached = (await ask(stored_fleet, text)).usage.cached_tokens
        return bool(cached >= PROMPT_BLOCKS * BLOCK_TOKENS)

    await eventually(is_found, 180)


async def test_people_can_look_into_the_store(stored_fleet: Any, eventually: Any) -> None:
    await eventually(stored_fleet.is_whole, 60)
    text = prompt()
    before = await blocks_of(stored_fleet, eventually)
    first = await ask(stored_fleet, text)
    await holds(stored_fleet, eventually, before + PROMPT_BLOCKS)
    for name in ("decode-0", "decode-1"):
        # So that the store is asked for it.
        await stored_fleet.kill(name)
        await ask(stored_fleet, text + first.text)
    (stats,) = await argosy_kv(stored_fleet, "stats")
    assert stats["store_id"] == "kvstore-0"
    assert [tier["tier"] for tier in stats["tiers"]] == ["TIER_DRAM", "TIER_SSD"]
    assert stats["ssd_trouble"] == ""
    written = await argosy_kv(stored_fleet, "flush")
    (stats,) = await argosy_kv(stored_fleet, "stats")
    assert stats["tiers"][1]["blocks"] >= written["kvstore-0"]["written_blocks"]
    assert stats["tiers"][1]["blocks"] >= PROMPT_BLOCKS
    checked = (await argosy_kv(stored_fleet, "verify"))["kvstore-0"]
    assert checked["checked_blocks"] == checked["total_blocks"] >= PROMPT_BLOCKS
    assert checked["corrupt_blocks"] == 0
    top = await argosy_kv(stored_fleet, "top", "-n", "3")
    assert 0 < len(top) <= 3
    assert top[0]["tokens"] >= PROMPT_BLOCKS * BLOCK_TOKENS
    assert top == sorted(top, key=lambda prefix: -prefix["asked"])
    dropped = await argosy_kv(stored_fleet, "flush", "--drop")
    assert dropped["kvstore-0"]["dropped_blocks"] >= PROMPT_BLOCKS
    assert await blocks_of(stored_fleet, eventually) == 0
