"""Whether a profile predicts what it was not fitted to: several prompts at once, unlike lengths.

The real engine and a sim engine with the profile get the same requests, through the same
protocol; chunked prefill and mixed steps are then the sim engine's to get right.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import msgspec

from argosy.cli.profile.probe import Probe, Progress
from argosy.engine.api import Listener
from argosy.engine.build import build_engine
from argosy.engine.profile import Profile
from argosy.engine.settings import EngineSettings

PASS_SHARES = (0.25, 1, 2.5)
ANSWER_TOKENS = 16


def mixed_lengths(longest: int, max_model_tokens: int) -> list[int]:
    """Less than a step, a whole one and several; `longest`: tokens of a step."""
    room = max_model_tokens - ANSWER_TOKENS
    return [min(room, max(1, round(share * longest))) for share in PASS_SHARES]


async def together_ms(probe: Probe, lengths: list[int]) -> float:
    """Submit a new prompt of each length at once; until all have their answers."""
    prompts = [probe.prompt(length) for length in lengths]
    began = time.monotonic()
    await asyncio.gather(*(probe.answer(prompt, ANSWER_TOKENS) for prompt in prompts))
    return (time.monotonic() - began) * 1e3


async def measure_mixed(
    probe: Probe, lengths: list[int], repeats: int, progress: Progress
) -> float:
    """New prompts of these lengths together, milliseconds until all are answered."""
    found = []
    for repeat in range(repeats):
        progress("prompts together", repeat, repeats)
        found.append(await together_ms(probe, lengths))
    return statistics.median(found)


async def predict_ms(settings: EngineSettings, profile: Profile, lengths: list[int]) -> float:
    """The same on the sim engine, in as much real time as it says it takes."""
    with tempfile.TemporaryDirectory(prefix="argosy-profile-") as folder:
        path = Path(folder) / "fitted.yaml"
        # Nobody wants to wait for a pretended load.
        path.write_bytes(msgspec.yaml.encode(msgspec.structs.replace(profile, load_ms=0)))
        told = {"engine": "sim", "timing_profile": path}
        engine = build_engine(settings.model_copy(update=told), "decode")
    try:
        info = await engine.start(Listener(lambda _: None, lambda _: None, lambda _: None))
        return await together_ms(Probe(engine, info, 1000, 1), lengths)
    finally:
        await engine.stop()
