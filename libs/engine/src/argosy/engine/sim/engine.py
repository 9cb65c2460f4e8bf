"""The live sim engine: the scheduler's steps take real time on the event loop. A step that raises
ends all requests, and is reported as the engine's death.

Bounds: what is submitted is bounded by the caller (the instance's queue_limit); an
output queue holds at most max_tokens entries.
"""

import asyncio
import contextlib
import time
from array import array
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import msgspec
import xxhash

from argosy.domain.kv_blocks import chained_block_hashes, root_hash
from argosy.engine import text
from argosy.engine.api import (
    EngineFailed,
    EngineInfo,
    EngineOutput,
    EngineRefused,
    EngineRequest,
    EngineStats,
    Listener,
    SleepLevel,
)
from argosy.engine.kv.chain import BlockNames
from argosy.engine.profile_files import load_profile
from argosy.engine.settings import EngineSettings
from argosy.engine.sim.outputs import joined, until_stop, with_logprobs, word_ids
from argosy.engine.sim.scheduler import Scheduler, StepProgress
from argosy.engine.sim.sequence import Sequence
from argosy.engine.sim.staging import SimStaging
from argosy.engine.sim.structured import structured_tokens
from argosy.engine.sim.tokens import TokenSource
from argosy.engine.watch import watch

DEFAULT_CONTEXT_TOKENS = 8192


@dataclass
class RunningRequest:
    """A request under way, the answer it will have, and the queue its reader waits at."""

    request: EngineRequest
    answer: list[int]
    finish: str
    sequence: Sequence
    chain: BlockNames | None = None
    """Where there is a KV store."""
    outputs: "asyncio.Queue[EngineOutput | EngineFailed]" = field(default_factory=asyncio.Queue)


class SimEngine:
    """Engine protocol over the sim scheduler. One step at a time, so that tokens stream."""

    def __init__(self, settings: EngineSettings, role: str = "") -> None:
        """role: any; the sim engine hands KV over and takes it in each of them."""
        self._settings = settings
        profile = load_profile(settings.timing_profile)
        if settings.step_tokens:
            profile = msgspec.structs.replace(profile, tokens_per_step=settings.step_tokens)
        self._profile = profile.faster(settings.sim_speed)
        block_bytes = settings.block_tokens * profile.kv_bytes_per_token
        blocks = max(1, settings.kv_bytes // block_bytes)
        # A request with no room even when alone would wait for ever, and all others behind it.
        context = min(
            settings.max_model_tokens or DEFAULT_CONTEXT_TOKENS, blocks * settings.block_tokens
        )
        self._scheduler = Scheduler(
            self._profile, blocks, settings.block_tokens, settings.max_running, settings.dp_ranks
        )
        self._tokenizer = text.load(settings.model_source)
        self._words = word_ids(self._tokenizer)
        self._running: dict[str, RunningRequest] = {}
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._listener: Listener | None = None
        self._ended = ""
        """Why no step will run any more; empty while steps run."""
        self._level: SleepLevel = "dram"
        self._staging = SimStaging(settings) if settings.kv_store else None
        self._info = EngineInfo(
            settings.block_tokens,
            blocks,
            context,
            self._scheduler.ranks[0].max_running,
            settings.dp_ranks,
            self._profile.tokens_per_step,
            self._profile,
            self._staging.info if self._staging is not None else None,
        )

    async def start(self, listener: Listener) -> EngineInfo:
        """Take as long as the profile says loading takes, then run steps."""
        await asyncio.sleep(self._profile.load_ms / 1e3)
        self._listener = listener
        self._task = watch(asyncio.create_task(self._run()), "the sim engine", self._fail)
        return self._info

    async def submit(self, request: EngineRequest) -> AsyncGenerator[EngineOutput, None]:
        """Stream invented tokens; see Engine.submit."""
        try:
            self._check(request)
            running = self._running[request.request_id] = self._begin(request)
        finally:
            # The preload was loaded, or is not needed: the sim's KV has no bytes to wait for.
            if request.preload is not None and self._listener is not None:
                self._listener.loaded(request.preload.name)
        finished = False
        try:
            while not finished:
                output = await running.outputs.get()
                while not running.outputs.empty() and not isinstance(output, EngineFailed):
                    # The reader fell behind: one piece for all that waits, as vLLM does.
                    output = joined(output, running.outputs.get_nowait())
                if isinstance(output, EngineFailed):
                    raise output
                finished = output.finish is not None
                yield with_logprobs(output, request.sampling.top_logprobs)
        finally:
            self._running.pop(request.request_id, None)
            if not finished:
                self._forget(request.request_id)

    async def release(self, request_id: str, kv_handle: bytes) -> None:
        """Free held KV."""
        self._forget(request_id)

    def unstage(self, slots: list[int]) -> None:
        """Staging slots are free again."""
        if self._staging is not None:
            self._staging.unstage(slots)

    def stats(self) -> EngineStats:
        """As of now."""
        return self._scheduler.stats()

    async def withdraw(self) -> None:
        """Take as long as the profile says."""
        await asyncio.sleep(self._profile.withdraw_ms / 1e3)

    async def sleep(self, level: SleepLevel) -> None:
        """Forget all KV; take as long as the profile says."""
        await asyncio.sleep(self._profile.free_ms(level) / 1e3)
        self._level = level
        self._scheduler.clear()
        self._report()

    async def wake(self) -> None:
        """Take as long as the profile says."""
        await asyncio.sleep(self._profile.take_ms(self._level) / 1e3)

    async def register(self) -> None:
        """Take as long as the profile says."""
        await asyncio.sleep(self._profile.register_ms / 1e3)

    async def stop(self) -> None:
        """Stop steps; running requests fail."""
        if self._task is not None:
            self._task.cancel()
            # A failure of the task has been reported already.
            await asyncio.gather(self._task, return_exceptions=True)
        self._end_requests("the engine stopped")
        if self._staging is not None:
            self._staging.close()

    def _fail(self, message: str) -> None:
        """No step will run any more: end what waits for one, and say so."""
        self._end_requests(message)
        if self._listener is not None:
            self._listener.died(message)

    def _end_requests(self, why: str) -> None:
        self._ended = why
        for running in self._running.values():
            running.outputs.put_nowait(EngineFailed(why))

    def _check(self, request: EngineRequest) -> None:
        if self._ended:
            raise EngineFailed(self._ended)
        prompt_tokens, limit = len(request.token_ids), self._info.max_model_tokens
        if not 0 < prompt_tokens < limit:
            raise EngineRefused(
                f"the prompt has {prompt_tokens} tokens; this engine takes 1 to {limit - 1}"
            )
        if request.dp_rank >= self._info.dp_ranks:
            raise EngineRefused(
                f"no data-parallel rank {request.dp_rank}: this engine has {self._info.dp_ranks}"
            )

    def _begin(self, request: EngineRequest) -> RunningRequest:
        """Invent the whole answer, and queue its computation."""
        prompt_tokens = len(request.token_ids)
        limit = min(request.sampling.max_tokens, self._info.max_model_tokens - prompt_tokens)
        answer, finish = self._invented(request, 1 if request.produce else limit)
        root = root_hash(self._settings.model, request.cache_salt)
        whole = [*request.token_ids, *answer]
        hashes = chained_block_hashes(whole, self._settings.block_tokens, root)
        sequence = Sequence(
            request.request_id,
            prompt_tokens,
            len(answer),
            hashes,
            hold=request.produce,
            pull=request.kv_handle is not None,
        )
        chain = None
        if self._staging is not None:
            chain = self._staging.chain(request.cache_salt, whole)
            if (preload := request.preload) is not None:
                self._staging.check(preload, chain)
                end = preload.first_block + len(preload.slots)
                sequence.preloaded = (preload.first_block, end)
        self._scheduler.add(sequence, request.dp_rank)
        self._work.set()
        return RunningRequest(
            request, answer, "length" if request.produce else finish, sequence, chain
        )

    def _invented(self, request: EngineRequest, tokens_max: int) -> tuple[list[int], str]:
        """The whole answer, and why it ends. Raises EngineRefused for a form not followed."""
        sampling = request.sampling
        eos_id = self._tokenizer.eos_token_ids[0]
        # Greedy answers depend on the text alone; sampled ones on the seed too.
        salt = 0 if sampling.temperature == 0 else (sampling.seed or 0) & (2**64 - 1)
        stop_ids = frozenset(sampling.stop_token_ids)
        if sampling.structured:
            seed = xxhash.xxh3_64_intdigest(array("I", request.token_ids).tobytes(), seed=salt)
            form = structured_tokens(sampling, self._tokenizer, seed)
            return until_stop([*form, eos_id], {eos_id, *stop_ids}, tokens_max)
        source = TokenSource(
            request.token_ids,
            self._words,
            eos_id,
            salt,
            bias=sampling.logit_bias,
            stop_ids=stop_ids,
        )
        return source.answer(
            tokens_max, ignore_eos=sampling.ignore_eos, min_tokens=sampling.min_tokens
        )

    def _forget(self, request_id: str) -> None:
        self._scheduler.remove(request_id)
        self._report()
        self._work.set()  # Others may have waited for the room.

    async def _run(self) -> None:
        while True:
            self._work.clear()
            planned = self._scheduler.plan(time.monotonic_ns() // 1000)
            self._scheduler.take_pulled()  # Nobody waits for these: a first token says it too.
            if planned is None:
                await self._idle()
                continue
            await asyncio.sleep(planned.each_us / 1e6)
            progressed = self._scheduler.finish(planned)
            self._stage()
            if self._listener is not None:
                self._listener.step_ended(planned.ended())
            for progress in progressed:
                self._emit(progress)
            self._report()

    def _stage(self) -> None:
        """Copy out the blocks that were completed."""
        if self._staging is None or self._listener is None:
            return
        for running in self._running.values():
            sequence, chain = running.sequence, running.chain
            pulled = sequence.prompt_tokens if sequence.pull else 0
            found = max(sequence.cached, pulled) // self._settings.block_tokens
            if (stored := running.request.stored_blocks) is not None:
                found = min(found, stored)
            sequence.saved = max(sequence.saved, found)
            if chain is not None and sequence.known > sequence.saved:
                staged = self._staging.stage(chain, sequence.saved, sequence.known)
                sequence.saved += len(staged)
                self._listener.staged(staged)

    async def _idle(self) -> None:
        """Until there is work, or the KV on its way has come."""
        pull_us = self._scheduler.next_pull_us()
        if pull_us is None:
            await self._work.wait()
            return
        left_s = max(0, pull_us - time.monotonic_ns() // 1000) / 1e6
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._work.wait(), left_s)

    def _emit(self, progress: StepProgress) -> None:
        sequence = progress.sequence
        running = self._running.get(sequence.key)
        if running is None:
            return
        # Preempted in between, it pulls no more; but it has.
        pulled = running.request.kv_handle is not None and progress.first
        moved = (sequence.prompt_tokens - sequence.cached) * self._profile.kv_bytes_per_token
        running.outputs.put_nowait(
            EngineOutput(
                token_ids=running.answer[sequence.produced - progress.tokens : sequence.produced],
                finish=running.finish if progress.last else None,
                cached_tokens=sequence.cached,
                kv_handle=b"sim" if sequence.hold and progress.last else None,
                transferred_bytes=moved if pulled else 0,
            )
        )

    def _report(self) -> None:
        if self._listener is None:
            return
        for changes in self._scheduler.take_changes():
            self._listener.blocks_changed(changes)
        self._listener.stepped(self._scheduler.stats())
