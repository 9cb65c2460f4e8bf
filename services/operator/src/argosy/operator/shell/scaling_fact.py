"""What the operator tells the autoscaler of a fleet file."""

from argosy.domain.demand import Slo
from argosy.fleet.file import FleetFile
from argosy.fleet.scaling import PoolScaling, SloSpec
from argosy.fleet.units import seconds, share
from argosy.wire.operator.v1 import events_pb2


def scaling_fact(fleet: FleetFile) -> events_pb2.Scaling:
    """What concerns the autoscaler. Without a mode it is only told when all are to sleep."""
    scaling, split = fleet.spec.scaling, fleet.spec.split
    if scaling is None or not scaling.acting:
        return events_pb2.Scaling(
            idle_sleep_ms=fleet.idle_sleep_ms(), sleep_level=fleet.sleep_level()
        )
    replicas = {"prefill": split.prefill.replicas, "decode": split.decode.replicas}
    pools = []
    for role, count in replicas.items():
        pool: PoolScaling = getattr(scaling, role)
        # A role that the fleet does without is not brought in by being left out here.
        least = pool.min if count or role in scaling.model_fields_set else 0
        high = pool.max if pool.max is not None else max(count, least)
        pools.append(
            events_pb2.PoolBounds(role=role, replicas=count, min=min(pool.min, high), max=high)
        )
    slo = scaling.slo or SloSpec()
    fact = events_pb2.Scaling(
        mode=scaling.acting,
        pools=pools,
        budget=scaling.budget or sum(pool.max for pool in pools),
        silent=scaling.silent,
        idle_sleep_ms=scaling.idle_sleep_ms(),
        sleep_level=scaling.sleep_level,
        ttft_ms=1e3 * seconds(slo.ttft_p99) if slo.ttft_p99 else Slo().ttft_ms,
        tpot_ms=1e3 * seconds(slo.tpot_p99) if slo.tpot_p99 else Slo().tpot_ms,
        plans=scaling.plans,
        timezone=scaling.timezone,
        dwell_ms=round(1e3 * seconds(scaling.dwell)),
    )
    if split.ratio is not None:
        fact.ratio_min, fact.ratio_max = share(split.ratio.min), share(split.ratio.max)
    return fact
