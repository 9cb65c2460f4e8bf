"""Least squares for a timing profile: measured points in, a Profile and its error out.

No step gets faster with more to do, whatever the points say: coefficients that would make
it so are 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from argosy.cli.profile.least_squares import Array, in_sample, left_out, mean_percent, norms, solve
from argosy.domain.errors import ArgosyError, Reason
from argosy.engine.profile import Profile


@dataclass(frozen=True)
class PrefillPoint:
    """One step over `new_tokens` prompt tokens took `ms`."""

    new_tokens: int
    ms: float


@dataclass(frozen=True)
class DecodePoint:
    """One step of `requests` sequences took `ms`, `kv_share` (0 to 1) of the KV blocks in use."""

    requests: int
    context_tokens: int
    kv_share: float
    ms: float


@dataclass(frozen=True)
class FitErrors:
    """Mean absolute errors in per cent of what was measured.

    left_out: of each point as predicted from all others, which is what to expect elsewhere.
    """

    prefill_percent: float
    prefill_left_out_percent: float
    decode_percent: float
    decode_left_out_percent: float


def fit(
    prefill: Sequence[PrefillPoint], decode: Sequence[DecodePoint], base: Profile
) -> tuple[Profile, FitErrors]:
    """`base` with the prefill and decode times that fit best, and how far off they are.

    Raises ArgosyError (BAD_REQUEST) when the points cannot tell the coefficients apart.
    """
    prompts, prompts_ms = prefill_rows(prefill), np.array([point.ms for point in prefill])
    steps, steps_ms = decode_rows(decode), np.array([point.ms for point in decode])
    check(prompts, 3, "prefill", "prompts of more lengths")
    check(steps, 4, "decode", "several batch sizes, each at three or more context lengths")
    a, b, c = solve(prompts, prompts_ms)
    base_ms, slope_0, slope_1, per_request = solve(steps, steps_ms)
    profile = msgspec.structs.replace(
        base,
        prefill_ms=(a, b, c),
        decode_ms=(base_ms, slope_0, (slope_1 - slope_0) / 2),
        decode_ms_per_request=per_request,
    )
    errors = FitErrors(
        mean_percent(prompts, prompts_ms, in_sample),
        mean_percent(prompts, prompts_ms, left_out),
        mean_percent(steps, steps_ms, in_sample),
        mean_percent(steps, steps_ms, left_out),
    )
    return profile, errors


def prefill_rows(points: Sequence[PrefillPoint]) -> Array:
    """What multiplies the three coefficients."""
    return np.array([[1.0, p.new_tokens, p.new_tokens**2] for p in points])


def decode_rows(points: Sequence[DecodePoint]) -> Array:
    """What multiplies base, slope at p = 0, slope at p = 1, and time per request.

    With slopes u and v, a + b·p + c·p² is a + u·(p - p²/2) + v·p²/2: it falls nowhere from
    p = 0 to 1 just when neither is negative.
    """
    shares = [(p.kv_share, p.kv_share**2 / 2, p.requests) for p in points]
    return np.array([[1.0, share - half, half, requests] for share, half, requests in shares])


def check(rows: Array, coefficients: int, what: str, remedy: str) -> None:
    """Raise unless there is a point more than coefficients, and each can be told from others."""
    if len(rows) <= coefficients:
        raise ArgosyError(
            Reason.BAD_REQUEST,
            f"{len(rows)} {what} points are too few: {coefficients} coefficients take at least "
            f"{coefficients + 1}. Measure {remedy}",
        )
    if np.linalg.matrix_rank(rows / norms(rows)) < coefficients:
        message = f"the {what} points are too alike to tell what costs time. Measure {remedy}"
        raise ArgosyError(Reason.BAD_REQUEST, message)
