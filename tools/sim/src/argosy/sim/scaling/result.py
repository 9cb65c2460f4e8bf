"""What a policy came to: how many callers got what was promised, for how many instances."""

from typing import Any

import msgspec

from argosy.sim.scaling.histogram import Numbers, percentile
from argosy.sim.scaling.replicas import Replicas, flaps


class Sample(msgspec.Struct, frozen=True):
    """How it was when the policy was asked, for pictures."""

    at_s: float
    arrived: float
    """Requests since the last one."""
    ready: dict[str, int]
    used: int


class ScalingResult(msgspec.Struct, frozen=True):
    """Of one policy in one simulation."""

    policy: str
    requests: int
    attainment: float
    """Share of all requests within both TTFT and TPOT."""
    mean_replicas: float
    """Used while the trace lasted: those that serve, start or drain."""
    instance_hours: float
    changes: int
    """Decisions that changed a role's count."""
    flaps: int
    """Scale-ups undone within ten minutes."""
    ttft_p90_ms: float
    tpot_p90_ms: float
    peak_replicas: int
    samples: list[Sample]

    def figures(self) -> dict[str, Any]:
        """For programs: without the samples."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        del found["samples"], found["policy"]
        return found


def result_of(
    policy: str,
    requests: float,
    attained: float,
    used_s: float,
    span_s: float,
    replicas: Replicas,
    ttft: Numbers,
    tpot: Numbers,
    samples: list[Sample],
) -> ScalingResult:
    """A result from a simulation's tallies."""
    in_span = [change for change in replicas.changes if change[0] <= span_s]
    return ScalingResult(
        policy=policy,
        requests=round(requests),
        attainment=round(attained / requests, 5) if requests else 0.0,
        mean_replicas=round(used_s / span_s, 3),
        instance_hours=round(used_s / 3600, 3),
        changes=len(in_span),
        flaps=flaps(in_span),
        ttft_p90_ms=round(percentile(ttft, 0.9), 1),
        tpot_p90_ms=round(percentile(tpot, 0.9), 2),
        peak_replicas=replicas.peak,
        samples=samples,
    )
