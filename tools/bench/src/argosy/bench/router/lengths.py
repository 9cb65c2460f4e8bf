"""Prompt and answer lengths to draw from: a trace's own, or the shape of a published one.

The built-in quantiles are of Mooncake's conversation trace (kvcache-ai/Mooncake, FAST '25
release, Apache-2.0); between them lengths are drawn log-linearly. With a trace, its
requests are drawn as they are.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from argosy.sim.traces.trace import read_trace

SHARES = (
    0,
    0.01,
    0.05,
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.9,
    0.95,
    0.98,
    0.99,
    0.995,
    0.999,
    1,
)
PROMPT_TOKENS = (
    890,
    892,
    901,
    964,
    1695,
    2903,
    4860,
    6909,
    9262,
    12756,
    18464,
    27367,
    39552,
    62000,
    85401,
    103000,
    121301,
    126195,
)
ANSWER_TOKENS = (
    1,
    6,
    10,
    24,
    98,
    221,
    299,
    350,
    396,
    443,
    505,
    597,
    698,
    880,
    1120,
    1500,
    2000,
    2000,
)


def lengths(trace: Path | None, seed: int) -> Iterator[tuple[int, int]]:
    """(prompt, answer) tokens, without end."""
    chance = random.Random(seed)  # noqa: S311 - a workload, not a secret
    if trace is not None:
        requests = read_trace(trace, None, 512)
        while True:
            request = chance.choice(requests)
            yield request.prompt_tokens, request.output_tokens
    while True:
        yield drawn(PROMPT_TOKENS, chance.random()), drawn(ANSWER_TOKENS, chance.random())


def drawn(quantiles: tuple[int, ...], share: float) -> int:
    """The length at this share of the distribution."""
    after = min(bisect_right(SHARES, share), len(SHARES) - 1)
    low, high = SHARES[after - 1], SHARES[after]
    part = (share - low) / (high - low)
    logs = math.log(quantiles[after - 1]), math.log(quantiles[after])
    return round(math.exp(logs[0] + part * (logs[1] - logs[0])))
