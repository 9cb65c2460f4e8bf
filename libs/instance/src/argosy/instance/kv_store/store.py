"""The client of one KV store: loads the blocks it has, saves new ones.

No failure reaches the caller: a load yields less, a save is dropped, the breaker opens.
Bounds: LOOKUP_S for the first answer, the caller's budget for a load, SAVE_S for a batch of
SAVE_BLOCKS; blocks that wait to be saved are in staging slots, which are few.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from argosy.domain.errors import ArgosyError
from argosy.domain.kv_blocks import block_checksum
from argosy.engine.api import Staged
from argosy.instance.kv_store.breaker import Breaker
from argosy.instance.kv_store.load import KvLoad
from argosy.mesh import rpc, telemetry
from argosy.mesh.rpc import Channels
from argosy.mesh.tasks import start_watched
from argosy.transfer.bytes_plane import BytesPlane, TransferFailed
from argosy.transfer.memory import Memory
from argosy.wire.kvstore.v1 import kvstore_pb2
from argosy.wire.kvstore.v1.kvstore_pb2_grpc import KvStoreStub

log = logging.getLogger(__name__)

LOOKUP_S = 0.25
"""A lookup takes about a millisecond; a store that takes this long would delay first tokens."""
SAVE_S = 5.0
WRITE_S = 3.0
"""Less than SAVE_S, so that a write that hangs is reported as one."""
FULL_S = 10.0
"""How long a full store is not offered what it lacks: evictions make room only slowly."""
SAVE_BLOCKS = 64
"""In one call: the round trips are shared, and the staging slots are free again soon."""
READ_BLOCKS = 8
"""In one transfer: checksums of these are checked while the next are on their way."""
FAILURES = (
    ArgosyError,
    TransferFailed,
    OSError,
    TimeoutError,
    grpc.aio.AioRpcError,
    asyncio.InvalidStateError,  # gRPC's word for writing to a call that is over.
)


@dataclass(frozen=True)
class StagingWindow:
    """Staging memory, as slots of one block."""

    memory: Memory
    slot_bytes: int

    def address(self, slot: int) -> int:
        """Where a slot begins."""
        return self.memory.address + slot * self.slot_bytes

    def bytes_of(self, slot: int) -> memoryview:
        """A slot's bytes."""
        return self.memory.view[slot * self.slot_bytes : (slot + 1) * self.slot_bytes]


class KvStoreClient:
    """See the module. `freed` is called with staging slots that a save needs no more."""

    def __init__(
        self,
        name: str,
        epoch: str,
        address: str,
        channels: Channels,
        plane: BytesPlane,
        window: StagingWindow,
        freed: Callable[[list[int]], None],
    ) -> None:
        self.name = name
        self.epoch = epoch
        self.address = address
        self.seen_s = 0.0
        self.full_until_s = 0.0
        """Until then, what it lacks is not offered again."""
        self._stub = channels.stub(KvStoreStub, address)
        self._plane = plane
        self._window = window
        self._freed = freed
        self._peer = ""
        self.breaker = Breaker(name, self._reach)
        self._saves: asyncio.Queue[Staged] = asyncio.Queue()
        self._saver = start_watched(self._save_all(), f"saving to the KV store {name}")
        self.greeted = start_watched(self._greet(), f"reaching the KV store {name}")
        """Done when the first attempt to reach it has ended, well or not."""

    async def load(self, load: KvLoad) -> None:
        """Bring the longest stored prefix of its keys into its slots."""
        try:
            whole = await self._load(load)
            if not whole:
                await self._suspect(load.keys[load.blocks])
        except Exception as error:  # noqa: BLE001 - no failure is the caller's
            load.settled = still_moving(error)
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, FAILURES):
            log.error("a defect in the client of the KV store %s", self.name, exc_info=error)
        if isinstance(error, TransferFailed):
            # The connection may be gone though the store is not: it is made anew.
            self._peer = ""
        self.breaker.fail(error)

    async def _load(self, load: KvLoad) -> bool:
        """False when a block was not what it should be."""
        await self._known()
        request = kvstore_pb2.GetRequest(
            keys=load.keys, block_bytes=self._window.slot_bytes, before=load.before
        )
        call = self._stub.Get(request, metadata=telemetry.inject())
        try:
            async with asyncio.timeout(LOOKUP_S):
                reply = await call.read()
            if reply is grpc.aio.EOF:
                raise ConnectionError(f"no answer: {await call.details()}")
            load.before_held = reply.before_held
            while reply is not grpc.aio.EOF:
                if not await self._take(list(reply.blocks), load):
                    return False
                if reply.last:
                    break
                async with asyncio.timeout_at(load.until_s):
                    reply = await call.read()
        finally:
            call.cancel()
        if load.blocks:
            self.breaker.succeed()
        return True

    async def _take(self, leased: list[kvstore_pb2.LeasedBlock], load: KvLoad) -> bool:
        """Read the next blocks and check them; False when one is not what it should be."""
        first = load.blocks
        wanted = list(zip(load.slots[first:], load.keys[first:], leased, strict=False))
        parts = [wanted[n : n + READ_BLOCKS] for n in range(0, len(wanted), READ_BLOCKS)]
        checking: asyncio.Future[bool] | None = None
        try:
            for part in parts:
                await self._read(part, load.until_s)
                # What came before is checked while the next is on its way.
                before, checking = checking, None
                if before is not None and not await before:
                    break
                checking = asyncio.ensure_future(self._check(part, load))
        finally:
            if checking is not None:
                await checking
        return load.blocks == first + len(wanted)

    async def _read(self, part: "Part", until_s: float) -> None:
        size = self._window.slot_bytes
        pieces = [(self._window.address(slot), block.address, size) for slot, _, block in part]
        left_s = until_s - asyncio.get_running_loop().time()
        await self._plane.read(self._peer, pieces, max(0.0, left_s))

    async def _suspect(self, key: bytes) -> None:
        log.warning("a block of the KV store %s is not what was stored: not used", self.name)
        request = kvstore_pb2.SuspectRequest(keys=[key])
        await rpc.call(self._stub.Suspect, request, timeout_s=LOOKUP_S)

    async def _check(self, part: "Part", load: KvLoad) -> bool:
        """Count what was stored just so; False when some of it was not."""

        def whole() -> int:
            for number, (slot, key, block) in enumerate(part):
                if block_checksum(key, self._window.bytes_of(slot)) != block.checksum:
                    return number
            return len(part)

        blocks = await asyncio.to_thread(whole)
        load.blocks += blocks
        return blocks == len(part)

    def save(self, block: Staged) -> None:
        """Store a staged block, in its decision_sequence; its slot is `freed` however that ends."""
        if self.breaker.open:
            self._freed([block.slot])
        else:
            self._saves.put_nowait(block)

    async def stop(self) -> None:
        """Save no more, and forget the store."""
        self.breaker.close()
        tasks = (self._saver, self.greeted)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while not self._saves.empty():
            self._freed([self._saves.get_nowait().slot])
        if self._peer:
            with contextlib.suppress(TransferFailed):
                await self._plane.forget_peer(self._peer)

    async def _save_all(self) -> None:
        call: Any = None
        lease = 0
        while True:
            batch = [await self._saves.get()]
            while not self._saves.empty() and len(batch) < SAVE_BLOCKS:
                batch.append(self._saves.get_nowait())
            lease += 1
            settled: asyncio.Future[str] | None = None
            try:
                if not self.breaker.open:
                    async with asyncio.timeout(SAVE_S):
                        await self._known()
                        call = call or self._stub.Put()
                        await self._save(call, lease, batch)
            except Exception as error:  # noqa: BLE001 - no failure ends the saving
                self._failed(error)
                settled = still_moving(error)
                if call is not None:
                    call.cancel()
                    call = None
            finally:
                self._free(batch, settled)

    def _free(self, batch: list[Staged], settled: "asyncio.Future[str] | None") -> None:
        """Give the slots back, once nothing moves from them any more."""
        slots = [block.slot for block in batch]
        if settled is None:
            self._freed(slots)
        else:
            settled.add_done_callback(lambda _: self._freed(slots))

    async def _save(self, call: Any, lease: int, batch: list[Staged]) -> None:
        window = self._window
        new = [
            kvstore_pb2.NewBlock(key=b.key, parent=b.parent, hash=b.hash, tokens=b.tokens)
            for b in batch
        ]
        reserve = kvstore_pb2.Reserve(lease=lease, block_bytes=window.slot_bytes, blocks=new)
        await call.write(kvstore_pb2.PutRequest(reserve=reserve))
        granted = (await answer(call)).granted
        if granted.full:
            self.full_until_s = asyncio.get_running_loop().time() + FULL_S
        rooms = granted.rooms
        if not rooms:
            return
        wanted = [(batch[room.index], room.address) for room in rooms]
        pieces = [(window.address(b.slot), at, window.slot_bytes) for b, at in wanted]
        sums = asyncio.to_thread(
            lambda: [block_checksum(b.key, window.bytes_of(b.slot)) for b, _ in wanted]
        )
        # Shorter than the call's own time, so that a write which hangs says so itself.
        writing = self._plane.write(self._peer, pieces, WRITE_S)
        checksums, _ = await asyncio.gather(sums, writing)
        commit = kvstore_pb2.Commit(lease=lease, checksums=checksums)
        await call.write(kvstore_pb2.PutRequest(commit=commit))
        await answer(call)

    async def _greet(self) -> None:
        try:
            await self._reach()
        except Exception as error:  # noqa: BLE001 - no failure is the caller's
            self._failed(error)

    async def _known(self) -> None:
        if not self._peer:
            await self._reach()

    async def _reach(self) -> None:
        """Ask how to reach the store's memory, in LOOKUP_S."""
        described = await rpc.call(
            self._stub.Describe, kvstore_pb2.DescribeRequest(), timeout_s=LOOKUP_S
        )
        if not self._peer:
            self._peer = await self._plane.add_peer(described.nixl_metadata)


Part = list[tuple[int, bytes, kvstore_pb2.LeasedBlock]]
"""Slots, keys, and where their bytes are in the store."""


def still_moving(error: Exception) -> "asyncio.Future[str] | None":
    """What to wait for before the memory of a failed transfer is used again."""
    return error.settled if isinstance(error, TransferFailed) and error.still_running else None


async def answer(call: Any) -> kvstore_pb2.PutReply:
    """The next reply of a Put. Raises ConnectionError when the store hung up."""
    reply = await call.read()
    if reply is grpc.aio.EOF:
        raise ConnectionError(f"the store ended the call: {await call.details()}")
    assert isinstance(reply, kvstore_pb2.PutReply)
    return reply
