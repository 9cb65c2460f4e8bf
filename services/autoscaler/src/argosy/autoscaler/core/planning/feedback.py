"""What requests were late, against what the model said would be: the plan's correction.

A model of a fleet is wrong somewhere. At the end of each slot in which nothing changed, the share
of requests that missed the SLO is held against what the model says for that slot's rate and
instances. Where they disagree, there is a factor on the rate under which they would agree; the
role's factor goes a step of it, quickly up and slowly down, and plans are made for so much more.
Within what the model explains the factor stays.

Lateness to the first token is prefill's, unless decode had no room: then it is decode's.
"""

from argosy.autoscaler.core import events
from argosy.autoscaler.core.capacity import model
from argosy.autoscaler.core.observe import members
from argosy.autoscaler.core.planning.expected_demand import likely
from argosy.autoscaler.core.state import AutoscalerState, SloCorrection
from argosy.domain.histogram import bucket_of, since

UP, DOWN, FADE = 1.1, 0.98, 0.9998
"""A factor grows by at most a tenth in a slot, and shrinks by a fiftieth: too few instances cost
callers, too many only money. Where there is nothing to learn it fades, by half in sixty
hours."""
LEAST, MOST = 0.8, 2.5
"""A fleet that needs more than that is not explained by load: something else is wrong with it."""
TOLERANCE = 0.02
"""Of requests: what model and measurement may differ by before the factor moves. A slot of some
hundred requests is no more exact than that."""
FEWEST = 30
"""Requests of a slot from which a share that is late says anything."""
SOURCES_MAX = 4096
"""Processes whose counts are kept: four thousand instances; beyond, the oldest is forgotten."""


def late_seen(state: AutoscalerState, source: str, kind: str, buckets: list[int]) -> None:
    """Count what came since, and what of it was beyond the SLO. kind: ttft or tpot."""
    if state.scaling is None or not all(count >= 0 for count in buckets):
        return
    key = f"{kind} {source}"
    before = state.late_counts.get(key)
    if before is None and len(state.late_counts) >= SOURCES_MAX:
        del state.late_counts[next(iter(state.late_counts))]
    state.late_counts[key] = list(buckets)
    if before is None:
        return
    grown = since(buckets, before)
    if min(grown, default=0) < 0:
        return  # It counts from the start again.
    slo = state.scaling.slo
    first_late = bucket_of(slo.ttft_ms if kind == "ttft" else slo.tpot_ms) + 1
    role = "decode" if kind == "tpot" or members.no_room(state) else "prefill"
    correction = state.corrections.setdefault(role, SloCorrection())
    correction.counted += sum(grown)
    correction.late += sum(grown[first_late:])


def trouble(state: AutoscalerState, role: str) -> bool:
    """Whether more requests are late by this role, in this slot or the one before, than may be."""
    correction = state.corrections.get(role, SloCorrection())
    worst = max(late_share(correction), correction.late_before)
    return worst > state.limits.allowed_miss + TOLERANCE


def late_share(correction: SloCorrection) -> float:
    """Of the slot's requests so far; of few nothing is known."""
    return correction.late / correction.counted if correction.counted >= FEWEST else 0.0


def slot_ended(state: AutoscalerState, rate: float) -> None:
    """Learn from the slot, if nothing changed in it nor in the one before, and begin the next."""
    backlog = sum(router.queued for router in state.routers.values())
    for role in events.ROLES:
        correction = state.corrections.setdefault(role, SloCorrection())
        ready = sum(map(members.ready, members.of_role(state, role).values()))
        still = correction.still + 1 if ready == correction.ready and ready else 0
        if still > 1 and backlog >= correction.backlog and correction.counted >= FEWEST:
            learn(state, role, correction, rate)
        state.corrections[role] = SloCorrection(
            factor=correction.factor,
            ready=ready,
            still=still,
            backlog=backlog,
            late_before=late_share(correction),
        )


def learn(state: AutoscalerState, role: str, correction: SloCorrection, rate: float) -> None:
    """One step towards the factor under which model and measurement agree."""
    base, scaling = state.baselines.get(role), state.scaling
    if base is None or base.timing is None or scaling is None or rate <= 0:
        return
    miss_of = model.prefill_miss if role == "prefill" else model.decode_miss
    asked = likely(state.mix).at(rate * correction.factor)
    share = correction.late / correction.counted
    (said,) = miss_of(asked, [correction.ready], base.timing, base.machine, scaling.slo)
    if share > said + TOLERANCE:
        correction.factor = min(MOST, correction.factor * UP)
    elif share < said - TOLERANCE:
        correction.factor = max(LEAST, correction.factor * DOWN)
    else:
        correction.factor = 1 + (correction.factor - 1) * FADE
