"""The store connector's half in the scheduler: what to take in, what to copy out, when.

What is computed is copied to staging slots at the end of the step that completes it, as
far as there are slots: what finds none is tried again with the next step, and given up when
its request is over. So the store never makes the engine wait.
"""

from collections import deque
from dataclasses import dataclass, field

import msgspec
import zmq
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.outputs import KVConnectorOutput
from vllm.v1.request import Request

from argosy.engine.api import Preload, Staged
from argosy.engine.kv.chain import BlockNames
from argosy.engine.kv.revision import with_layout
from argosy.engine.vllm.names import PRELOAD
from argosy.engine.vllm.store.service_messages import ServiceMessage, StoreSettings
from argosy.engine.vllm.store.worker_messages import Copy, StoreDone, StoreMetadata


@dataclass
class Tracked:
    """A request whose blocks are copied out. `saved`: leading blocks that need no copy; -1:
    not known before it is scheduled.
    """

    request: Request
    chain: BlockNames
    saved: int = -1
    outstanding: int = 0
    finished: bool = False


@dataclass
class Saving:
    """A copy under way. done: workers that have made theirs."""

    tracked: Tracked
    staged: list[Staged] = field(default_factory=list)
    done: int = 0


class StoreScheduler:
    """See the module."""

    def __init__(self, settings: StoreSettings, load_slots: int, slots: int, layout: str) -> None:
        self._settings = settings
        self._revision = with_layout(settings.revision, layout)
        self._free = deque(range(load_slots, slots))
        self._requests: dict[str, Tracked] = {}
        self._preloads: dict[str, str] = {}
        """Names of preloads that are being taken in, by request."""
        self._over: dict[str, None] = {}
        """Requests whose preload is used up."""
        self._next = StoreMetadata()
        self._saving: dict[int, Saving] = {}
        self._copies = 0
        self._manager: KVCacheManager
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._to_service = context.socket(zmq.PUSH)
        self._to_service.setsockopt(zmq.SNDHWM, 0)
        self._to_service.connect(settings.to_service_endpoint)
        self._from_service = context.socket(zmq.PULL)
        self._from_service.connect(settings.from_service_endpoint)

    def bind(self, manager: KVCacheManager) -> None:
        """Where requests' blocks are looked up."""
        self._manager = manager

    def matched_tokens(self, request: Request, computed: int) -> int:
        """Tokens the preload has beyond those computed here already."""
        preload = self._preload(request)
        if preload is None:
            return 0
        width = self._settings.block_tokens
        end = (preload.first_block + len(preload.slots)) * width
        if computed < preload.first_block * width or end <= computed:
            return 0
        return end - computed

    def allocated(self, request: Request, blocks: list[int], loaded_tokens: int) -> None:
        """The request has its blocks: begin to take the preload in, if it is needed."""
        preload = self._preload(request)
        if preload is None:
            return
        self._over[request.request_id] = None
        if not loaded_tokens:
            self._send(ServiceMessage(loaded=[preload.name]))
            return
        end = preload.first_block + len(preload.slots)
        first = end - loaded_tokens // self._settings.block_tokens
        self._copies += 1
        slots = preload.slots[first - preload.first_block :]
        self._next.loads[request.request_id] = Copy(self._copies, blocks[first:end], slots)
        self._preloads[request.request_id] = preload.name

    def _preload(self, request: Request) -> Preload | None:
        given = (request.kv_transfer_params or {}).get(PRELOAD)
        if given is None or request.request_id in self._over:
            return None
        return Preload(given["name"], given["first_block"], given["slots"])

    def build(self, scheduled: SchedulerOutput) -> StoreMetadata:
        """What the workers shall copy in this step."""
        self._take_freed()
        for request_id, tokens in scheduled.num_scheduled_tokens.items():
            tracked = self._requests.get(request_id)
            if tracked is not None:
                self._save(tracked, tracked.request.num_computed_tokens + tokens)
        metadata, self._next = self._next, StoreMetadata()
        return metadata

    def track(self, request: Request) -> None:
        """From now on what is computed for it is copied out."""
        settings = self._settings
        salt = request.cache_salt or ""
        chain = BlockNames(settings.model, self._revision, salt, settings.block_tokens)
        self._requests[request.request_id] = Tracked(request, chain)

    def _save(
        self, tracked: Tracked, computed_tokens: int, blocks: list[int] | None = None
    ) -> None:
        request, width = tracked.request, self._settings.block_tokens
        if tracked.saved < 0:
            # What is computed before its first step was found here, or has come from elsewhere.
            tracked.saved = request.num_computed_tokens // width
            stored = (request.kv_transfer_params or {}).get(PRELOAD, {}).get("stored_blocks")
            tracked.saved = tracked.saved if stored is None else min(stored, tracked.saved)
        # With scheduling ahead of the step before, the newest token is not known yet.
        full = min(computed_tokens, request.num_tokens) // width
        full = min(full, tracked.saved + len(self._free))
        if full <= tracked.saved:
            return
        tracked.chain.extend(request.all_token_ids, full)
        full = min(full, len(tracked.chain.keys))
        if blocks is None:
            blocks = self._manager.get_block_ids(request.request_id)[0]
        numbers = range(tracked.saved, full)
        slots = [self._free.popleft() for _ in numbers]
        self._copies += 1
        self._next.saves.append(Copy(self._copies, blocks[tracked.saved : full], slots))
        staged = [tracked.chain.staged(n, slot) for n, slot in zip(numbers, slots, strict=True)]
        self._saving[self._copies] = Saving(tracked, staged)
        tracked.saved = full
        tracked.outstanding += 1

    def finished(self, request: Request, blocks: list[int]) -> bool:
        """The request is over; True while its blocks must not be freed yet."""
        self._take_freed()
        given = (request.kv_transfer_params or {}).get(PRELOAD)
        if given is not None and request.request_id not in self._over:
            self._send(ServiceMessage(loaded=[given["name"]]))
        self._over.pop(request.request_id, None)
        tracked = self._requests.pop(request.request_id, None)
        if tracked is None or (tracked.saved < 0 and not request.num_computed_tokens):
            return False
        self._save(tracked, request.num_computed_tokens, blocks)
        tracked.finished = tracked.outstanding > 0
        return tracked.finished

    def output(self, output: KVConnectorOutput) -> None:
        """A step's workers have come to an end."""
        loaded = [
            self._preloads.pop(request_id)
            for request_id in sorted(output.finished_recving or ())
            if request_id in self._preloads
        ]
        staged: list[Staged] = []
        done = output.kv_connector_worker_meta
        for number, workers in done.saves.items() if isinstance(done, StoreDone) else ():
            # Workers may come to an end in different steps.
            saving = self._saving[number]
            saving.done += workers
            if saving.done < self._settings.workers:
                continue
            del self._saving[number]
            staged += saving.staged
            tracked = saving.tracked
            tracked.outstanding -= 1
            if tracked.finished and not tracked.outstanding:
                self._next.freed.add(tracked.request.request_id)
        if loaded or staged:
            self._send(ServiceMessage(staged, loaded))

    def _send(self, message: ServiceMessage) -> None:
        self._to_service.send(msgspec.msgpack.encode(message))

    def _take_freed(self) -> None:
        while self._from_service.poll(0):
            self._free.extend(msgspec.msgpack.decode(self._from_service.recv()))

    def close(self) -> None:
        """Let go of the sockets."""
        self._to_service.close(linger=0)
        self._from_service.close(linger=0)
