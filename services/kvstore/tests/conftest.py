"""Real stores in processes of their own, and instances that use them, for the store's tests."""

import asyncio
import contextlib
import inspect
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from signals import send_signal

from argosy.engine.api import EngineInfo, EngineRequest, SamplingSpec, Staging
from argosy.engine.kv.chain import BlockNames
from argosy.engine.kv.revision import revision
from argosy.instance.kv_store import store as store_module
from argosy.instance.kv_store.link import StoreLink
from argosy.instance.kv_store.store import KvStoreClient
from argosy.instance.settings import InstanceSettings
from argosy.launcher.nats_process import NatsProcess, running_nats
from argosy.mesh import rpc
from argosy.mesh.bus import Bus
from argosy.mesh.service import Mesh
from argosy.transfer.memory import Memory
from argosy.wire.kvstore.v1 import events_pb2, kvstore_pb2
from argosy.wire.kvstore.v1.kvstore_pb2_grpc import KvStoreStub

PATIENCE_S = 20
POLL_S = 0.005
BLOCK_TOKENS = 4
BLOCK_BYTES = 4096
SLOTS = 256

STORES = """
import json, os, resource, signal, sys
import nixl._api
from argosy.kvstore.settings import KvstoreSettings
from argosy.kvstore.shell.service import KvStoreService
from argosy.mesh.service import run

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    asked = json.loads(line)
    if (pid := os.fork()) == 0:
        os.environ.update(asked["environment"])
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1), os.dup2(log, 2), os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if asked["file_bytes"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (asked["file_bytes"],) * 2)
        run(KvstoreSettings, KvStoreService)
    print(pid, flush=True)
"""
"""`python -m argosy.kvstore`, but forked from a process that has imported it: that is quick."""


async def poll_until(predicate: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
    """The predicate's first true value."""
    deadline = time.monotonic() + within_s
    while True:
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s} s: {inspect.getsource(predicate).strip()}")
        await asyncio.sleep(POLL_S)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Awaitable[Any]]:
    return poll_until


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsProcess]:
    with running_nats(tmp_path_factory.mktemp("nats")) as server:
        deadline = time.monotonic() + PATIENCE_S
        while not listens(server.port):
            assert time.monotonic() < deadline, "nats-server never listened"
            time.sleep(POLL_S)
        yield server


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class StoreProcess:
    """A store; `address` once it has said so on the bus."""

    name: str
    pid: int
    epoch: str
    folder: Path
    log: Path
    address: str = ""

    def send(self, number: int) -> None:
        send_signal(self.pid, number)

    def end(self, number: int = signal.SIGKILL) -> None:
        """Returns once it is gone."""
        with contextlib.suppress(ProcessLookupError):
            process = os.pidfd_open(self.pid)
            signal.pidfd_send_signal(process, signal.SIGCONT)
            signal.pidfd_send_signal(process, number)
            gone, _, _ = select.select([process], [], [], PATIENCE_S)
            os.close(process)
            assert gone, f"{self.name} did not end"

    def files(self) -> list[Path]:
        """Of its SSD tier."""
        return sorted((self.folder / self.name).glob("segment-*.kv"))


@dataclass
class StoreProcesses:
    """Starts stores, and ends them all."""

    nats: NatsProcess
    root: Path
    parent: "subprocess.Popen[str]"
    started: list[StoreProcess] = field(default_factory=list)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def fleet(self) -> str:
        """A name of one's own on the bus."""
        return f"f{next(self.numbers)}"

    def begin(
        self, fleet: str, name: str = "kvstore-0", *, file_bytes: int = 0, **given: Any
    ) -> StoreProcess:
        number = next(self.numbers)
        folder = self.root / f"ssd-{fleet}"
        settings = {
            "fleet": fleet,
            "instance_id": name,
            "epoch": f"e{number}",
            "nats_url": self.nats.url,
            "node": "n",
            "dram_bytes": 4 << 20,
            "ssd_dir": folder,
            "ssd_bytes": 16 << 20,
            "heartbeat_s": 0.1,
            **given,
        }
        environment = {
            f"ARGOSY_KVSTORE_{key.upper()}": str(value)
            for key, value in settings.items()
            if value is not None
        }
        log = self.root / f"{name}-{number}.log"
        asked = {"environment": environment, "log": str(log), "file_bytes": file_bytes}
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        self.parent.stdin.write(json.dumps(asked) + "\n")
        self.parent.stdin.flush()
        pid = int(next(line for line in self.parent.stdout if line.strip().isdigit()))
        store = StoreProcess(name, pid, f"e{number}", folder, log)
        self.started.append(store)
        return store


@pytest.fixture(scope="session")
def parent_store_process(
    nats: NatsProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StoreProcesses]:
    parent = subprocess.Popen(
        [sys.executable, "-c", STORES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    store_process = StoreProcesses(nats, tmp_path_factory.mktemp("stores"), parent)
    yield store_process
    parent.kill()
    parent.communicate()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy with other tests a store may take longer than callers wait."""
    monkeypatch.setattr(store_module, "LOOKUP_S", 3.0)


@pytest.fixture
def store_process(parent_store_process: StoreProcesses) -> Iterator[StoreProcesses]:
    """Where stores are started; they end with the test, since each costs others some time."""
    yield parent_store_process
    while parent_store_process.started:
        parent_store_process.started.pop().end()


class StoreClientProcess:
    """An instance's side of the store, with an engine of which only the staging memory is there."""

    def __init__(
        self, nats: NatsProcess, folder: Path, fleet: str, name: str, **given: Any
    ) -> None:
        settings = InstanceSettings(
            nats_url=nats.url,
            fleet=fleet,
            instance_id=name,
            node="n",
            block_tokens=BLOCK_TOKENS,
            **given,
        )
        self.mesh = Mesh(settings, "decode")
        path = folder / f"staging-{name}-{fleet}"
        self.staging = Memory(SLOTS * BLOCK_BYTES, path)
        info = EngineInfo(
            BLOCK_TOKENS,
            1000,
            10_000,
            16,
            staging=Staging(str(path), BLOCK_BYTES, SLOTS // 2, SLOTS),
        )
        self.free = list(range(SLOTS // 2, SLOTS))
        self.link = StoreLink(self.mesh, info, revision(settings), self.free.extend)
        self.requests = itertools.count()

    async def start(self) -> None:
        self.mesh.bus.start()
        await self.link.start()

    async def sees(self, *stores: StoreProcess) -> None:
        """Return once these, and no others, are used."""
        wanted = {store.name: store.epoch for store in stores}

        def known() -> bool:
            live = {name: store.epoch for name, store in self.link._live().items()}
            return live == wanted

        await poll_until(known)
        for store in stores:
            store.address = self.store(store.name).address

    def store(self, name: str = "kvstore-0") -> KvStoreClient:
        return self.link._stores[name]

    def chain(self, tokens: list[int], salt: str = "") -> BlockNames:
        settings = self.mesh.settings
        chain = BlockNames(settings.model, revision(settings), salt, BLOCK_TOKENS)
        chain.extend(tokens, len(tokens))
        return chain

    def stage(self, tokens: list[int], salt: str = "") -> None:
        """Offer all full blocks of `tokens`, as an engine that has computed them."""
        chain = self.chain(tokens, salt)
        staged = []
        for number, key in enumerate(chain.keys):
            slot = self.free.pop()
            self.staging.view[slot * BLOCK_BYTES : (slot + 1) * BLOCK_BYTES] = content(key)
            staged.append(chain.staged(number, slot))
        self.link.staged(staged)

    async def save(self, tokens: list[int], salt: str = "") -> None:
        """Stage, and wait until all slots are back."""
        self.stage(tokens, salt)
        await self.at_rest()

    async def at_rest(self) -> None:
        await poll_until(lambda: len(self.free) == SLOTS // 2)
        assert sorted(self.free) == list(range(SLOTS // 2, SLOTS)), "a slot was given back twice"

    async def load(self, tokens: list[int], salt: str = "", held: int = 0) -> int:
        """How many blocks of the prompt came; each must be what was saved. held: blocks here."""
        chain = self.chain(tokens, salt)
        asked = EngineRequest(f"r{next(self.requests)}", tokens, SamplingSpec(1), salt)
        request = await self.link.preload(asked, set(chain.hashes[:held]))
        preload = request.preload
        if preload is None:
            assert msgspec.structs.replace(request, stored_blocks=None) == asked
            return 0
        assert preload.first_block == held
        for number, slot in enumerate(preload.slots, held):
            got = self.staging.view[slot * BLOCK_BYTES : (slot + 1) * BLOCK_BYTES]
            assert got == content(chain.keys[number])
        self.link.loaded(preload.name)
        assert len(self.link._slots._free) == SLOTS // 2
        return len(preload.slots)

    async def ask(self, tokens: list[int], held: int) -> EngineRequest:
        """The request as the engine gets it; its preload is given back."""
        asked = EngineRequest(f"r{next(self.requests)}", tokens, SamplingSpec(1))
        request = await self.link.preload(asked, set(self.chain(tokens).hashes[:held]))
        if request.preload is not None:
            self.link.loaded(request.preload.name)
        return request

    async def stop(self) -> None:
        await self.link.stop()
        await self.mesh.close()
        self.staging.close()


def content(key: bytes) -> bytes:
    """A block's KV: of no other block."""
    return Random(key).randbytes(BLOCK_BYTES)


@pytest.fixture
async def launch(
    nats: NatsProcess, tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[StoreClientProcess]]]:
    """Launches instances; all are stopped when the test ends."""
    instances: list[StoreClientProcess] = []

    async def begin(fleet: str, name: str = "decode-0", **given: Any) -> StoreClientProcess:
        instances.append(StoreClientProcess(nats, tmp_path, fleet, name, **given))
        await instances[-1].start()
        return instances[-1]

    yield begin
    for instance in instances:
        await instance.stop()


@pytest.fixture
async def dial() -> AsyncIterator[Callable[[StoreProcess], Any]]:
    """Plain stubs, for what no instance would say."""
    channels = rpc.Channels()
    yield lambda store: KvStoreStub(channels.get(store.address))
    await channels.close()


@dataclass
class HeardFacts:
    """What a store told the mesh, replayed in its order: block hashes by tier."""

    blocks: tuple[set[int], set[int]] = field(default_factory=lambda: (set(), set()))
    sequence: int = 0
    waiting: dict[int, tuple[Any, bool]] = field(default_factory=dict)

    def begin_anew(self) -> None:
        """A store counts from its start."""
        self.blocks, self.sequence, self.waiting = (set(), set()), 0, {}

    def change(self, fact: Any, *, stored: bool) -> None:
        self.waiting[fact.change_sequence] = fact, stored
        while self.sequence + 1 in self.waiting:
            self.sequence += 1
            self.replay(*self.waiting.pop(self.sequence))

    def replay(self, fact: Any, stored: bool) -> None:
        here, told = self.blocks[fact.tier], set(fact.blocks)
        assert not (told & here if stored else told - here)
        if stored:
            here |= told
        else:
            here -= told


@pytest.fixture
async def listen(nats: NatsProcess) -> AsyncIterator[Callable[[str], Awaitable[HeardFacts]]]:
    """Listens to a fleet's store from now on."""
    buses: list[Bus] = []

    async def begin(fleet: str) -> HeardFacts:
        heard = HeardFacts()
        bus = Bus(nats.url, fleet, "listener")
        buses.append(bus)
        bus.listen(events_pb2.KvStored, lambda fact, _: heard.change(fact, stored=True))
        bus.listen(events_pb2.KvEvicted, lambda fact, _: heard.change(fact, stored=False))
        bus.start()
        await asyncio.wait_for(bus.connected.wait(), PATIENCE_S)
        assert bus._client is not None
        await bus._client.flush()
        return heard

    yield begin
    for bus in buses:
        await bus.close()


async def stats_of(stub: Any) -> kvstore_pb2.StatsReply:
    reply = await stub.Stats(kvstore_pb2.StatsRequest(), timeout=PATIENCE_S)
    assert isinstance(reply, kvstore_pb2.StatsReply)
    return reply


@pytest.fixture(scope="session")
def stats() -> Callable[[Any], Awaitable[kvstore_pb2.StatsReply]]:
    return stats_of


def some_tokens(seed: int, blocks: int) -> list[int]:
    """Of so many blocks, and the one token beyond that is always computed."""
    random = Random(seed)
    return [random.randrange(1 << 20) for _ in range(blocks * BLOCK_TOKENS + 1)]


@pytest.fixture(scope="session")
def tokens() -> Callable[[int, int], list[int]]:
    return some_tokens
