"""How quickly KV blocks go to a store and come back, against a bare NIXL copy and plain reads.

A real store process and the client that instances use. `put` and `get` are the rates at
which NIXL moves bytes within them, `put_call` and `get_call` those of whole calls: room or
lease asked for over gRPC, bytes moved, checksums made and checked. Each is measured in turn
with what it is compared to, in one run.
"""

import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from rich.table import Table

from argosy.bench.kv.bare_nixl_copy import BareCopy
from argosy.bench.processes import BenchFailed, BenchProcesses
from argosy.cli import console
from argosy.domain.errors import ArgosyError
from argosy.engine.api import Staged
from argosy.instance.kv_store.load import KvLoad
from argosy.instance.kv_store.store import KvStoreClient, StagingWindow
from argosy.launcher.nats_process import nats_command
from argosy.mesh.ports import free_port
from argosy.mesh.rpc import Channels, call
from argosy.transfer.bytes_plane import BytesPlane, Piece
from argosy.transfer.memory import Memory
from argosy.wire.kvstore.v1 import kvstore_pb2
from argosy.wire.kvstore.v1.kvstore_pb2_grpc import KvStoreStub

BLOCK_BYTES = 1_474_560
"""32 tokens of SmolLM2-135M in float32."""
BATCHES = (8, 32)
CHAIN_BLOCKS = 64
PAGE_BYTES = 4096
DRAM_BYTES, SSD_BYTES = 192 << 20, 2 << 30
BUDGET_S = 30.0


class TimedPlane(BytesPlane):
    """A bytes plane that knows how long it was moving bytes."""

    moving_s = 0.0

    async def read(self, peer: str, pieces: list[Piece], timeout_s: float) -> None:
        """As ever."""
        began = time.perf_counter()
        await super().read(peer, pieces, timeout_s)
        self.moving_s += time.perf_counter() - began

    async def write(self, peer: str, pieces: list[Piece], timeout_s: float) -> None:
        """As ever."""
        began = time.perf_counter()
        await super().write(peer, pieces, timeout_s)
        self.moving_s += time.perf_counter() - began


class TransferClient:
    """An instance's client of one store, with staging memory of CHAIN_BLOCKS slots."""

    def __init__(self, plane: TimedPlane, channels: Channels, address: str) -> None:
        self.plane = plane
        self.memory = Memory(CHAIN_BLOCKS * BLOCK_BYTES)
        self.window = StagingWindow(self.memory, BLOCK_BYTES)
        self.stub = KvStoreStub(channels.get(address))
        self._freed: asyncio.Queue[list[int]] = asyncio.Queue()
        self.store = KvStoreClient(
            "bench", "", address, channels, plane, self.window, self._freed.put_nowait
        )

    async def put(self, keys: list[bytes]) -> float:
        """Store a chain of new blocks; seconds."""
        began = time.perf_counter()
        for slot, key in enumerate(keys):
            parent = keys[slot - 1] if slot else b""
            self.store.save(Staged(slot, key, parent, keys[0], slot, 32))
        left = len(keys)
        while left:
            left -= len(await self._freed.get())
        return time.perf_counter() - began

    def moved_s(self) -> float:
        """Seconds that bytes were moving since this was last asked."""
        moving_s, self.plane.moving_s = self.plane.moving_s, 0.0
        return moving_s

    async def drop(self) -> None:
        """Forget all that is stored."""
        await call(self.stub.Flush, kvstore_pb2.FlushRequest(drop=True), timeout_s=BUDGET_S)

    async def get(self, keys: list[bytes]) -> float:
        """Load a chain that is stored; seconds. Raises BenchFailed for less than all of it."""
        began = time.perf_counter()
        until_s = asyncio.get_running_loop().time() + BUDGET_S
        load = KvLoad([], keys, list(range(len(keys))), until_s)
        await self.store.load(load)
        took_s = time.perf_counter() - began
        if load.blocks < len(keys):
            raise BenchFailed(f"only {load.blocks} of {len(keys)} blocks came from the store")
        return took_s


async def run_kv_transfer(rounds: int, seed: int, *, as_json: bool) -> None:
    """Measure all, and report."""
    chance = random.Random(seed)  # noqa: S311 - names and bytes, not secrets
    with tempfile.TemporaryDirectory(prefix="argosy-bench-") as folder:
        processes = BenchProcesses(Path(folder))
        try:
            report: dict[str, Any] = {"block_bytes": BLOCK_BYTES}
            async with client_of(processes, "memory", seed) as client:
                bare = await bare_copy(processes, client.memory)
                report |= await measure_dram(client, bare, rounds, chance)
                report["one_block_get_ms"] = await measure_one(client, 10 * rounds, chance)
                processes.end("bare", "memory")
            ssd = Path(folder) / "kv"
            tier = {"ssd_dir": str(ssd), "ssd_bytes": str(SSD_BYTES)}
            async with client_of(processes, "ssd", seed, **tier) as client:
                report["ssd"] = await measure_ssd(client, ssd / "ssd", chance)
        finally:
            processes.end()
    if as_json:
        print(json.dumps(report))
    else:
        show(report)


@asynccontextmanager
async def client_of(
    processes: BenchProcesses, name: str, seed: int, **settings: str
) -> AsyncIterator[TransferClient]:
    """A store process, and a client that has reached it."""
    listen = f"127.0.0.1:{free_port()}"
    if "nats" not in processes.processes:
        port = free_port()
        processes.nats = f"nats://127.0.0.1:{port}"
        processes.start("nats", *nats_command(port, processes.folder / "nats"))
    processes.start_service("kvstore", name, listen=listen, dram_bytes=str(DRAM_BYTES), **settings)
    channels, plane = Channels(), TimedPlane("bench", host="127.0.0.1", passive=False)
    await until_ready(KvStoreStub(channels.get(listen)))
    client = TransferClient(plane, channels, listen)
    noise = np.random.default_rng(seed).integers(0, 256, client.memory.size_bytes)
    client.memory.view[:] = noise.astype(np.uint8).tobytes()
    try:
        await plane.register(client.memory)
        await client.store.greeted
        yield client
    finally:
        await client.store.stop()
        await plane.close()
        await channels.close()


async def until_ready(stub: KvStoreStub) -> None:
    """Return when the store answers."""
    async with asyncio.timeout(BUDGET_S):
        while True:
            try:
                await call(stub.Describe, kvstore_pb2.DescribeRequest(), timeout_s=1)
                return
            except ArgosyError:
                await asyncio.sleep(0.05)


async def bare_copy(processes: BenchProcesses, memory: Memory) -> BareCopy:
    """Another process to copy to and from."""
    processes.start_module("bare", "argosy.bench.kv.bare_nixl_copy", str(memory.size_bytes))
    while not (line := await processes.line("bare")).startswith(b"bare "):
        pass  # NIXL has its say on stdout.
    _, metadata, address = line.split()
    return BareCopy(memory, bytes.fromhex(metadata.decode()), int(address))


async def measure_dram(
    client: TransferClient, bare: BareCopy, rounds: int, chance: random.Random
) -> dict[str, Any]:
    """Put and get of batches, each round beside a bare copy of as much."""
    report: dict[str, Any] = {}
    for blocks in BATCHES:
        names_of = ("put_call", "put", "get_call", "get", "bare_write", "bare_read")
        seconds: dict[str, list[float]] = {name: [] for name in names_of}
        for number in track(range(rounds), f"{blocks} blocks", console=console.err, transient=True):
            keys = names(chance, blocks)
            client.moved_s()
            put = await client.put(keys), client.moved_s()
            get = await client.get(keys), client.moved_s()
            await client.drop()
            copies = [bare.copy(way, BLOCK_BYTES, blocks) for way in ("WRITE", "READ")]
            if number:  # The first round connects.
                for name, took_s in zip(seconds, (*put, *get, *copies), strict=True):
                    seconds[name].append(took_s)
        speed = {
            name: blocks * BLOCK_BYTES / 1e9 / statistics.median(took) if took else 0.0
            for name, took in seconds.items()
        }
        report[f"{blocks}_blocks"] = {
            **{f"{name}_gb_per_s": round(found, 3) for name, found in speed.items()},
            "put_share": round(speed["put"] / speed["bare_write"], 3),
            "get_share": round(speed["get"] / speed["bare_read"], 3),
            "put_call_share": round(speed["put_call"] / speed["bare_write"], 3),
            "get_call_share": round(speed["get_call"] / speed["bare_read"], 3),
        }
    return report


async def measure_one(
    client: TransferClient, rounds: int, chance: random.Random
) -> dict[str, float]:
    """One block from memory, again and again."""
    keys = names(chance, 1)
    await client.put(keys)
    took = [1e3 * await client.get(keys) for _ in range(rounds)]
    return {
        "p50": round(float(np.percentile(took, 50)), 3),
        "p99": round(float(np.percentile(took, 99)), 3),
    }


async def measure_ssd(
    client: TransferClient, folder: Path, chance: random.Random
) -> dict[str, Any]:
    """Chains that are only on SSD, beside plain reads of as many blocks of the same files.

    Neither finds anything in the page cache.
    """
    chains = [
        names(chance, CHAIN_BLOCKS) for _ in range(SSD_BYTES // 2 // CHAIN_BLOCKS // BLOCK_BYTES)
    ]
    for keys in track(chains, "filling SSD", console=console.err, transient=True):
        await client.put(keys)
        await call(client.stub.Flush, kvstore_pb2.FlushRequest(), timeout_s=BUDGET_S)
    found: dict[str, list[float]] = {"get": [], "plain": []}
    for number, keys in enumerate(chains[:-2]):
        drop_cache(folder)
        found["get"].append(await client.get(keys))
        drop_cache(folder)
        plain = await asyncio.to_thread(read_plainly, folder, number * CHAIN_BLOCKS, client.memory)
        found["plain"].append(plain)
    size = CHAIN_BLOCKS * BLOCK_BYTES / 1e9
    get, plain = (size / statistics.median(found[name]) for name in ("get", "plain"))
    return {
        "get_gb_per_s": round(get, 3),
        "plain_gb_per_s": round(plain, 3),
        "get_share": round(get / plain, 3),
    }


def drop_cache(folder: Path) -> None:
    """Let the next reads come from the disk."""
    for path in folder.glob("*.kv"):
        file = os.open(path, os.O_RDONLY)
        os.fdatasync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def read_plainly(folder: Path, first: int, memory: Memory) -> float:
    """Read a chain's worth of slots, from the `first` on; seconds."""
    places: list[tuple[Path, int]] = []
    for path in sorted(folder.glob("*.kv")):
        slot_bytes = int(path.stem.rpartition("-")[2])
        starts = range(0, path.stat().st_size - slot_bytes + 1, slot_bytes)
        places += [(path, start + PAGE_BYTES) for start in starts]
    wanted = (places + places)[first % len(places) :][:CHAIN_BLOCKS]
    files = {path: os.open(path, os.O_RDONLY) for path, _ in wanted}
    began = time.perf_counter()
    for slot, (path, at) in enumerate(wanted):
        place = memory.view[slot * BLOCK_BYTES : (slot + 1) * BLOCK_BYTES]
        os.preadv(files[path], [place], at)
    took_s = time.perf_counter() - began
    for file in files.values():
        os.close(file)
    return took_s


def names(chance: random.Random, count: int) -> list[bytes]:
    """Keys nobody has used."""
    return [chance.randbytes(16) for _ in range(count)]


def show(report: dict[str, Any]) -> None:
    """The report as a table."""
    table = Table(box=None)
    for title in ("", "GB/s", "against", "share"):
        table.add_column(title, justify="right" if title else "left")
    for blocks in BATCHES:
        part = report[f"{blocks}_blocks"]
        for way, bare in (("put", "bare_write"), ("get", "bare_read")):
            for name, title in (
                (way, f"{way} of {blocks} blocks, NIXL"),
                (f"{way}_call", "  all of it"),
            ):
                table.add_row(
                    title,
                    f"{part[f'{name}_gb_per_s']:.2f}",
                    f"{part[f'{bare}_gb_per_s']:.2f}",
                    f"{part[f'{name}_share']:.0%}",
                )
    ssd = report["ssd"]
    table.add_row(
        "get from SSD",
        f"{ssd['get_gb_per_s']:.2f}",
        f"{ssd['plain_gb_per_s']:.2f}",
        f"{ssd['get_share']:.0%}",
    )
    console.out.print(table)
    one = report["one_block_get_ms"]
    console.out.print(f"one block from memory: p50 {one['p50']} ms, p99 {one['p99']} ms")
