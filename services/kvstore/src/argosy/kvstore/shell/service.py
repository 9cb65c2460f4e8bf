"""The kvstore service: it leases blocks over gRPC; their bytes move by NIXL; the core decides.

Concurrency: one handler task per Get and per writer; a caller that hangs up ends its
leases. Bounds: the blocks of a call by checks.BLOCKS_MAX, leases and memory by the core.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from argosy.domain.errors import ArgosyError, Reason
from argosy.kvstore.core import effects, events
from argosy.kvstore.core.state import DRAM, SSD, StoreLimits
from argosy.kvstore.policies import SPEC, new_state
from argosy.kvstore.settings import KvstoreSettings
from argosy.kvstore.shell import metrics, replies
from argosy.kvstore.shell.checks import check_block_bytes, check_keys
from argosy.kvstore.shell.granted_blocks import GrantedBlocks
from argosy.kvstore.shell.publisher import KvStorePublisher
from argosy.kvstore.shell.segments import Segments
from argosy.kvstore.shell.ssd import Ssd
from argosy.kvstore.shell.verify import check, verify
from argosy.mesh import rpc
from argosy.mesh.service import Mesh
from argosy.transfer.bytes_plane import BytesPlane
from argosy.transfer.memory import Memory
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.kvstore.v1 import kvstore_pb2, kvstore_pb2_grpc

FLUSH_S = 600
"""How long a flush may take: 100 GB at the pace of a slow SSD, 200 MB/s."""


class KvStoreService(kvstore_pb2_grpc.KvStoreServicer):
    """Serves the contract."""

    def __init__(self, mesh: Mesh[KvstoreSettings]) -> None:
        self.mesh = mesh
        self.tracer = mesh.tracer
        settings = mesh.settings
        limits = StoreLimits(
            settings.dram_bytes, settings.ssd_bytes, lease_us=round(settings.lease_s * 1e6)
        )
        self.state = new_state(limits, settings.eviction_policy)
        self._driver = mesh.drive(SPEC, self.state, self._perform)
        self._publisher = KvStorePublisher(mesh, self.state)
        self._lease_ms = limits.lease_us // 1000
        self._leases = itertools.count(1)
        self._reads: dict[int, asyncio.Queue[effects.GrantBlocks | None]] = {}
        self._answers: dict[int, Any] = {}
        self._flushes: dict[int, asyncio.Future[effects.PublishFlushed]] = {}
        self._memory: Memory
        self._plane: BytesPlane
        self._ssd: Ssd | None = None
        metrics.publish(mesh.metrics, self.state)
        descriptor = kvstore_pb2.DESCRIPTOR.services_by_name["KvStore"]
        mesh.server.add(kvstore_pb2_grpc.add_KvStoreServicer_to_server, self, descriptor)

    async def start(self) -> None:
        """Allocate the memory, find again what is on SSD, and join the mesh."""
        settings, mesh = self.mesh.settings, self.mesh
        dram = self.state.tiers[DRAM].slots
        mesh.wait_for("its memory")
        self._memory = Memory(dram.capacity_bytes)
        self._plane = BytesPlane(
            mesh.name, host=settings.advertise_host, files=settings.ssd_dir is not None
        )
        await self._plane.start()
        await self._plane.register(self._memory)
        if settings.ssd_dir is not None:
            await self._recover(settings.ssd_dir / mesh.name)
        await mesh.wait_for_bus()
        self._publisher.start()

    async def _recover(self, folder: Path) -> None:
        """Find again what is on SSD. Raises NOT_READY when the folder cannot be used."""
        slots = self.state.tiers[SSD].slots
        self.mesh.wait_for(f"what is on SSD in {folder}")
        try:
            segments = Segments(
                folder, slots.segment_bytes, slots.segments, self._plane, self._memory
            )
            found = await asyncio.to_thread(segments.scan)
        except OSError as error:
            raise ArgosyError(
                Reason.NOT_READY,
                f"cannot use {folder}: {error}. If another store runs here, give each a name or "
                "an ssd_dir of its own",
            ) from error
        self._ssd = Ssd(segments)
        self._ssd.driver = self._driver
        self._driver.feed(
            events.SsdRecovered(now_us=self._driver.now_us(), segments=found[0], blocks=found[1])
        )

    async def drain(self) -> None:
        """Nothing to wait for: instances with a lease go on without the store."""

    async def stop(self) -> None:
        """Release memory and files. Blocks that are only in memory are lost."""
        self._publisher.stop()
        if self._ssd is not None:
            await self._ssd.stop()
        if hasattr(self, "_plane"):
            await self._plane.close()
            self._memory.close()

    @rpc.handler("kvstore.describe", traced=False)
    async def Describe(
        self, request: kvstore_pb2.DescribeRequest, context: rpc.Context
    ) -> kvstore_pb2.Description:
        """Tell how to reach the memory by NIXL."""
        self.mesh.check_ready()
        return kvstore_pb2.Description(
            store_id=self.mesh.name, epoch=self.mesh.epoch, nixl_metadata=self._plane.metadata()
        )

    @rpc.handler("kvstore.get")
    async def Get(self, request: kvstore_pb2.GetRequest, context: rpc.Context) -> None:
        """Lease the longest stored prefix as long as the stream is open."""
        self.mesh.check_ready()
        check_keys([*request.before, *request.keys])
        lease = next(self._leases)
        grants = self._reads[lease] = asyncio.Queue()
        now_us = self._driver.now_us()
        asked = events.BlocksRequested(
            now_us=now_us,
            lease=lease,
            keys=list(request.keys),
            block_bytes=request.block_bytes,
            before=list(request.before),
        )
        found = GrantedBlocks(request.block_bytes, now_us)
        try:
            self._driver.feed(asked)
            first = True
            while (grant := await grants.get()) is not None:
                found.add(grant)
                await context.write(
                    replies.get_reply(grant, self._memory.address, self._lease_ms, first=first)
                )
                first = False
                if not found.total:
                    return
        except asyncio.CancelledError:
            if found.complete and (measured := found.measured(self._driver.now_us())):
                self._driver.feed(measured)
            raise
        finally:
            del self._reads[lease]
            self._driver.feed(events.LeaseEnded(now_us=self._driver.now_us(), lease=lease))

    @rpc.handler("kvstore.put", traced=False)
    async def Put(
        self, requests: AsyncIterator[kvstore_pb2.PutRequest], context: rpc.Context
    ) -> None:
        """Give a writer room, and store what it has written there."""
        self.mesh.check_ready()
        leases: dict[int, int] = {}
        try:
            async for request in requests:
                if request.HasField("reserve"):
                    await context.write(self._reserve(request.reserve, leases))
                else:
                    await context.write(self._commit(request.commit, leases))
        finally:
            for lease in leases.values():
                self._driver.feed(events.LeaseEnded(now_us=self._driver.now_us(), lease=lease))

    def _reserve(
        self, reserve: kvstore_pb2.Reserve, leases: dict[int, int]
    ) -> kvstore_pb2.PutReply:
        check_keys([block.key for block in reserve.blocks])
        check_keys([block.parent for block in reserve.blocks if block.parent])
        if reserve.lease in leases:
            raise ArgosyError(Reason.BAD_REQUEST, f"lease {reserve.lease} is in use already")
        check_block_bytes(reserve.block_bytes)
        lease = leases[reserve.lease] = next(self._leases)
        blocks = [events.Offered(b.key, b.parent, b.hash, b.tokens) for b in reserve.blocks]
        self._driver.feed(
            events.RoomRequested(
                now_us=self._driver.now_us(),
                lease=lease,
                block_bytes=reserve.block_bytes,
                blocks=blocks,
            )
        )
        granted = self._answers.pop(lease)
        if not granted.rooms:
            del leases[reserve.lease]
        return replies.granted_reply(granted, reserve.lease, self._memory.address, self._lease_ms)

    def _commit(self, commit: kvstore_pb2.Commit, leases: dict[int, int]) -> kvstore_pb2.PutReply:
        if commit.lease not in leases:
            raise ArgosyError(Reason.BAD_REQUEST, f"lease {commit.lease} was never granted here")
        lease, now_us = leases.pop(commit.lease), self._driver.now_us()
        self._driver.feed(
            events.BlocksWritten(now_us=now_us, lease=lease, checksums=list(commit.checksums))
        )
        stored = self._answers.pop(lease).stored
        return kvstore_pb2.PutReply(
            committed=kvstore_pb2.Committed(lease=commit.lease, stored=stored)
        )

    @rpc.handler("kvstore.suspect", traced=False)
    async def Suspect(
        self, request: kvstore_pb2.SuspectRequest, context: rpc.Context
    ) -> kvstore_pb2.SuspectReply:
        """Check the bytes of these blocks, and drop corrupt copies."""
        self.mesh.check_ready()
        check_keys(list(request.keys))
        segments = self._ssd.segments if self._ssd is not None else None
        corrupt = await check(list(request.keys), self.state, self._memory, segments, self._driver)
        return kvstore_pb2.SuspectReply(corrupt=corrupt)

    @rpc.handler("kvstore.kv_snapshot", traced=False)
    async def KvSnapshot(
        self, request: inference_pb2.KvSnapshotRequest, context: rpc.Context
    ) -> None:
        """Every block held here, by tier."""
        for part in self._publisher.snapshot():
            await context.write(part)

    @rpc.handler("kvstore.stats", traced=False)
    async def Stats(
        self, request: kvstore_pb2.StatsRequest, context: rpc.Context
    ) -> kvstore_pb2.StatsReply:
        """What the store holds, and has done since its start."""
        name, epoch = self.mesh.name, self.mesh.epoch
        return replies.stats_reply(self.state, name, epoch, self._publisher.tier_stats())

    @rpc.handler("kvstore.top", traced=False)
    async def Top(
        self, request: kvstore_pb2.TopRequest, context: rpc.Context
    ) -> kvstore_pb2.TopReply:
        """The prefixes that are requested most."""
        return replies.top_reply(self.state, request.limit, self._driver.now_us())

    @rpc.handler("kvstore.flush")
    async def Flush(
        self, request: kvstore_pb2.FlushRequest, context: rpc.Context
    ) -> kvstore_pb2.FlushReply:
        """Write all blocks to SSD, or drop all."""
        self.mesh.check_ready()
        flush = next(self._leases)
        done = self._flushes[flush] = asyncio.get_running_loop().create_future()
        try:
            self._driver.feed(
                events.FlushRequested(now_us=self._driver.now_us(), flush=flush, drop=request.drop)
            )
            flushed = await asyncio.wait_for(done, FLUSH_S)
        finally:
            del self._flushes[flush]
        if self.state.ssd_trouble and not request.drop:
            raise ArgosyError(Reason.NOT_READY, self.state.ssd_trouble, instance=self.mesh.name)
        return kvstore_pb2.FlushReply(
            written_blocks=flushed.written, dropped_blocks=flushed.dropped
        )

    @rpc.handler("kvstore.verify")
    async def Verify(self, request: kvstore_pb2.VerifyRequest, context: rpc.Context) -> None:
        """Check the bytes of every block."""
        self.mesh.check_ready()
        segments = self._ssd.segments if self._ssd is not None else None
        async for progress in verify(self.state, self._memory, segments, self._driver):
            await context.write(progress)

    def _perform(self, effect: Any) -> None:
        match effect:
            case effects.GrantBlocks():
                if (grants := self._reads.get(effect.lease)) is not None:
                    grants.put_nowait(effect)
            case effects.EndLease():
                if (grants := self._reads.get(effect.lease)) is not None:
                    grants.put_nowait(None)
            case effects.GrantRoom() | effects.ConfirmStored():
                self._answers[effect.lease] = effect
            case effects.PublishStored():
                self._publisher.changed(effect.tier, effect.hashes, stored=True)
            case effects.PublishEvicted():
                self._publisher.changed(effect.tier, effect.hashes, stored=False)
            case effects.PublishFlushed():
                done = self._flushes.get(effect.flush)
                if done is not None and not done.done():
                    done.set_result(effect)
            case effects.ReadSsd():
                assert self._ssd is not None
                self._ssd.read(effect)
            case effects.WriteSsd() | effects.ClearSsd():
                assert self._ssd is not None
                self._ssd.queue(effect)
