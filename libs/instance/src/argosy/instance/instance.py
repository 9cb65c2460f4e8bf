"""What prefill and decode share: an engine, and the facts that tell the mesh of it.

Load facts go out after each engine step, at most one in REPORT_S (the last one is
never lost), and at least one in each heartbeat. KV-block facts go out after each step.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

import msgspec
from google.protobuf.message import Message

from argosy.domain.lifecycle import LifecycleState
from argosy.engine.api import (
    BlocksChanged,
    EngineInfo,
    EngineOutput,
    EngineRequest,
    EngineStats,
    Listener,
    Staged,
    StepEnded,
)
from argosy.engine.build import build_engine
from argosy.engine.kv.revision import revision, with_layout
from argosy.instance.convert import load_message, timing_message
from argosy.instance.kv_store.link import StoreLink
from argosy.instance.lifecycle.runner import InstanceWork, LifecycleRunner
from argosy.instance.settings import InstanceSettings
from argosy.instance.work_counters import WorkCounters
from argosy.mesh.ports import free_port
from argosy.mesh.service import Mesh
from argosy.mesh.tasks import end_process, start_watched
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.instance.v1 import events_pb2

REPORT_S = 0.02
"""About one step of a large model: more reports would say little more, and cost routers time."""
AT_WORK = frozenset({LifecycleState.ACTIVE, LifecycleState.DRAINING})
"""States whose steps compute requests; in other states there are only warm-ups."""
SNAPSHOT_PART_BLOCKS = 50_000
"""Of one message of a snapshot: 500 kB at most, within gRPC's 4 MB."""

S = TypeVar("S", bound=InstanceSettings)


class EngineInstance:
    """An engine as a member of the mesh.

    work: the requests it serves, which end before it sleeps or stops.
    load_fact, kv_fact: make the role's own fact of a Load or KvChange.
    stepped: called after each engine step.
    """

    def __init__(
        self,
        mesh: Mesh[S],
        role: events_pb2.Role,
        work: InstanceWork,
        *,
        load_fact: Callable[[inference_pb2.Load], Message],
        kv_fact: Callable[[inference_pb2.KvChange], Message],
        stepped: Callable[[EngineStats], None],
    ) -> None:
        self.mesh = mesh
        port = mesh.settings.nixl_port or free_port()
        settings = mesh.settings.model_copy(update={"nixl_port": port})
        self.engine = build_engine(settings, mesh.service)
        self.info = EngineInfo(0, 0, 0, 0)
        self.counters = WorkCounters()
        self.held_blocks = 0
        self.requests_before_engine = 0
        """Requests that are accepted and wait for KV: the engine does not know them yet."""
        self._role = role
        self._load_fact = load_fact
        self._kv_fact = kv_fact
        self._stepped = stepped
        self.life = LifecycleRunner(mesh, self.engine, work, self._publish_change, end_process)
        self._changes = 0
        self._blocks: list[dict[int, None]] = []
        """The KV blocks of each data-parallel rank, for routers that missed changes."""
        self._report_due: asyncio.TimerHandle | None = None
        self._heartbeat: asyncio.Task[None] | None = None
        self._link: StoreLink | None = None

    async def start(self) -> None:
        """Load the engine, wait for the bus, and publish that the instance is ready."""
        settings = self.mesh.settings
        self.mesh.wait_for(f"the {settings.engine} engine to load {settings.model}")
        self.info = await self.engine.start(
            Listener(
                self._on_step,
                self._on_blocks,
                end_process,
                self._on_staged,
                self._on_loaded,
                self._on_step_ended,
            )
        )
        await self.mesh.wait_for_bus()
        if self.info.staging is not None:
            made = await asyncio.to_thread(revision, settings)
            made = with_layout(made, self.info.staging.layout)
            self._link = StoreLink(self.mesh, self.info, made, self.engine.unstage)
            await self._link.start()
            self.life.link = self._link
        self._heartbeat = start_watched(self._beat(), "the heartbeat")
        self.life.loaded()
        self.mesh.bus.on_connection.append(self._on_connection)

    async def submit(self, request: EngineRequest) -> AsyncGenerator[EngineOutput, None]:
        """As Engine.submit, after loading what the fleet's KV stores have of the prompt."""
        if self._link is not None:
            rank = request.dp_rank
            held = self._blocks[rank] if rank < len(self._blocks) else {}
            request = await self._link.preload(request, held)
        try:
            async with aclosing(self.engine.submit(request)) as outputs:
                async for output in outputs:
                    yield output
        finally:
            if self._link is not None:
                self._link.ended(request)

    async def drain(self) -> None:
        """Return when the running requests have ended and their KV is stored."""
        await self.life.stop("asked to stop")

    async def stop(self) -> None:
        """Publish that the instance stops, and free the engine."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self.life.end()
        if self._report_due is not None:
            self._report_due.cancel()
        link, self._link = self._link, None
        if link is not None:
            await link.stop()
        await self.engine.stop()

    def load(self) -> inference_pb2.Load:
        """The load right now."""
        mesh, stats = self.mesh, self.engine.stats()
        waiting = stats.waiting_requests + self.requests_before_engine
        stats = msgspec.structs.replace(stats, waiting_requests=waiting)
        load = load_message(
            mesh.name, mesh.epoch, stats, self.info, self.held_blocks, mesh.clock.now_us()
        )
        load.not_serving, load.change = self.life.not_serving, self.life.state.change
        return load

    def report(self) -> None:
        """Publish load and work: now, or REPORT_S after the last report."""
        if self._report_due is None:
            load = self.load()
            self.counters.add_to(load)
            self.mesh.bus.publish(self._load_fact(load))
            loop = asyncio.get_running_loop()
            self._report_due = loop.call_later(REPORT_S, self._report_window_over, self.load())

    def _report_window_over(self, reported: inference_pb2.Load) -> None:
        self._report_due = None
        now = self.load()
        reported.at_us = now.at_us
        if now != reported:
            self.report()

    def _on_connection(self, connected: bool) -> None:
        if connected and self.life.state.state in (
            LifecycleState.ACTIVE,
            LifecycleState.SILENT,
            LifecycleState.WAKING,
        ):
            self._announce(self.life.change())

    def _publish_change(self, fact: str, change: events_pb2.Change) -> None:
        """Publish a change of the lifecycle state."""
        if change.state == events_pb2.STATE_SILENT:
            self._forget_blocks()
        if fact == "InstanceReady":
            self._announce(change)
        else:
            mesh = self.mesh
            kind = getattr(events_pb2, fact)
            mesh.bus.publish(kind(instance_id=mesh.name, epoch=mesh.epoch, change=change))
        self.report()

    def _forget_blocks(self) -> None:
        """KV memory is freed: publish the loss of blocks of which the engine did not report it."""
        for dp_rank, held in enumerate(self._blocks):
            if held:
                self._on_blocks(BlocksChanged([], [], cleared=True, dp_rank=dp_rank))

    def _announce(self, change: events_pb2.Change) -> None:
        mesh, info = self.mesh, self.info
        mesh.bus.publish(
            events_pb2.InstanceReady(
                instance_id=mesh.name,
                epoch=mesh.epoch,
                role=self._role,
                address=mesh.address,
                node=mesh.settings.node,
                model=mesh.settings.model,
                block_tokens=info.block_tokens,
                kv_total_blocks=info.kv_total_blocks,
                max_model_tokens=info.max_model_tokens,
                max_running_requests=info.max_running_requests,
                requests_max=mesh.settings.queue_limit,
                dp_ranks=info.dp_ranks,
                tokens_per_step=info.tokens_per_step,
                rack=mesh.settings.rack,
                timing=timing_message(info.timing),
                change=change,
            )
        )

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.mesh.settings.heartbeat_s)
            self.report()

    def _on_step_ended(self, ended: StepEnded) -> None:
        if self.life.state.state in AT_WORK:
            self.counters.step_ended(ended)

    def _on_step(self, stats: EngineStats) -> None:
        self.report()
        self._stepped(stats)

    def kv_snapshot(self) -> list[inference_pb2.KvSnapshotPart]:
        """Every KV block held now, in parts; includes all changes published so far."""
        parts = []
        for dp_rank in range(max(1, self.info.dp_ranks)):
            held = list(self._blocks[dp_rank]) if dp_rank < len(self._blocks) else []
            parts += [
                inference_pb2.KvSnapshotPart(
                    instance_id=self.mesh.name,
                    epoch=self.mesh.epoch,
                    change_sequence=self._changes,
                    dp_rank=dp_rank,
                    blocks=held[start : start + SNAPSHOT_PART_BLOCKS],
                )
                for start in range(0, max(1, len(held)), SNAPSHOT_PART_BLOCKS)
            ]
        return parts

    def _on_blocks(self, changed: BlocksChanged) -> None:
        self._changes += 1
        while len(self._blocks) <= changed.dp_rank:
            self._blocks.append({})
        held = self._blocks[changed.dp_rank]
        if changed.cleared:
            held.clear()
        for block in changed.removed:
            held.pop(block, None)
        held.update(dict.fromkeys(changed.stored))
        change = inference_pb2.KvChange(
            instance_id=self.mesh.name,
            epoch=self.mesh.epoch,
            stored=changed.stored,
            removed=changed.removed,
            cleared=changed.cleared,
            change_sequence=self._changes,
            dp_rank=changed.dp_rank,
        )
        self.mesh.bus.publish(self._kv_fact(change))

    def _on_staged(self, blocks: list[Staged]) -> None:
        if self._link is None:
            self.engine.unstage([block.slot for block in blocks])
        else:
            self._link.staged(blocks)

    def _on_loaded(self, name: str) -> None:
        if self._link is not None:
            self._link.loaded(name)
