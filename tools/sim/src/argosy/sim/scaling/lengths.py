"""Lengths of prompts and answers, drawn for traces that have none."""

import math
from pathlib import Path

import numpy as np

from argosy.sim.scaling.workload import Draw, Numbers
from argosy.sim.traces.trace import read_trace

PROMPT_MEAN, PROMPT_SIGMA = 12_035, 1.10
OUTPUT_MEAN, OUTPUT_SIGMA = 343, 0.80
"""Lognormals of the mean lengths of Mooncake's conversation trace, and about as spread."""
PROMPT_MAX, OUTPUT_MAX = 65_536, 8_192
"""Longer prompts than this take most of a TTFT of two seconds even when alone."""

LLMD_PROMPT = (4000, 300, 3500, 4500)
LLMD_OUTPUT = (1000, 80, 900, 1100)
"""(mean, std, least, most) of llm-d's scored ramp (see rates.RAMP)."""


def conversation() -> Draw:
    """The default: heavy-tailed, as callers of a chat service are."""

    def draw(chance: np.random.Generator, count: int) -> tuple[Numbers, Numbers]:
        return (
            _lognormal(chance, count, PROMPT_MEAN, PROMPT_SIGMA, PROMPT_MAX),
            _lognormal(chance, count, OUTPUT_MEAN, OUTPUT_SIGMA, OUTPUT_MAX),
        )

    return draw


def of_file(path: Path) -> Draw:
    """A trace's own requests, drawn with equal chances. Raises TraceError."""
    trace = read_trace(path, None, 512)
    prompts = np.array([r.prompt_tokens for r in trace], dtype=np.float64)
    outputs = np.array([r.output_tokens for r in trace], dtype=np.float64)

    def draw(chance: np.random.Generator, count: int) -> tuple[Numbers, Numbers]:
        which = chance.integers(0, len(prompts), count)
        return prompts[which], outputs[which]

    return draw


def llmd(factor: float) -> Draw:
    """llm-d's lengths, longer by `factor`: a faster profile then needs as large a fleet."""

    def draw(chance: np.random.Generator, count: int) -> tuple[Numbers, Numbers]:
        return (
            _normal(chance, count, LLMD_PROMPT, factor),
            _normal(chance, count, LLMD_OUTPUT, factor),
        )

    return draw


def _lognormal(
    chance: np.random.Generator, count: int, mean: float, sigma: float, most: float
) -> Numbers:
    values = chance.lognormal(math.log(mean) - sigma * sigma / 2, sigma, count)
    return np.clip(np.round(values), 1, most)


def _normal(
    chance: np.random.Generator, count: int, shape: tuple[int, int, int, int], factor: float
) -> Numbers:
    mean, std, least, most = shape
    return np.round(np.clip(chance.normal(mean, std, count), least, most) * factor)
