"""The service's side of an engine's sleep; the worker's is in cpu_worker.py.

On CUDA this is vLLM's own sleep mode. vLLM has none on CPU: there it is ours. Either way the prefix
cache is emptied first, and that is reported before memory is freed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from argosy.engine.api import BlocksChanged, EngineFailed, SleepLevel
from argosy.engine.memory import trim_heap

FREED_S = 5.0
"""How long vLLM may take to free blocks and to report it: some steps with nothing in them."""
RETRY_S = 0.02
CUDA_LEVELS = {"dram": 1, "disk": 2}


class VllmSleeper:
    """See the module. step: makes the engine do one step. deliver: is called with block changes."""

    def __init__(
        self,
        device: str,
        step: Callable[[], Awaitable[None]],
        deliver: Callable[[BlocksChanged], None],
    ) -> None:
        self._cuda = device == "cuda"
        self._step = step
        self._deliver = deliver
        self._cleared = asyncio.Event()
        self._level: SleepLevel = "dram"

    def blocks_changed(self, change: BlocksChanged) -> None:
        """Deliver the change, and note when all blocks are gone."""
        self._deliver(change)
        if change.cleared:
            self._cleared.set()

    async def sleep(self, llm: Any, level: SleepLevel) -> None:
        """Free what the level says. Raises EngineFailed if blocks are held all the same."""
        await self._forget(llm)
        self._level = level
        if self._cuda:
            await llm.sleep(level=CUDA_LEVELS[level])
        else:
            await llm.collective_rpc("argosy_sleep", args=(level,))
        await asyncio.to_thread(trim_heap)

    async def wake(self, llm: Any) -> None:
        """Load what `sleep` freed."""
        if not self._cuda:
            await llm.collective_rpc("argosy_wake")
        elif self._level == "dram":
            await llm.wake_up()
        else:
            # Weights first: loading them needs room, which KV memory would take.
            await llm.wake_up(tags=["weights"])
            await llm.collective_rpc("reload_weights")
            await llm.wake_up(tags=["kv_cache"])

    async def register(self, llm: Any) -> None:
        """Register KV memory with NIXL, and let the scheduler learn of it in a step."""
        await llm.collective_rpc("argosy_register", args=(str(uuid4()),))
        await self._step()

    async def _forget(self, llm: Any) -> None:
        """Empty the prefix cache, and wait until that has been delivered.

        vLLM says what became of blocks after a step only, so one is made for it.
        """
        self._cleared.clear()
        deadline = asyncio.get_running_loop().time() + FREED_S
        while not await llm.reset_prefix_cache():
            # Of what was let go just now, blocks are freed by the next steps.
            if asyncio.get_running_loop().time() > deadline:
                raise EngineFailed("cannot sleep: KV blocks are held")
            await asyncio.sleep(RETRY_S)
        await self._step()
        await asyncio.wait_for(self._cleared.wait(), FREED_S)
