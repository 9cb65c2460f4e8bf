"""The baseline: two vLLM engines and the connector, nothing else in between."""

import asyncio
import os
import time
from contextlib import aclosing
from typing import Any

from argosy.domain.cpu_list import parse_cores
from argosy.engine.settings import EngineSettings
from argosy.engine.vllm import config
from argosy.mesh.ports import free_port

PRODUCE = {"do_remote_decode": True, "do_remote_prefill": False}


class BareEngine:
    """One AsyncLLM, configured as an instance's engine is, without KV events."""

    def __init__(self, settings: EngineSettings, role: str) -> None:
        self._settings = settings.model_copy(update={"nixl_port": free_port()})
        self._role = role
        self._llm: Any = None

    async def start(self) -> None:
        """Load, in a thread pinned to the engine's cores."""
        os.environ.update(config.environment(self._settings))
        self._llm = await asyncio.to_thread(self._load)
        if self._role:
            await self._llm.collective_rpc("argosy_die_with_parent")

    def stop(self) -> None:
        """Shut down."""
        llm, self._llm = self._llm, None
        if llm is not None:
            llm.shutdown()

    async def generate(
        self,
        request_id: str,
        token_ids: list[int],
        max_tokens: int,
        transfer: dict[str, Any] | None,
    ) -> tuple[list[int], float, dict[str, Any] | None]:
        """Tokens, time of the first (monotonic seconds), and the KV handle if there is one."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        parameters = SamplingParams(
            max_tokens=max_tokens,
            temperature=0,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args={"kv_transfer_params": transfer} if transfer else None,
        )
        tokens: list[int] = []
        first, handle = 0.0, None
        running = self._llm.generate({"prompt_token_ids": token_ids}, parameters, request_id)
        async with aclosing(running) as outputs:
            async for output in outputs:
                first = first or time.monotonic()
                tokens += output.outputs[0].token_ids
                handle = output.kv_transfer_params or handle
        return tokens, first, handle

    def _load(self) -> Any:
        if cores := parse_cores(self._settings.cpu_cores):
            os.sched_setaffinity(0, cores)
        from vllm.v1.engine.async_llm import AsyncLLM

        arguments = config.engine_args(self._settings, self._role, "")
        arguments.kv_events_config = None
        return AsyncLLM.from_engine_args(arguments)


class BarePair:
    """Prefill and decode with nothing around them."""

    def __init__(self, prefill: EngineSettings, decode: EngineSettings) -> None:
        self._prefill = BareEngine(prefill, "kv_producer")
        self._decode = BareEngine(decode, "kv_consumer")

    async def start(self) -> None:
        """Load both, one after the other: they share a process's environment."""
        await self._prefill.start()
        await self._decode.start()

    async def stop(self) -> None:
        """Shut both down."""
        await asyncio.to_thread(self._prefill.stop)
        await asyncio.to_thread(self._decode.stop)

    async def answer(
        self, request_id: str, token_ids: list[int], max_tokens: int
    ) -> tuple[list[int], float]:
        """Tokens and TTFT in seconds."""
        began = time.monotonic()
        _, _, handle = await self._prefill.generate(f"p{request_id}", token_ids, 1, PRODUCE)
        assert handle is not None
        tokens, first, _ = await self._decode.generate(
            f"d{request_id}", token_ids, max_tokens, handle
        )
        return tokens, first - began
