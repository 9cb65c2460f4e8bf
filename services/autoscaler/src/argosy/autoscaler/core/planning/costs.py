"""What a slot costs, by the number of instances: their time, and what callers are expected to miss.

Both in instance-seconds. To miss the SLO with every request of a slot costs `miss_price` times
the instances that would have been enough for it, so that small and large fleets are run alike.
What no number of instances could have met (prompts that take too long alone) is not counted, and
neither is the share that the SLO allows to be missed. Demand is a forecast: misses are averaged
over three of its quantiles.
"""

import math

import msgspec

from argosy.autoscaler.core.capacity import model
from argosy.autoscaler.core.state import ScalerLimits
from argosy.domain.demand import Demand, Machine, Slo
from argosy.domain.timing import Timing

POINTS = ((-1.2815515655446004, 0.3), (0.0, 0.4), (1.2815515655446004, 0.3))
"""Deviations in sigmas, and weights: the 10 %, 50 % and 90 % quantiles by Swanson's rule (Keefer
and Bodily, Management Science 29, 1983). Of what is further out nothing was measured."""
STEPS = 24
"""Rates are rounded up to a grid with this many points for each factor of e, 4 % apart: finer than
any forecast, and coarse enough that tables are used again."""
TABLES_MAX = 8192
QUIET = 0.01
"""Requests per second at which no request waits: one that is late then is late on any fleet."""
HOPELESS = 0.5
"""An SLO that this share of requests would miss on any fleet is doubled, up to RELAXED_MAX times:
else more instances would seem to change nothing."""
RELAXED_MAX = 10
OWED = 2.0
"""Of what is lacking where all is late: it is made up for later, while others wait. So even the
instances that are not enough are worth having."""


class CostContext(msgspec.Struct, frozen=True):
    """All that a role's costs follow from, beside the rate."""

    role: str
    """prefill, decode, or both: decode instances that prefill too, where there are no others."""
    mix: Demand
    """At no rate."""
    timing: Timing
    machine: Machine
    slo: Slo
    limits: ScalerLimits
    high: int
    """The most instances there may be."""


class RoleCosts:
    """One role's costs by count; each is worked out once."""

    def __init__(self, context: CostContext) -> None:
        self.context = context
        self._slots: dict[tuple[int, int], list[float]] = {}
        self._misses: dict[int, tuple[list[float], int]] = {}

    def of_slots(self, rates: list[float], sigmas: list[float]) -> list[list[float]]:
        """For 0 to `high` instances ready, slot by slot. sigmas: of the rates' logs."""
        return [self._of_slot(rate, sigma) for rate, sigma in zip(rates, sigmas, strict=True)]

    def _of_slot(self, rate: float, sigma: float) -> list[float]:
        slot_s = self.context.limits.slot_us / 1e6
        if rate <= 0:
            return [slot_s * count for count in range(self.context.high + 1)]
        key = (math.ceil(math.log(rate) * STEPS), round(sigma * STEPS))
        if key not in self._slots:
            if len(self._slots) >= TABLES_MAX:
                self._slots.clear()
            self._slots[key] = self._worked_out(*key)
        return self._slots[key]

    def _worked_out(self, level: int, spread: int) -> list[float]:
        limits = self.context.limits
        slot_s = limits.slot_us / 1e6
        found = [slot_s * count for count in range(self.context.high + 1)]
        for deviation, weight in POINTS if spread else ((0.0, 1.0),):
            at = level + round(spread * deviation)
            if at not in self._misses:
                if len(self._misses) >= TABLES_MAX:
                    self._misses.clear()
                self._misses[at] = excess(self.context, math.exp(at / STEPS))
            shares, need = self._misses[at]
            price = limits.miss_price * max(1, need) * slot_s * weight
            for count, share in enumerate(shares):
                owed = OWED * max(0, need - count) * slot_s * weight
                found[count] += (price + owed) * share
        return found


def excess(context: CostContext, rate: float) -> tuple[list[float], int]:
    """Shares missed beyond what is allowed, by count, and how many instances are enough."""
    demand = msgspec.structs.replace(context.mix, rate=rate)
    counts, quiet = [*range(context.high + 1)], msgspec.structs.replace(demand, rate=QUIET)
    slo, machine = context.slo, context.machine
    for _ in range(RELAXED_MAX):
        shares = late(context, demand, counts, slo)
        (never,) = late(context, quiet, [4 * context.high + 64], slo)
        if never < HOPELESS:
            break
        # No fleet could keep this promise: the next best one is planned for.
        slo = Slo(2 * slo.ttft_ms, 2 * slo.tpot_ms)
    allowed = context.limits.allowed_miss
    found = [max(0.0, share - never - allowed) for share in shares]
    need = next((count for count, share in enumerate(found) if share <= 0), 0)
    if not need:
        need_of = {"prefill": model.prefill_need, "decode": model.decode_need}
        parts = [fn for role, fn in need_of.items() if context.role in (role, "both")]
        need = max(fn(demand, context.timing, machine, slo, allowed) for fn in parts)
    # What is not served in a slot is late in the next: of two that are too few, more is better.
    return [share + max(0.0, 1 - count / need) for count, share in enumerate(found)], need


def late(context: CostContext, demand: Demand, counts: list[int], slo: Slo) -> list[float]:
    """Shares of requests that miss what this role is there for, by count."""
    miss_of = {"prefill": model.prefill_miss, "decode": model.decode_miss}
    parts = [
        fn(demand, counts, context.timing, context.machine, slo)
        for role, fn in miss_of.items()
        if context.role in (role, "both")
    ]
    return [min(1.0, sum(shares)) for shares in zip(*parts, strict=True)]
