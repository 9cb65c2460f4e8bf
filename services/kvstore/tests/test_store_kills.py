"""kill -9 at any moment: what was acknowledged is found again, and nothing is found wrong."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from argosy.domain.kv_blocks import block_checksum
from argosy.kvstore.core.effects import Move
from argosy.kvstore.core.slots import PAGE_BYTES
from argosy.kvstore.shell.segments import Segments
from argosy.mesh.rpc import call
from argosy.transfer.bytes_plane import BytesPlane
from argosy.transfer.memory import Memory
from argosy.wire.kvstore.v1 import kvstore_pb2

KILLS, SERVICE_KILLS = 200, 5
LONGEST_S = 0.06
"""From the first acknowledged batch to the kill."""
BLOCK_BYTES, SLOT_BYTES = 20_000, 24_576
SLOTS, SEGMENTS, BATCH = 8, 2, 4
SEGMENT_BYTES = SLOTS * SLOT_BYTES
PATIENCE_S = 20

WRITERS = f"""
import asyncio, os, signal, sys
from pathlib import Path
from random import Random
import nixl._api
from argosy.kvstore.core.effects import Move
from argosy.kvstore.shell.segments import Segments
from argosy.domain.kv_blocks import block_checksum
from argosy.transfer.bytes_plane import BytesPlane
from argosy.transfer.memory import Memory

class Disk(BytesPlane):
    # Its part for files: starting the other would take most of the test's time.
    def _agents(self):
        return [self._disk]

    async def _refresh_metadata(self):
        pass

async def write(folder, seed, out):
    memory = Memory({BATCH} * {BLOCK_BYTES})
    plane = Disk("writer", files=True)
    await plane.register(memory)
    segments = Segments(Path(folder), {SEGMENT_BYTES}, {SEGMENTS}, plane, memory)
    segments.scan()
    random = Random(seed)
    number = seed * 1_000_000
    while True:
        moves = []
        for place, slot in enumerate(random.sample(range({SLOTS} * {SEGMENTS}), {BATCH})):
            number += 1
            key, data = number.to_bytes(16, "little"), Random(number).randbytes({BLOCK_BYTES})
            at = place * {BLOCK_BYTES}
            memory.view[at : at + {BLOCK_BYTES}] = data
            offset = slot // {SLOTS} * {SEGMENT_BYTES} + slot % {SLOTS} * {SLOT_BYTES}
            moves.append(
                Move(key, b"", number, 4, {BLOCK_BYTES}, block_checksum(key, data), at, offset)
            )
        names = " ".join(f"{{int.from_bytes(m.key, 'little')}}:{{m.ssd_offset}}" for m in moves)
        os.write(out, f"+ {{names}}\\n".encode())
        await segments.write(moves, {SLOT_BYTES})
        os.write(out, f"= {{names}}\\n".encode())

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    folder, seed, pipe = line.split()
    out = os.open(pipe, os.O_WRONLY)
    if (pid := os.fork()) == 0:
        os.dup2(2, 1)
        asyncio.run(write(folder, int(seed), out))
    os.close(out)
    print(pid, flush=True)
"""
"""Forks writers that write batches for ever: `+` before each, `=` when it is on SSD."""


class Writers:
    """Each is killed before the next begins."""

    def __init__(self, pipe: Path) -> None:
        self.pipe = pipe
        os.mkfifo(pipe)
        self.parent = subprocess.Popen(
            [sys.executable, "-c", WRITERS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run_until_killed(self, folder: Path, seed: int, for_s: float) -> list[str]:
        """What the writer said, line by line."""
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        self.parent.stdin.write(f"{folder} {seed} {self.pipe}\n")
        self.parent.stdin.flush()
        with self.pipe.open("rb", buffering=0) as said:
            pid = int(next(line for line in self.parent.stdout if line.strip().isdigit()))
            heard = b""
            while b"\n=" not in heard:
                more = said.read(4096)
                assert more, "the writer died by itself"
                heard += more
            until_s = time.monotonic() + for_s
            while time.monotonic() < until_s:  # A moment of its own for each kill.
                pass
            os.kill(pid, signal.SIGKILL)
            while more := said.read(1 << 16):
                heard += more
        return heard.decode().splitlines()


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory: a process that is killed leaves there what it would leave on a disk."""
    with TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name) / "kv"


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[Writers]:
    writers = Writers(tmp_path / "said")
    yield writers
    writers.parent.kill()
    writers.parent.communicate()


def pairs(line: str) -> dict[int, int]:
    """Slot -> block, of a batch."""
    return {int(at): int(block) for block, at in (p.split(":") for p in line[2:].split())}


def test_two_hundred_kills_tear_nothing_and_lose_nothing_acknowledged(
    writers: Writers, folder: Path
) -> None:
    memory, plane, random = Memory(PAGE_BYTES), BytesPlane("none"), Random(0)
    held: dict[int, int] = {}
    midway = 0
    for seed in range(1, KILLS + 1):
        lines = writers.run_until_killed(folder, seed, random.uniform(0, LONGEST_S))
        begun: dict[int, int] = {}
        for line in lines:
            if line.startswith("+"):
                begun = pairs(line)
            else:
                held |= pairs(line)
                begun = {}
        midway += bool(begun)
        segments = Segments(folder, SEGMENT_BYTES, SEGMENTS, plane, memory)
        found = {}
        for block in segments.scan()[1]:
            number = int.from_bytes(block.key, "little")
            data = Random(number).randbytes(BLOCK_BYTES)
            assert (block.hash, block.block_bytes) == (number, BLOCK_BYTES)
            assert block.checksum == block_checksum(block.key, data)
            move = Move(block.key, b"", number, 4, BLOCK_BYTES, block.checksum, 0, block.offset)
            assert segments.check(move), f"block {number} is found, but torn"
            found[block.offset] = number
        segments.close()
        for offset, number in held.items():
            assert offset in begun or found[offset] == number, f"kill {seed}: {number} is lost"
        for offset, number in found.items():
            allowed = {held.get(offset), begun.get(offset)}
            assert number in allowed, f"kill {seed}: {number} was replaced long ago"
        held = found
    memory.close()
    assert midway > KILLS // 4, "hardly a kill came while something was written"


async def test_a_killed_store_serves_again_all_that_it_said_is_on_ssd(
    store_process: Any,
    launch: Any,
    listen: Any,
    dial: Any,
    tokens: Any,
    stats: Any,
    eventually: Any,
) -> None:
    fleet = store_process.fleet()
    heard = await listen(fleet)
    instance = await launch(fleet)
    random = Random(3)
    prompts: list[list[int]] = []
    acknowledged = 0
    for number in range(SERVICE_KILLS):
        heard.begin_anew()
        await instance.sees(store := store_process.begin(fleet, ssd_bytes=32 << 20))
        count = (await stats(dial(store))).counts.recovered_blocks
        assert count >= acknowledged
        await eventually(lambda count=count: len(heard.blocks[1]) == count)
        for prompt in prompts:
            blocks = [h in heard.blocks[1] for h in instance.chain(prompt).hashes]
            there = sum(itertools.takewhile(bool, blocks))
            assert await instance.load(prompt) == there
        new = [tokens(1000 * number + n, 20) for n in range(10)]
        prompts += new
        for prompt in new[:5]:
            await eventually(lambda prompt=prompt: saved(instance, prompt))
        await call(dial(store).Flush, kvstore_pb2.FlushRequest(), timeout_s=PATIENCE_S)
        for prompt in new[5:]:
            await eventually(lambda prompt=prompt: saved(instance, prompt))
            await instance.load(prompt)  # Asked for again: it is written to SSD.
        wanted = min(len(heard.blocks[1]) + random.randrange(30), 100 * (number + 1))
        await eventually(lambda wanted=wanted: len(heard.blocks[1]) >= wanted)
        store.end()
        acknowledged = len(heard.blocks[1])
    assert acknowledged >= 100 * SERVICE_KILLS


async def saved(instance: Any, prompt: list[int]) -> bool:
    """On a busy machine a store may be left out for a moment: what is staged then is dropped."""
    await instance.save(prompt)
    return bool(await instance.load(prompt) == 20)
