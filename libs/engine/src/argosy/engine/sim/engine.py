"""The sim engine, live: the scheduler's passes take real time on the event loop.

Bounds: what is submitted is bounded by the caller (the instance's queue_limit); an
output queue holds at most max_tokens entries.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import msgspec

from argosy.engine.api import (
    EngineFailed,
    EngineInfo,
    EngineOutput,
    EngineRefused,
    EngineRequest,
    EngineStats,
    Listener,
    Logprobs,
)
from argosy.engine.settings import InstanceSettings
from argosy.engine.sim.profile import load_profile
from argosy.engine.sim.scheduler import Scheduler
from argosy.engine.sim.tokens import TokenSource
from argosy.mesh import text
from argosy.mesh.blocks import root_hash

DEFAULT_CONTEXT_TOKENS = 8192


class SimEngine:
    """Engine protocol over the sim scheduler."""

    def __init__(self, settings: InstanceSettings) -> None:
        self._settings = settings
        self._profile = load_profile(settings.sim_profile)
        if settings.pass_tokens:
            self._profile = msgspec.structs.replace(
                self._profile, tokens_per_pass=settings.pass_tokens
            )
        block_bytes = settings.block_tokens * self._profile.kv_bytes_per_token
        blocks = max(1, settings.kv_bytes // block_bytes)
        # What has no room even alone would wait for ever, and all others behind it.
        context = min(
            settings.max_model_tokens or DEFAULT_CONTEXT_TOKENS, blocks * settings.block_tokens
        )
        self._scheduler = Scheduler(
            self._profile, blocks, settings.block_tokens, settings.max_running, context
        )
        tokenizer = text.load(settings.model_source)
        self._eos = tokenizer.eos_token_ids[0]
        words = (tokenizer.encoder.token_to_id(word) for word in text.SIM_WORDS)
        self._words = [word for word in words if word is not None]
        if not self._words:
            # A real vocabulary: words with a leading space, whatever they are.
            vocabulary = tokenizer.encoder.get_vocab()
            self._words = sorted(i for token, i in vocabulary.items() if token[:1] in "Ġ▁")
        self._outputs: dict[str, asyncio.Queue[EngineOutput | EngineFailed]] = {}
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._listener: Listener | None = None
        self._info = EngineInfo(
            settings.block_tokens, self._scheduler.pool.total,
            context, settings.max_running,
        )  # fmt: skip

    async def start(self, listener: Listener) -> EngineInfo:
        """Take as long as the profile says loading takes, then run passes."""
        await asyncio.sleep(self._profile.load_ms / 1e3 / self._settings.sim_speed)
        self._listener = listener
        self._task = asyncio.create_task(self._run())
        return self._info

    async def submit(self, request: EngineRequest) -> AsyncGenerator[EngineOutput, None]:
        """Stream invented tokens; see Engine.submit."""
        if request.sampling.json_schema is not None:
            raise EngineRefused(
                "the sim engine cannot follow a schema: use the vllm engine for response_format"
            )
        prompt_tokens, limit = len(request.token_ids), self._info.max_model_tokens
        if not 0 < prompt_tokens < limit:
            raise EngineRefused(
                f"the prompt has {prompt_tokens} tokens; this engine takes 1 to {limit - 1}"
            )
        root = root_hash(self._settings.model, request.cache_salt)
        # Greedy answers depend on the text alone; sampled ones on the seed too.
        salt = 0 if request.sampling.temperature == 0 else (request.sampling.seed or 0)
        source = TokenSource(request.token_ids, self._words, self._eos, salt & (2**64 - 1))
        outputs = self._outputs[request.request_id] = asyncio.Queue()
        self._scheduler.add(request, root, source)
        self._work.set()
        finished = False
        try:
            while not finished:
                output = await outputs.get()
                while not outputs.empty() and not isinstance(output, EngineFailed):
                    # The reader fell behind: one piece for all that waits, as vLLM does.
                    output = joined(output, outputs.get_nowait())
                if isinstance(output, EngineFailed):
                    raise output
                finished = output.finish is not None
                yield with_logprobs(output, request.sampling.top_logprobs)
        finally:
            self._outputs.pop(request.request_id, None)
            if not finished:
                self._forget(request.request_id)

    async def release(self, request_id: str, kv_handle: bytes) -> None:
        """Free held KV."""
        self._forget(request_id)

    def stats(self) -> EngineStats:
        """As of now."""
        return self._scheduler.stats()

    async def stop(self) -> None:
        """Stop passes; running requests fail."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for outputs in self._outputs.values():
            outputs.put_nowait(EngineFailed("the engine stopped"))

    def _forget(self, request_id: str) -> None:
        self._scheduler.remove(request_id)
        self._report()
        self._work.set()  # Others may have waited for the room.

    async def _run(self) -> None:
        while True:
            planned = self._scheduler.plan()
            if planned is None:
                self._work.clear()
                await self._work.wait()
                continue
            await asyncio.sleep(planned.duration_ms / 1e3 / self._settings.sim_speed)
            for request_id, output in self._scheduler.finish(planned):
                if queue := self._outputs.get(request_id):
                    queue.put_nowait(output)
            self._report()

    def _report(self) -> None:
        if self._listener is None:
            return
        if changes := self._scheduler.pool.take_changes():
            self._listener.blocks_changed(changes)
        self._listener.stepped(self._scheduler.stats())


def joined(first: EngineOutput, then: EngineOutput | EngineFailed) -> EngineOutput | EngineFailed:
    """Two outputs of one request as one; a failure takes over."""
    if isinstance(then, EngineFailed):
        return then
    return msgspec.structs.replace(
        then,
        token_ids=first.token_ids + then.token_ids,
        cached_tokens=max(first.cached_tokens, then.cached_tokens),
        transferred_bytes=first.transferred_bytes + then.transferred_bytes,
    )


def with_logprobs(output: EngineOutput, top: int | None) -> EngineOutput:
    """Certainty, as logprobs: an invented token has no rivals."""
    if top is None:
        return output
    logprobs = [Logprobs(i, 0.0, {i: 0.0} if top else {}) for i in output.token_ids]
    return EngineOutput(
        output.token_ids, logprobs, output.finish, output.cached_tokens,
        output.kv_handle, output.transferred_bytes,
    )  # fmt: skip
