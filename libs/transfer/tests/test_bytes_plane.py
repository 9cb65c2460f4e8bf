"""The bytes plane over real NIXL, with real processes at the other end."""

import asyncio
import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from signals import send_signal

from argosy.transfer import bytes_plane as bytes_plane_module
from argosy.transfer.bytes_plane import BytesPlane, Memory, TransferFailed

SHARED_MEMORY = "tcp,sm,self"
NETWORK = "tcp,self"
ARENA_BYTES = 32 << 20
BLOCK_BYTES = 1_500_000
PATIENCE_S = 10
HASTE_S = 0.05

STORES = f"""
import asyncio, json, os, signal, sys
import nixl._api
from argosy.transfer.bytes_plane import BytesPlane, Memory

async def hold():
    plane, memory = BytesPlane("store"), Memory({ARENA_BYTES})
    await plane.register(memory)
    print(json.dumps([plane.metadata().hex(), memory.address, os.getpid()]), flush=True)
    await asyncio.Event().wait()

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    if os.fork() == 0:
        os.environ["UCX_TLS"] = line.strip()
        asyncio.run(hold())
"""


class BytesStore:
    """A process that holds an arena and does nothing with it."""

    def __init__(self, answer: str) -> None:
        metadata, self.address, self.pid = json.loads(answer)
        self.metadata = bytes.fromhex(metadata)

    def signal(self, number: int) -> None:
        send_signal(self.pid, number)

    def kill(self) -> None:
        """Returns once it is gone."""
        with contextlib.suppress(ProcessLookupError):
            process = os.pidfd_open(self.pid)
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [], PATIENCE_S)
            os.close(process)


StartStore = Callable[[str], BytesStore]


@pytest.fixture(scope="module")
def start_store() -> Iterator[StartStore]:
    """Starts processes quickly: they are forked from one that has imported NIXL."""
    started: list[BytesStore] = []
    parent = subprocess.Popen(
        [sys.executable, "-c", STORES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdin is not None
    assert parent.stdout is not None

    def start(transports: str) -> BytesStore:
        parent.stdin.write(transports + "\n")
        parent.stdin.flush()
        store = BytesStore(next(line for line in parent.stdout if line.startswith("[")))
        started.append(store)
        return store

    yield start
    parent.kill()
    for store in started:
        store.kill()
    parent.communicate()


@pytest.fixture(params=[SHARED_MEMORY, NETWORK])
def transports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("UCX_TLS", request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def stores(start_store: StartStore) -> dict[str, BytesStore]:
    """One per way to reach it, for tests that leave it alive."""
    return {transports: start_store(transports) for transports in (SHARED_MEMORY, NETWORK)}


@pytest.fixture
def store(stores: dict[str, BytesStore], transports: str) -> BytesStore:
    return stores[transports]


@pytest.fixture
def mortal(start_store: StartStore, transports: str) -> Iterator[BytesStore]:
    """A store that the test may kill or stop."""
    store = start_store(transports)
    yield store
    store.kill()


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory(ARENA_BYTES)
    yield memory
    memory.close()


@pytest.fixture
async def plane(memory: Memory, transports: str) -> AsyncIterator[BytesPlane]:
    plane = BytesPlane("client", passive=False)
    await plane.register(memory)
    yield plane
    await plane.close()


@pytest.fixture
async def disk(memory: Memory) -> AsyncIterator[BytesPlane]:
    plane = BytesPlane("client", files=True)
    await plane.register(memory)
    yield plane
    await plane.close()


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "segment", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


only_over_the_network = pytest.mark.parametrize("transports", [NETWORK], indirect=True)


@pytest.mark.parametrize("size_bytes", [4096, BLOCK_BYTES, 8 << 20])
async def test_bytes_arrive_intact_both_ways(
    plane: BytesPlane, memory: Memory, store: BytesStore, size_bytes: int
) -> None:
    peer = await plane.add_peer(store.metadata)
    sent = os.urandom(size_bytes)
    memory.view[:size_bytes] = sent
    await plane.write(peer, [(memory.address, store.address + 4096, size_bytes)], PATIENCE_S)
    elsewhere = memory.address + (16 << 20)
    await plane.read(peer, [(elsewhere, store.address + 4096, size_bytes)], PATIENCE_S)
    assert memory.view[16 << 20 : (16 << 20) + size_bytes] == sent


async def test_pieces_keep_their_places(
    plane: BytesPlane, memory: Memory, store: BytesStore
) -> None:
    peer = await plane.add_peer(store.metadata)
    blocks = 10
    for index in range(blocks):
        memory.view[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES] = os.urandom(BLOCK_BYTES)
    sent = bytes(memory.view[: blocks * BLOCK_BYTES])
    backwards = [
        (memory.address + i * BLOCK_BYTES, store.address + (blocks - 1 - i) * BLOCK_BYTES)
        for i in range(blocks)
    ]
    pieces = [(ours, theirs, BLOCK_BYTES) for ours, theirs in backwards]
    await plane.write(peer, pieces, PATIENCE_S)
    memory.view[:] = bytes(ARENA_BYTES)
    await plane.read(peer, pieces, PATIENCE_S)
    assert memory.view[: blocks * BLOCK_BYTES] == sent


async def test_more_transfers_than_allowed_at_once_take_turns(
    plane: BytesPlane, memory: Memory, store: BytesStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytes_plane_module, "MAX_TRANSFERS", 2)
    peer = await plane.add_peer(store.metadata)
    memory.view[:] = sent = os.urandom(ARENA_BYTES)
    step = 1 << 20
    pieces = [
        (memory.address + place, store.address + place, step)
        for place in range(0, ARENA_BYTES, step)
    ]
    await asyncio.gather(*(plane.write(peer, [piece], PATIENCE_S) for piece in pieces))
    memory.view[:] = bytes(ARENA_BYTES)
    await asyncio.gather(*(plane.read(peer, [piece], PATIENCE_S) for piece in pieces))
    assert memory.view == sent


async def test_a_killed_peer_fails_its_transfers_and_no_others(
    plane: BytesPlane, memory: Memory, store: BytesStore, mortal: BytesStore
) -> None:
    dead, alive = await plane.add_peer(mortal.metadata), await plane.add_peer(store.metadata)
    whole = [(memory.address, mortal.address, ARENA_BYTES)]
    await plane.read(dead, whole, PATIENCE_S)

    async def read_for_ever() -> None:
        while True:
            await plane.read(dead, whole, PATIENCE_S)

    reading = asyncio.create_task(read_for_ever())
    await asyncio.sleep(0)
    mortal.kill()
    with pytest.raises(TransferFailed, match=dead) as failed:
        await asyncio.wait_for(reading, PATIENCE_S)
    assert not failed.value.still_running
    with pytest.raises(TransferFailed):
        await plane.write(dead, whole, PATIENCE_S)
    await plane.read(alive, [(memory.address, store.address, BLOCK_BYTES)], PATIENCE_S)


async def test_a_restarted_peer_is_reached_by_its_new_metadata(
    plane: BytesPlane, memory: Memory, mortal: BytesStore, start_store: StartStore, transports: str
) -> None:
    before = await plane.add_peer(mortal.metadata)
    await plane.read(before, [(memory.address, mortal.address, BLOCK_BYTES)], PATIENCE_S)
    mortal.kill()
    again = start_store(transports)
    with pytest.raises(TransferFailed):
        await plane.read(before, [(memory.address, mortal.address, BLOCK_BYTES)], PATIENCE_S)
    after = await plane.add_peer(again.metadata)
    assert after != before
    await plane.read(after, [(memory.address, again.address, BLOCK_BYTES)], PATIENCE_S)
    await plane.forget_peer(before)
    await plane.read(after, [(memory.address, again.address, BLOCK_BYTES)], PATIENCE_S)


async def test_metadata_of_the_dead_or_of_nobody_is_refused(
    plane: BytesPlane, mortal: BytesStore
) -> None:
    mortal.kill()
    for metadata in (mortal.metadata, b"nonsense"):
        with pytest.raises(TransferFailed, match="metadata"):
            await plane.add_peer(metadata)


@only_over_the_network
async def test_after_a_timeout_memory_settles_only_when_its_bytes_have_come(
    plane: BytesPlane, memory: Memory, mortal: BytesStore
) -> None:
    peer = await plane.add_peer(mortal.metadata)
    piece = (memory.address, mortal.address, BLOCK_BYTES)
    await plane.read(peer, [piece], PATIENCE_S)
    memory.view[:BLOCK_BYTES] = b"\xff" * BLOCK_BYTES
    mortal.signal(signal.SIGSTOP)
    with pytest.raises(TransferFailed) as failed:
        await plane.read(peer, [piece], HASTE_S)
    assert failed.value.still_running
    with pytest.raises(TransferFailed, match="in use"):
        await plane.withdraw(memory)
    mortal.signal(signal.SIGCONT)
    assert failed.value.settled is not None
    await asyncio.wait_for(failed.value.settled, PATIENCE_S)
    assert not failed.value.still_running
    assert memory.view[:BLOCK_BYTES] == bytes(BLOCK_BYTES)


@only_over_the_network
async def test_a_cancelled_transfer_ends_when_its_memory_is_at_rest(
    plane: BytesPlane, memory: Memory, mortal: BytesStore
) -> None:
    peer = await plane.add_peer(mortal.metadata)
    piece = (memory.address, mortal.address, BLOCK_BYTES)
    await plane.read(peer, [piece], PATIENCE_S)
    mortal.signal(signal.SIGSTOP)
    reading = asyncio.create_task(plane.read(peer, [piece], PATIENCE_S))
    assert not (await asyncio.wait({reading}, timeout=HASTE_S))[0]
    reading.cancel()
    assert not (await asyncio.wait({reading}, timeout=HASTE_S))[0]
    mortal.signal(signal.SIGCONT)
    with pytest.raises(asyncio.CancelledError):
        await reading


@only_over_the_network
async def test_closing_settles_what_is_under_way(
    plane: BytesPlane, memory: Memory, mortal: BytesStore
) -> None:
    peer = await plane.add_peer(mortal.metadata)
    piece = (memory.address, mortal.address, BLOCK_BYTES)
    await plane.read(peer, [piece], PATIENCE_S)
    mortal.signal(signal.SIGSTOP)
    with pytest.raises(TransferFailed) as failed:
        await plane.read(peer, [piece], HASTE_S)
    await plane.close()
    assert failed.value.settled is not None
    await asyncio.wait_for(failed.value.settled, PATIENCE_S)
    with pytest.raises(TransferFailed, match="closed"):
        await plane.read(peer, [piece], PATIENCE_S)


async def test_metadata_covers_what_was_registered_last(transports: str, memory: Memory) -> None:
    ours, theirs = BytesPlane("ours"), BytesPlane("theirs")
    later = Memory(BLOCK_BYTES)
    later.view[:5] = b"later"
    try:
        await asyncio.gather(ours.register(memory), theirs.start())
        peer = await ours.add_peer(theirs.metadata())
        with pytest.raises(TransferFailed):
            await ours.read(peer, [(memory.address, later.address, 4096)], PATIENCE_S)
        await theirs.register(later)
        assert await ours.add_peer(theirs.metadata()) == peer
        await ours.read(peer, [(memory.address, later.address, 4096)], PATIENCE_S)
        assert memory.view[:5] == b"later"
        await ours.withdraw(memory)
        with pytest.raises(TransferFailed):
            await ours.read(peer, [(memory.address, later.address, 4096)], PATIENCE_S)
    finally:
        await asyncio.gather(ours.close(), theirs.close())
        later.close()


def test_names_never_repeat() -> None:
    assert BytesPlane("store").name != BytesPlane("store").name


async def test_what_is_written_to_a_file_is_read_back(
    disk: BytesPlane, memory: Memory, fd: int
) -> None:
    blocks = 10
    length = blocks * BLOCK_BYTES
    memory.view[:length] = sent = os.urandom(length)
    pieces = [
        (memory.address + i * BLOCK_BYTES, (blocks - i) * BLOCK_BYTES, BLOCK_BYTES)
        for i in range(blocks)
    ]
    await disk.write_file(fd, pieces, PATIENCE_S)
    assert os.pread(fd, BLOCK_BYTES, blocks * BLOCK_BYTES) == sent[:BLOCK_BYTES]
    memory.view[:length] = bytes(length)
    await asyncio.gather(*(disk.read_file(fd, [piece], PATIENCE_S) for piece in pieces))
    assert memory.view[:length] == sent


async def test_a_truncated_file_fails_and_harms_no_other(
    disk: BytesPlane, memory: Memory, fd: int
) -> None:
    whole = [(memory.address, 0, 2 * BLOCK_BYTES)]
    await disk.write_file(fd, whole, PATIENCE_S)
    os.ftruncate(fd, BLOCK_BYTES + 1)
    with pytest.raises(TransferFailed, match="too short"):
        await disk.read_file(fd, whole, PATIENCE_S)
    await disk.read_file(fd, [(memory.address, 0, BLOCK_BYTES)], PATIENCE_S)


async def test_a_full_disk_fails_and_harms_no_other(
    disk: BytesPlane, memory: Memory, fd: int
) -> None:
    limit_bytes = 64 << 20  # no file that pytest writes comes near
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        for offset in (limit_bytes - 4096, limit_bytes):  # a short write, then none at all
            with pytest.raises(TransferFailed, match="disk full"):
                await disk.write_file(fd, [(memory.address, offset, BLOCK_BYTES)], PATIENCE_S)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await disk.write_file(fd, [(memory.address, 0, BLOCK_BYTES)], PATIENCE_S)


async def test_a_descriptor_that_is_no_file_fails(
    disk: BytesPlane, memory: Memory, tmp_path: Path, fd: int
) -> None:
    closed = os.dup(fd)
    os.close(closed)
    with pytest.raises(TransferFailed, match="descriptor"):
        await disk.write_file(closed, [(memory.address, 0, 4096)], PATIENCE_S)
    await disk.write_file(fd, [(memory.address, 0, 4096)], PATIENCE_S)


async def test_a_plane_without_files_says_so(plane: BytesPlane, memory: Memory, fd: int) -> None:
    with pytest.raises(TransferFailed, match="files=True"):
        await plane.read_file(fd, [(memory.address, 0, 4096)], PATIENCE_S)


def test_memory_at_a_path_is_shared(tmp_path: Path) -> None:
    one, other = Memory(5000, tmp_path / "staging"), Memory(5000, tmp_path / "staging")
    one.view[4096:4100] = b"here"
    assert other.view[4096:4100] == b"here"
    assert one.address % 4096 == 0
    assert one.size_bytes == 8192
    one.close()
    other.close()
