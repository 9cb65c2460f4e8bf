"""Measure one engine: prefill steps by prompt length, decode steps by batch and context.

The engine is all this process runs; its requests come one measurement at a time. A
repeat goes once over everything, so that a busy moment of the machine does not fall on
all repeats of one point; of the repeats the median counts.
"""

import statistics
import time
from collections import defaultdict
from dataclasses import dataclass

from argosy.cli.profile.fit import DecodePoint, PrefillPoint
from argosy.cli.profile.mixed import measure_mixed, mixed_lengths
from argosy.cli.profile.probe import STEPS, Probe, Progress
from argosy.domain.errors import ArgosyError, Reason
from argosy.engine.api import EngineFailed, EngineInfo, EngineRefused, Listener
from argosy.engine.build import build_engine
from argosy.engine.settings import EngineSettings

PASS_SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)
BATCHES = (1, 2, 4, 8)
CONTEXT_SHARES = (0.03, 0.5, 1)
KV_FILL = 0.8
"""Of the KV, taken by the largest batch of the longest context: the rest keeps vLLM from
preempting, and the prompts in its cache."""


@dataclass(frozen=True)
class Measurement:
    """What was found. Loading in milliseconds, as one start took."""

    prefill: list[PrefillPoint]
    decode: list[DecodePoint]
    load_ms: float
    mixed_tokens: list[int]
    mixed_ms: float
    """Prompts of these lengths at once, until all were answered: not for fitting."""


async def measure(
    settings: EngineSettings, vocabulary: int, repeats: int, seed: int, progress: Progress
) -> Measurement:
    """Load the engine the settings name, measure it, stop it. Takes minutes on a CPU.

    vocabulary: token ids below it are the model's. settings.step_tokens must be set.
    Raises ArgosyError when the engine does not load, or fails on the way.
    """
    progress("loading", 0, 1)
    # A decode engine prefills too: one serves for both, connector and all.
    engine = build_engine(settings, "decode")
    began = time.monotonic()
    try:
        info = await engine.start(Listener(lambda _: None, lambda _: None, lambda _: None))
        load_ms = (time.monotonic() - began) * 1e3
        probe = Probe(engine, info, vocabulary, seed)
        longest = min(settings.step_tokens, info.max_model_tokens - 1)
        prefill = await measure_prefill(probe, longest, repeats, progress)
        decode = await measure_decode(probe, info, repeats, progress)
        mixed_tokens = mixed_lengths(longest, info.max_model_tokens)
        mixed_ms = await measure_mixed(probe, mixed_tokens, repeats, progress)
    except (EngineFailed, EngineRefused) as error:
        message = f"the engine failed while it was measured: {error}"
        raise ArgosyError(Reason.NOT_READY, message) from error
    finally:
        await engine.stop()
    return Measurement(prefill, decode, load_ms, mixed_tokens, mixed_ms)


async def measure_prefill(
    probe: Probe, longest: int, repeats: int, progress: Progress
) -> list[PrefillPoint]:
    """Prompts that take one step each, the longest of `longest` tokens."""
    lengths = sorted({max(1, round(share * longest)) for share in PASS_SHARES})
    found: dict[int, list[float]] = defaultdict(list)
    for repeat in range(repeats):
        for number, tokens in enumerate(lengths):
            progress(f"prefill of {tokens}", repeat * len(lengths) + number, repeats * len(lengths))
            found[tokens].append(await probe.prompt_ms(tokens))
    return [PrefillPoint(tokens, statistics.median(times)) for tokens, times in found.items()]


async def measure_decode(
    probe: Probe, info: EngineInfo, repeats: int, progress: Progress
) -> list[DecodePoint]:
    """Every batch at every context.

    Contexts are beginnings of the same prompts, which the engine has cached by then: only
    decoding is left to time.
    """
    batches = [batch for batch in BATCHES if batch <= info.max_running_requests]
    contexts = context_lengths(info, batches[-1])
    prompts = [probe.prompt(contexts[-1]) for _ in range(batches[-1])]
    for number, prompt in enumerate(prompts):
        progress("caching contexts", number, len(prompts))
        await probe.answer(prompt, 1)
    # Largest first: what it needs is in the cache for sure.
    grid = [(batch, context) for context in reversed(contexts) for batch in reversed(batches)]
    found: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for repeat in range(repeats):
        for number, (batch, context) in enumerate(grid):
            label = f"decode of {batch} at {context}"
            progress(label, repeat * len(grid) + number, repeats * len(grid))
            if step := await probe.step([prompt[:context] for prompt in prompts[:batch]]):
                found[batch, context].append(step)
    return [
        DecodePoint(
            batch,
            context,
            statistics.median(share for _, share in steps),
            statistics.median(ms for ms, _ in steps),
        )
        for (batch, context), steps in found.items()
    ]


def context_lengths(info: EngineInfo, batch: int) -> list[int]:
    """Small, middle and large, in tokens: as much as `batch` sequences have room for."""
    room = round(KV_FILL * info.kv_total_blocks) // batch * info.block_tokens
    largest = min(room, info.max_model_tokens) - STEPS - 1
    return sorted({max(1, round(share * largest)) for share in CONTEXT_SHARES})
