"""An instance's link to the fleet's KV stores: prompts' KV in, computed KV out.

Only KV that is complete and checked in this process's memory is given to the engine, so no store
can make the engine fail. A load runs while the engine computes other prompts. If no store answers,
requests go on as if there were none.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import msgspec

from argosy.engine.api import EngineInfo, EngineRequest, Preload, Staged, ignore
from argosy.engine.kv.chain import BlockNames
from argosy.engine.kv.owners import owner_of, owners_of
from argosy.instance.kv_store.load import KvLoad
from argosy.instance.kv_store.load_slots import LoadSlots
from argosy.instance.kv_store.store import KvStoreClient, StagingWindow
from argosy.mesh import telemetry
from argosy.mesh.bus import Envelope
from argosy.mesh.service import Mesh
from argosy.mesh.tasks import start_watched
from argosy.transfer.bytes_plane import BytesPlane, TransferFailed
from argosy.transfer.memory import Memory
from argosy.wire.kvstore.v1 import events_pb2

log = logging.getLogger(__name__)

STALE_S = 3.0
"""A store that has not reported for six heartbeats is not used."""
FORGET_S = 60.0
"""A store that has not reported for this long is gone: its connection is closed."""
RECLAIM_S = 30.0
"""After which an engine that never began a request cannot read its preload any more."""
FIRST_S = 1.2
"""A start waits this long for the first report: two heartbeats of a store."""
BUDGET_S_MIN, BUDGET_S_MAX = 0.05, 5.0
"""The limits of how long a load may take: time for one call; and not longer than callers wait."""
BUDGET_S = 1.0
"""How long a load may take if it is not known how long computing takes."""


class StoreLink:
    """See the module. revision: of the KV made here. unstage: tells the engine which of its
    slots are free again.
    """

    def __init__(
        self, mesh: Mesh[Any], info: EngineInfo, revision: str, unstage: Callable[[list[int]], None]
    ) -> None:
        assert info.staging is not None
        self._mesh = mesh
        self._info = info
        self._unstage = unstage
        self._revision = revision
        staging = info.staging
        size = staging.slots * staging.slot_bytes
        self._window = StagingWindow(Memory(size, Path(staging.path)), staging.slot_bytes)
        self._slots = LoadSlots(staging.load_slots)
        self._plane = BytesPlane(
            f"{mesh.name}-store", host=mesh.settings.advertise_host, passive=False
        )
        self._withdrawn = False
        self._stores: dict[str, KvStoreClient] = {}
        self._preloads: dict[str, list[int]] = {}
        self._loads = 0
        self._stopping: set[asyncio.Task[None]] = set()
        self._heard = asyncio.Event()
        self._unsaved = 0
        self._all_saved = asyncio.Event()
        self._all_saved.set()

    async def start(self) -> None:
        """Make the staging memory known, and listen for stores."""
        self._mesh.bus.on_connection.append(self._on_connection)
        await self._plane.start()
        await self._plane.register(self._window.memory)
        self._mesh.bus.listen(events_pb2.StoreReported, self._on_store)
        with contextlib.suppress(TimeoutError):
            # Who is ready knows the stores there are: the first prompt may be one of theirs.
            await asyncio.wait_for(self._heard.wait(), FIRST_S)
        await asyncio.gather(*(store.greeted for store in self._stores.values()))

    async def stop(self) -> None:
        """Forget all stores, and let go of the memory."""
        await asyncio.gather(*(store.stop() for store in self._stores.values()), *self._stopping)
        await self._plane.close()
        self._window.memory.close()

    async def withdraw(self) -> None:
        """The engine is to sleep: let go of the staging memory, if nothing in it is wanted."""
        if self._unsaved:
            log.warning("the staging memory is kept: %d blocks wait to be stored", self._unsaved)
            return
        try:
            await self._plane.withdraw(self._window.memory)
        except TransferFailed as error:
            log.warning("the staging memory is kept: %s", error)
            return
        self._withdrawn = True
        await asyncio.to_thread(self._window.memory.discard)

    async def register(self) -> None:
        """The engine wakes: make the staging memory known again."""
        if self._withdrawn:
            await self._plane.register(self._window.memory)
            self._withdrawn = False

    async def preload(self, request: EngineRequest, held: Container[int]) -> EngineRequest:
        """The request, with the stored part of its prompt's KV that is not `held` here.

        held: hashes of the blocks the engine has.
        """
        width = self._info.block_tokens
        # The last token is always computed: its logits give the next one.
        usable = (len(request.token_ids) - 1) // width
        stores = self._live()
        if not usable or not stores or request.kv_handle is not None:
            return request
        chain = BlockNames(self._mesh.settings.model, self._revision, request.cache_salt, width)
        chain.extend(request.token_ids, usable)
        first = next((n for n, h in enumerate(chain.hashes) if h not in held), usable)
        if first == usable:
            return request
        slots = self._slots.take(usable - first)
        if not slots:
            return request
        keys = chain.keys[: first + len(slots)]
        loads = self._shares(keys, first, slots, sorted(stores))
        loaded = 0
        try:
            with telemetry.span(self._mesh.tracer, "kv.load", wanted_blocks=len(slots)) as span:
                async with asyncio.TaskGroup() as group:
                    for name, (load, _) in loads.items():
                        group.create_task(stores[name].load(load))
                loaded = leading(loads, len(keys)) - first
                span.set_attribute("loaded_blocks", loaded)
        finally:
            self._give_back(slots[loaded:], [load for load, _ in loads.values()])
        stored = stored_blocks(keys, loads, first + loaded)
        now_s = asyncio.get_running_loop().time()
        if any(stores[name].full_until_s > now_s for name in loads):
            stored = None
        if not loaded:
            return msgspec.structs.replace(request, stored_blocks=stored)
        self._loads += 1
        preload = Preload(f"{request.request_id}#{self._loads}", first, slots[:loaded])
        self._preloads[preload.name] = preload.slots
        return msgspec.structs.replace(request, preload=preload, stored_blocks=stored)

    def _shares(
        self, keys: list[bytes], first: int, slots: list[int], names: list[str]
    ) -> "Shares":
        """What to ask of each store that has a share in keys[first:]."""
        owners = owners_of(keys, names)
        until_s = asyncio.get_running_loop().time()
        until_s += self._budget_s(len(slots) * self._info.block_tokens)
        numbers: dict[str, list[int]] = {}
        for number in range(first, len(keys)):
            numbers.setdefault(owners[number], []).append(number)
        return {
            name: (
                KvLoad(
                    [keys[n] for n in range(first) if owners[n] == name],
                    [keys[n] for n in share],
                    [slots[n - first] for n in share],
                    until_s,
                ),
                share,
            )
            for name, share in numbers.items()
        }

    def _give_back(self, slots: list[int], loads: list[KvLoad]) -> None:
        """Free slots once no transfer moves bytes into them any more."""
        moving = [load.settled for load in loads if load.settled is not None]
        if moving:
            rest = asyncio.gather(*moving, return_exceptions=True)
            rest.add_done_callback(lambda _: self._slots.give(slots))
        else:
            self._slots.give(slots)

    def _budget_s(self, tokens: int) -> float:
        """A load may take as long as computing would, within limits."""
        timing = self._info.timing
        if timing is None:
            return BUDGET_S
        prompt_s = timing.prompt_ms(tokens, self._info.tokens_per_step) / 1e3
        return min(BUDGET_S_MAX, max(BUDGET_S_MIN, prompt_s))

    def loaded(self, name: str) -> None:
        """The engine needs this preload no more."""
        self._slots.give(self._preloads.pop(name, []))

    def ended(self, request: EngineRequest) -> None:
        """The request is over. One that the engine has not even begun says nothing of its
        preload: that is taken back when nothing can be under way any more.
        """
        if request.preload is not None and request.preload.name in self._preloads:
            loop = asyncio.get_running_loop()
            loop.call_later(RECLAIM_S, self.loaded, request.preload.name)

    def staged(self, blocks: list[Staged]) -> None:
        """Store what the engine has staged."""
        if self._withdrawn:
            # Word that came late: their bytes are gone.
            self._unstage([block.slot for block in blocks])
            return
        self._unsaved += len(blocks)
        self._all_saved.clear()
        stores = self._live()
        names = sorted(stores)
        if not names:
            self._saved([block.slot for block in blocks])
            return
        for block in blocks:
            if len(names) > 1 and block.key == block.span:
                # The span before it may be elsewhere, where this store cannot see it.
                block = msgspec.structs.replace(block, parent=b"")  # noqa: PLW2901
            stores[owner_of(block.span, names)].save(block)

    async def saved(self, within_s: float) -> None:
        """Return when nothing waits to be stored any more, or that long has passed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_saved.wait(), within_s)

    def _saved(self, slots: list[int]) -> None:
        self._unstage(slots)
        self._unsaved -= len(slots)
        if not self._unsaved:
            self._all_saved.set()

    def _forget(self, name: str) -> None:
        task = start_watched(self._stores.pop(name).stop(), f"leaving the KV store {name}", ignore)
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    def _live(self) -> dict[str, KvStoreClient]:
        """Stores to be used. While the bus is away their silence says nothing."""
        now_s = time.monotonic()
        heard = self._mesh.bus.connected.is_set()
        return {
            name: store
            for name, store in self._stores.items()
            if (now_s - store.seen_s < STALE_S or not heard) and not store.breaker.open
        }

    def _on_connection(self, connected: bool) -> None:
        if connected:
            for store in self._stores.values():
                store.seen_s = time.monotonic()

    def _on_store(self, fact: events_pb2.StoreReported, envelope: Envelope) -> None:
        known = self._stores.get(fact.store_id)
        if known is None or known.epoch != fact.epoch:
            for name, store in list(self._stores.items()):
                if name == fact.store_id or time.monotonic() - store.seen_s > FORGET_S:
                    self._forget(name)
            known = self._stores[fact.store_id] = KvStoreClient(
                fact.store_id,
                fact.epoch,
                fact.address,
                self._mesh.channels,
                self._plane,
                self._window,
                self._saved,
            )
        known.seen_s = time.monotonic()
        self._heard.set()


Shares = dict[str, tuple[KvLoad, list[int]]]
"""By store: what is asked of it, and which blocks of the chain that is."""


def leading(loads: Shares, blocks: int) -> int:
    """Up to which block of the chain all has come."""
    missing = [share[load.blocks] for load, share in loads.values() if load.blocks < len(share)]
    return min(missing, default=blocks)


def stored_blocks(keys: list[bytes], loads: Shares, loaded: int) -> int | None:
    """Leading blocks that stores have; None when one did not say.

    A store that was restarted may lack what this instance has had all along.
    """
    if any(load.before_held < 0 for load, _ in loads.values()):
        return None
    place = {key: number for number, key in enumerate(keys)}
    missing = [
        place[load.before[load.before_held]]
        for load, _ in loads.values()
        if load.before_held < len(load.before)
    ]
    return min(missing, default=loaded)
