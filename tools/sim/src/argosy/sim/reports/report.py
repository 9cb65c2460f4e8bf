"""A simulation in one object: how quick, how much, how well the cache was used."""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import xxhash

from argosy.sim.reports.outcome import RequestOutcome, SleepRecord

_PACKED = struct.Struct("<6q?I")
_NEVER_US = -1


def report_of(
    outcomes: Sequence[RequestOutcome],
    *,
    slo_ttft_ms: float,
    slo_itl_ms: float,
    instance_seconds: float,
    virtual_us: int,
    wall_s: float,
) -> dict[str, Any]:
    """The report, ready for JSON.

    Latencies, reuse and throughput are those of the requests that completed. TTFT and E2E
    count from arrival. ITL is a request's mean gap between tokens, as AIPerf reports
    inter-token latency: (end - first token) / (output tokens - 1), none with one token.
    The SLO's share is of all requests: who was rejected or did not complete has missed it.
    What there is none of is None among the latencies, 0 elsewhere.
    """
    completed = [outcome for outcome in outcomes if _is_completed(outcome)]
    within = [
        outcome
        for outcome in completed
        if ttft_ms(outcome) <= slo_ttft_ms and (itl_ms(outcome) or 0) <= slo_itl_ms
    ]
    virtual_s = virtual_us / 1e6
    gaps = (itl_ms(outcome) for outcome in completed)
    return {
        "requests": len(outcomes),
        "completed": len(completed),
        "rejected": sum(outcome.rejected for outcome in outcomes),
        "reuse": _ratio(
            sum(outcome.cached_tokens for outcome in completed),
            sum(outcome.prompt_tokens for outcome in completed),
        ),
        "ttft_ms": _spread(ttft_ms(outcome) for outcome in completed),
        "itl_ms": _spread(gap for gap in gaps if gap is not None),
        "e2e_ms": _spread(_e2e_ms(outcome) for outcome in completed),
        "slo": {
            "ttft_ms": slo_ttft_ms,
            "itl_ms": slo_itl_ms,
            "share": _ratio(len(within), len(outcomes)),
        },
        "throughput": {
            "requests_per_s": _ratio(len(completed), virtual_s),
            "output_tokens_per_s": _ratio(sum(o.output_tokens for o in completed), virtual_s),
        },
        "instance_hours": round(instance_seconds / 3600, 4),
        "virtual_s": virtual_s,
        "wall_s": round(wall_s, 3),
        "digest": digest_of(outcomes),
    }


def rest_of(sleep_records: Sequence[SleepRecord]) -> dict[str, Any]:
    """Sleeps and wakes: how many, the longest of each, and the steps of that, in seconds."""
    found: dict[str, Any] = {}
    for name, fact in (("sleep", "InstanceSlept"), ("wake", "InstanceWoke")):
        mine = [r for r in sleep_records if r.fact == fact]
        longest = max(mine, key=lambda r: r.took_us, default=None)
        found[f"{name}s"] = len(mine)
        found[f"longest_{name}_s"] = longest.took_us / 1e6 if longest else None
        found[f"{name}_steps_s"] = {s: us / 1e6 for s, us in longest.steps_us} if longest else {}
    return found


def ttft_ms(outcome: RequestOutcome) -> float:
    """From arrival to the first token, which there must be."""
    assert outcome.first_us is not None
    return (outcome.first_us - outcome.arrived_us) / 1000


def itl_ms(outcome: RequestOutcome) -> float | None:
    """A completed request's mean gap between tokens; None if it has but one."""
    assert outcome.first_us is not None
    assert outcome.ended_us is not None
    if outcome.output_tokens < 2:
        return None
    return (outcome.ended_us - outcome.first_us) / 1000 / (outcome.output_tokens - 1)


def digest_of(outcomes: Iterable[RequestOutcome]) -> str:
    """Sixteen hex digits, equal wherever and whenever every outcome is, in the same order."""
    digest = xxhash.xxh3_64()
    for outcome in outcomes:
        instance = outcome.instance.encode()
        first_us = _NEVER_US if outcome.first_us is None else outcome.first_us
        ended_us = _NEVER_US if outcome.ended_us is None else outcome.ended_us
        packed = _PACKED.pack(
            outcome.arrived_us,
            outcome.prompt_tokens,
            outcome.output_tokens,
            outcome.cached_tokens,
            first_us,
            ended_us,
            outcome.rejected,
            len(instance),
        )
        digest.update(packed + instance)
    return digest.hexdigest()


def _is_completed(outcome: RequestOutcome) -> bool:
    ran = outcome.first_us is not None and outcome.ended_us is not None
    return ran and not outcome.rejected


def _e2e_ms(outcome: RequestOutcome) -> float:
    assert outcome.ended_us is not None
    return (outcome.ended_us - outcome.arrived_us) / 1000


def _spread(values_ms: Iterable[float]) -> dict[str, float | None]:
    """Mean and percentiles, to the microsecond."""
    values = np.fromiter(values_ms, float)
    if not values.size:
        return {"mean": None, "p50": None, "p90": None, "p99": None}
    p50, p90, p99 = np.percentile(values, (50, 90, 99))
    named = {"mean": values.mean(), "p50": p50, "p90": p90, "p99": p99}
    return {name: round(float(value), 3) for name, value in named.items()}


def _ratio(part: float, whole: float) -> float:
    return round(part / whole, 6) if whole else 0.0
