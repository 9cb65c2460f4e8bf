"""The vLLM engine, behind the Engine protocol.

Processes: vLLM's engine core is a child that dies with us. Loading runs in a thread
of its own, so the service answers (NOT_SERVING) meanwhile. Bounds: what is submitted
is bounded by the caller; vLLM queues what does not fit.
"""

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from argosy.domain.cpu_list import parse_cores
from argosy.domain.errors import ArgosyError, Reason
from argosy.engine.api import (
    EngineFailed,
    EngineInfo,
    EngineOutput,
    EngineRefused,
    EngineRequest,
    EngineStats,
    KvLost,
    Listener,
    Preload,
    SamplingSpec,
    SleepLevel,
)
from argosy.engine.profile_files import load_profile
from argosy.engine.settings import EngineSettings
from argosy.engine.vllm import config, kv_events
from argosy.engine.vllm.names import PRELOAD
from argosy.engine.vllm.pulled_bytes import PulledBytes
from argosy.engine.vllm.sampling import logprobs_of, sampling_params
from argosy.engine.vllm.sleep.sleeper import VllmSleeper
from argosy.engine.vllm.step_times import StepReport, StepTimes
from argosy.engine.vllm.store.service_side import StoreSide
from argosy.engine.watch import watch

log = logging.getLogger(__name__)

HEALTH_S = 0.5
"""How late the death of vLLM's engine core may be noticed; running requests fail at once."""
FREED_S, FREED_POLL_S = 5.0, 0.02
"""How long released KV may take to be freed: some steps."""
WARM_UP_TOKENS = 64
"""Two blocks: the first prompt of this length sets up what all steps need."""
PRODUCE = {"do_remote_decode": True, "do_remote_prefill": False}
ROLES = {"prefill": "kv_producer", "decode": "kv_consumer"}


class VllmEngine:
    """Engine protocol over AsyncLLM."""

    def __init__(self, settings: EngineSettings, role: str) -> None:
        self._settings = settings
        self._role = ROLES.get(role, "")
        self._llm: Any = None
        self._info = EngineInfo(0, 0, 0, 0)
        self._stats = EngineStats()
        self._listener: Listener | None = None
        self._uncomputed: dict[str, int] = {}
        """The prompt tokens of each request that has yielded nothing yet."""
        self._pulled = PulledBytes()
        self._steps = StepTimes()
        self._under_way = 0
        """How many requests vLLM may have something to do for."""
        self._own = 0
        """How many of them are the engine's own warm-ups."""
        self._tasks: list[asyncio.Task[None]] = []
        self._sockets = tempfile.TemporaryDirectory(prefix="argosy-kv-")
        self._store = StoreSide(settings, self._sockets.name) if settings.kv_store else None
        self._sleeper: VllmSleeper | None = None

    async def start(self, listener: Listener) -> EngineInfo:
        """Load the model. Raises ArgosyError (NOT_READY) when it cannot."""
        if missing := config.missing_files(self._settings.model_source):
            raise ArgosyError(
                Reason.NOT_READY,
                f"model files missing in {self._settings.model_source}: {', '.join(missing)}. "
                "Prepare the model with `argosy model fetch NAME`",
            )
        self._listener = listener
        os.environ.update(config.environment(self._settings))
        endpoint = f"ipc://{Path(self._sockets.name) / 'events'}"
        try:
            self._llm = await asyncio.to_thread(self._load, endpoint)
        except Exception as error:
            log.exception("vLLM did not start")
            raise ArgosyError(
                Reason.NOT_READY,
                f"vLLM did not start: {error}. If memory is short, lower engine.kvMemory "
                "or engine.maxModelTokens",
            ) from error
        self._info = self._describe()
        if self._store is not None:
            shape = (await self._llm.collective_rpc("argosy_staging"))[0]
            self._info = replace(self._info, staging=self._store.staging(*shape))
            self._start_task(self._store.follow(listener), "following the store connector")
        translator = kv_events.HashTranslator(self._settings.model, self._info.block_tokens)
        self._sleeper = VllmSleeper(self._settings.device, self._step, listener.blocks_changed)
        events = kv_events.follow(endpoint, translator, self._sleeper.blocks_changed)
        self._start_task(events, "following vLLM's KV events")
        self._start_task(self._watch_core(), "watching vLLM's engine core")
        await self._llm.collective_rpc("argosy_die_with_parent")
        if self._settings.device == "cpu":
            await self._llm.collective_rpc("argosy_drop_duplicates")
        await self._answer(WARM_UP_TOKENS, 2)
        return self._info

    async def submit(self, request: EngineRequest) -> AsyncGenerator[EngineOutput, None]:
        """Stream tokens; see Engine.submit."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        transfer = kv_parameters(request)
        prompt: dict[str, Any] = {"prompt_token_ids": request.token_ids}
        if request.cache_salt:
            prompt["cache_salt"] = request.cache_salt
        if request.kv_handle is None:
            self._uncomputed[request.request_id] = len(request.token_ids)
        else:
            self._pulled.begin(request.request_id)
        self._under_way += 1
        try:
            parameters = sampling_params(request.sampling, transfer, produce=request.produce)
            running = self._llm.generate(prompt, parameters, request.request_id)
            async with aclosing(running) as outputs:
                async for output in outputs:
                    self._uncomputed.pop(request.request_id, None)
                    yield self._output(output, request)
        except VLLMClientError as error:
            if self._listener is not None and request.preload is not None:
                self._listener.loaded(request.preload.name)
            raise EngineRefused(str(error)) from error
        except EngineDeadError as error:
            raise EngineFailed(f"vLLM's engine core died: {error}") from error
        except EngineGenerateError as error:
            raise EngineFailed(f"vLLM failed {request.request_id}: {error}") from error
        finally:
            self._uncomputed.pop(request.request_id, None)
            self._pulled.abandon(request.request_id)
            self._under_way -= 1
            if not self._under_way:
                self._steps.rest()

    async def release(self, request_id: str, kv_handle: bytes) -> None:
        """End the lease on held KV."""
        handle = msgspec.msgpack.decode(kv_handle)
        await self._llm.collective_rpc("argosy_release", args=([handle["remote_request_id"]],))

    def unstage(self, slots: list[int]) -> None:
        """Staging slots are free again."""
        if self._store is not None:
            self._store.unstage(slots)

    def stats(self) -> EngineStats:
        """As of the last step, with what has been submitted since."""
        queued = sum(self._uncomputed.values())
        return msgspec.structs.replace(self._stats, queued_prefill_tokens=queued)

    async def withdraw(self) -> None:
        """Deregister KV memory; peers' handles of it are void."""
        if not self._role:
            return
        held = sum(await self._llm.collective_rpc("argosy_release_all"))
        deadline = time.monotonic() + FREED_S
        while held and self._stats.kv_used_blocks and time.monotonic() < deadline:
            # The next steps free them; while KV is held, there are steps.
            await asyncio.sleep(FREED_POLL_S)
        await self._llm.collective_rpc("argosy_withdraw")

    async def sleep(self, level: SleepLevel) -> None:
        """Free memory; see Engine.sleep. Raises EngineFailed if KV blocks are held."""
        assert self._sleeper is not None
        await self._sleeper.sleep(self._llm, level)

    async def wake(self) -> None:
        """Bring memory back; see Engine.wake."""
        assert self._sleeper is not None
        await self._sleeper.wake(self._llm)

    async def register(self) -> None:
        """Register KV memory, as an engine that peers do not know yet."""
        assert self._sleeper is not None
        if self._role:
            await self._sleeper.register(self._llm)

    async def stop(self) -> None:
        """Shut vLLM down."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._llm is not None:
            await asyncio.to_thread(self._llm.shutdown)
        if self._store is not None:
            self._store.close()
        self._sockets.cleanup()

    def _load(self, events_endpoint: str) -> Any:
        """In a thread: import vLLM and load. The engine core inherits this thread's cores."""
        if cores := parse_cores(self._settings.cpu_cores):
            os.sched_setaffinity(0, cores)
        from vllm.v1.engine.async_llm import AsyncLLM

        from argosy.engine.vllm.stats import stat_logger

        store = self._store.connector_settings() if self._store is not None else None
        arguments = config.engine_args(self._settings, self._role, events_endpoint, store)
        return AsyncLLM.from_engine_args(arguments, stat_loggers=[stat_logger(self._on_stats)])

    def _describe(self) -> EngineInfo:
        configuration = self._llm.vllm_config
        return EngineInfo(
            configuration.cache_config.block_size,
            configuration.cache_config.num_gpu_blocks,
            configuration.model_config.max_model_len,
            configuration.scheduler_config.max_num_seqs,
            1,
            configuration.scheduler_config.max_num_batched_tokens,
            load_profile(name) if (name := self._settings.timing_profile) else None,
        )

    def _output(self, output: Any, request: EngineRequest) -> EngineOutput:
        completion = output.outputs[0]
        finish = completion.finish_reason
        if finish == "error" and request.kv_handle is not None:
            raise KvLost(f"the KV of {request.request_id} could not be pulled")
        if finish in ("error", "abort"):
            raise EngineFailed(f"vLLM ended {request.request_id}: {finish}")
        handle = output.kv_transfer_params if request.produce and finish else None
        return EngineOutput(
            token_ids=list(completion.token_ids),
            logprobs=logprobs_of(completion, request.sampling.top_logprobs),
            finish=finish,
            cached_tokens=output.num_cached_tokens or 0,
            kv_handle=msgspec.msgpack.encode(handle) if handle else None,
            transferred_bytes=self._pulled.take(request.request_id, last=bool(finish)),
        )

    def _on_stats(self, step: StepReport) -> None:
        self._pulled.reported(step.transfers)
        ended = self._steps.stepped(step, time.monotonic())
        if ended is not None and self._listener is not None and not self._own:
            self._listener.step_ended(ended)
        used = round(step.kv_share * max(0, self._info.kv_total_blocks - 1))
        stats = EngineStats(step.running, step.waiting, 0, used)
        # While KV is held vLLM steps a thousand times a second: only changes matter.
        if stats != self._stats:
            self._stats = stats
            if self._listener is not None:
                self._listener.stepped(self.stats())

    def _start_task(self, work: Coroutine[Any, Any, None], what: str) -> None:
        assert self._listener is not None
        self._tasks.append(watch(asyncio.create_task(work), what, self._listener.died))

    async def _watch_core(self) -> None:
        while not self._llm.errored:
            await asyncio.sleep(HEALTH_S)
        assert self._listener is not None
        self._listener.died("vLLM's engine core died")

    async def _step(self) -> None:
        """One step with next to nothing in it: vLLM's halves talk to each other in steps only."""
        await self._answer(1, 1)

    async def _answer(self, prompt_tokens: int, tokens: int) -> None:
        """One small answer. The first one takes first-time set-up upon itself."""
        sampling = SamplingSpec(max_tokens=tokens, temperature=0, ignore_eos=True)
        request = EngineRequest("warm-up", [1] * prompt_tokens, sampling, cache_salt="warm-up")
        self._own += 1
        try:
            async for _ in self.submit(request):
                pass
        finally:
            self._own -= 1


def kv_parameters(request: EngineRequest) -> dict[str, Any] | None:
    """VLLM's kv_transfer_params of a request."""
    if request.kv_handle is not None:
        pull: dict[str, Any] = msgspec.msgpack.decode(request.kv_handle)
        return pull
    found: dict[str, Any] = dict(PRODUCE) if request.produce else {}
    if request.preload is not None or request.stored_blocks is not None:
        preload = msgspec.structs.asdict(request.preload or Preload("", 0, []))
        found[PRELOAD] = {"stored_blocks": request.stored_blocks, **preload}
    return found or None
