"""What the operator tells the autoscaler and the routers of a fleet file."""

from argosy.domain.demand import Slo
from argosy.fleet.file import FleetFile
from argosy.fleet.scaling import PoolScaling, SloSpec
from argosy.fleet.units import seconds, share
from argosy.wire.operator.v1 import events_pb2


def scaling_fact(fleet: FleetFile) -> events_pb2.Scaling:
    """Bounds, plans and objectives. Without a mode there are no bounds: nothing is scaled.

    The objectives are always told: routers place requests by them, scaled or not.
    """
    scaling, split = fleet.spec.scaling, fleet.spec.split
    slo = objectives(scaling.slo if scaling is not None else None)
    if scaling is None or not scaling.acting:
        return events_pb2.Scaling(
            idle_sleep_ms=fleet.idle_sleep_ms(),
            sleep_level=fleet.sleep_level(),
            ttft_ms=slo.ttft_ms,
            tpot_ms=slo.tpot_ms,
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
    fact = events_pb2.Scaling(
        mode=scaling.acting,
        pools=pools,
        budget=scaling.budget or sum(pool.max for pool in pools),
        silent=scaling.silent,
        idle_sleep_ms=scaling.idle_sleep_ms(),
        sleep_level=scaling.sleep_level,
        ttft_ms=slo.ttft_ms,
        tpot_ms=slo.tpot_ms,
        plans=scaling.plans,
        timezone=scaling.timezone,
        dwell_ms=round(1e3 * seconds(scaling.dwell)),
    )
    if split.ratio is not None:
        fact.ratio_min, fact.ratio_max = share(split.ratio.min), share(split.ratio.max)
    return fact


def objectives(given: SloSpec | None) -> Slo:
    """The objectives of a fleet file; the defaults where it has none."""
    given, usual = given or SloSpec(), Slo()
    return Slo(
        ttft_ms=1e3 * seconds(given.ttft_p99) if given.ttft_p99 else usual.ttft_ms,
        tpot_ms=1e3 * seconds(given.tpot_p99) if given.tpot_p99 else usual.tpot_ms,
    )
