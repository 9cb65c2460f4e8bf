"""One running engine, timed from outside: what a caller sees of a step and of a step."""

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from argosy.engine.api import Engine, EngineInfo, EngineRequest, SamplingSpec

STEPS = 12

Progress = Callable[[str, int, int], None]
"""Told what is being done, steps done and steps there are."""


@dataclass(frozen=True)
class ProbeArrival:
    """An output of one request: when (monotonic), how many tokens, KV blocks in use then."""

    at_s: float
    tokens: int
    used_blocks: int


class Probe:
    """Times an engine that has nothing else to do."""

    def __init__(self, engine: Engine, info: EngineInfo, vocabulary: int, seed: int) -> None:
        self._engine = engine
        self._info = info
        self._vocabulary = vocabulary
        self._chance = random.Random(seed)  # noqa: S311 - prompts, not secrets
        self._numbers = itertools.count()

    def prompt(self, tokens: int) -> list[int]:
        """One nobody has seen before: nothing of it is cached."""
        return self._chance.choices(range(self._vocabulary), k=tokens)

    async def prompt_ms(self, tokens: int) -> float:
        """Submit to first token, of a prompt alone."""
        prompt = self.prompt(tokens)
        began = time.monotonic()
        arrivals = await self.answer(prompt, 1)
        return (arrivals[0].at_s - began) * 1e3

    async def step(self, prompts: Sequence[list[int]]) -> tuple[float, float] | None:
        """(ms, share of KV blocks in use) of the median step with all prompts' answers running.

        None when no step had them all: some were still prefilling when others had ended.
        """
        runs = await asyncio.gather(*(self.answer(prompt, 1 + STEPS) for prompt in prompts))
        all_run, first_ends = max(run[0].at_s for run in runs), min(run[-1].at_s for run in runs)
        gaps = [
            (later, (later.at_s - earlier.at_s) / later.tokens)
            for run in runs
            for earlier, later in itertools.pairwise(run)
            if earlier.at_s >= all_run and later.at_s <= first_ends
        ]
        if not gaps:
            return None
        used = statistics.mean(later.used_blocks for later, _ in gaps)
        return statistics.median(s for _, s in gaps) * 1e3, used / self._info.kv_total_blocks

    async def answer(self, prompt: list[int], max_tokens: int) -> list[ProbeArrival]:
        """Every output of one request, which is `max_tokens` long whatever it says."""
        sampling = SamplingSpec(max_tokens=max_tokens, temperature=0, ignore_eos=True)
        request = EngineRequest(f"profile-{next(self._numbers)}", prompt, sampling)
        arrivals = []
        async for output in self._engine.submit(request):
            used = self._engine.stats().kv_used_blocks
            arrivals.append(ProbeArrival(time.monotonic(), len(output.token_ids), used))
        return arrivals
