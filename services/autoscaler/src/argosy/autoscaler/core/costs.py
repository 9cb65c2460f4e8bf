"""What a slot costs with so many instances: their time, and what callers are expected to miss.

Both in instance-seconds. To miss the SLO with every request of a slot costs `miss_price` times
the instances that would have been enough for it, so that small and large fleets are run alike.
What no number of instances could have met (prompts that take too long alone) is not counted, and
neither is the share that the SLO allows to be missed. Demand is a forecast: misses are averaged
over a log-normal by three points (Gauss-Hermite).
"""

import math
from collections.abc import Callable

from argosy.autoscaler.core import model
from argosy.autoscaler.core.demand import Demand, Slo
from argosy.autoscaler.core.state import Baseline, Limits

POINTS = ((-math.sqrt(3), 1 / 6), (0.0, 2 / 3), (math.sqrt(3), 1 / 6))
"""Deviations in sigmas, and weights: exact for polynomials of up to the fifth degree."""
STEPS = 24
"""Rates are taken from a grid of so many points for each factor of e: 4 % apart."""
TABLES_MAX = 8192
HOPELESS = 0.5
"""An SLO that so many requests would miss on any fleet is doubled, up to RELAXED_MAX times."""
RELAXED_MAX = 10

Miss = Callable[..., list[float]]


class Costs:
    """Costs by count, for one role and mix; keeps what it worked out. A pure function, remembered.

    The tables are worked out anew whenever mix, baseline or SLO have moved by a few percent.
    """

    def __init__(self) -> None:
        self._tables: dict[tuple[object, ...], tuple[list[float], int]] = {}

    def of_slot(
        self, role: str, demand: Demand, sigma: float, base: Baseline, slo: Slo, limits: Limits,
        high: int,
    ) -> list[float]:  # fmt: skip
        """Costs of a slot for 0 to `high` instances ready in it."""
        slot_s = limits.slot_us / 1e6
        found = [slot_s * count for count in range(high + 1)]
        if demand.rate <= 0 or base.timing is None:
            return found
        for deviation, weight in POINTS if sigma > 0.01 else ((0.0, 1.0),):
            rate = demand.rate * math.exp(sigma * deviation)
            excess, need = self._excess(role, demand, rate, base, slo, limits, high)
            price = limits.miss_price * max(1, need) * slot_s * weight
            for count, share in enumerate(excess):
                found[count] += price * share
        return found

    def _excess(
        self, role: str, demand: Demand, rate: float, base: Baseline, slo: Slo, limits: Limits,
        high: int,
    ) -> tuple[list[float], int]:  # fmt: skip
        """Shares missed beyond what is allowed, by count, and how many are enough."""
        level = math.ceil(math.log(rate) * STEPS)
        key = (role, level, demand.times(0), base.timing, base.machine, slo, high)
        known = self._tables.get(key)
        if known is None:
            asked = demand.times(math.exp(level / STEPS) / demand.rate)
            known = excess(role, asked, base, slo, limits, high)
            if len(self._tables) >= TABLES_MAX:
                self._tables.clear()
            self._tables[key] = known
        return known


def excess(
    role: str, demand: Demand, base: Baseline, slo: Slo, limits: Limits, high: int
) -> tuple[list[float], int]:
    """See `Costs`."""
    assert base.timing is not None
    counts = [*range(high + 1), 4 * high + 64]
    for _ in range(RELAXED_MAX):
        shares = miss_of(role)(demand, counts, base.timing, base.machine, slo)
        never = shares.pop()
        if never < HOPELESS:
            break
        # Nobody could keep this promise: the next best one is planned for.
        slo = Slo(2 * slo.ttft_ms, 2 * slo.tpot_ms)
    found = [max(0.0, share - never - limits.allowed_miss) for share in shares]
    need = next((count for count, share in enumerate(found) if share <= 0), high)
    return found, need


def miss_of(role: str) -> Miss:
    """What share of requests misses its part of the SLO, by count."""
    return model.prefill_miss if role == "prefill" else model.decode_miss
