"""Who knows the future: about the fewest instance-hours that attain a share of requests.

For each minute of the true demand, the least counts that a capacity model asks for; ordered a
warm-up ahead, and kept when they will be wanted again before a new one could be warm. One
factor on the demand makes up for what the model gets wrong: the least is taken, to 3 %, whose
plan attains the share in the simulation itself. Nearly a bound, not one: another split of misses
over time may cost a little less.
"""

import math
from collections.abc import Callable

import numpy as np

from argosy.domain.demand import Demand, Machine, Slo
from argosy.domain.timing import Timing
from argosy.sim.scaling.closed_form import decode_need, prefill_need
from argosy.sim.scaling.histogram import Numbers
from argosy.sim.scaling.observation import ROLES, Observation
from argosy.sim.scaling.result import ScalingResult
from argosy.sim.scaling.workload import Workload

SPAN_S = 60.0
LOWEST, HIGHEST = 0.5, 3.0
TARGET = 0.99
FINE = 1.03


class OraclePolicy:
    """Follows a plan of counts by span."""

    name = "oracle"
    every_s = 15.0

    def __init__(self, plan: dict[str, list[int]], warm_up_s: float) -> None:
        self._plan = plan
        self._ahead_s = warm_up_s + self.every_s

    def decide(self, observation: Observation) -> dict[str, int]:
        """The most that is wanted from a span ago until a new instance could be there."""
        first = max(0, int(observation.now_s / SPAN_S) - 1)
        last = int((observation.now_s + self._ahead_s) / SPAN_S) + 1
        return {role: max(self._plan[role][first:last], default=1) for role in ROLES}


class Planner:
    """Makes plans for a workload, with at most this many replicas of a role."""

    def __init__(
        self, workload: Workload, timing: Timing, machine: Machine, slo: Slo, most: dict[str, int]
    ) -> None:
        self._mean = workload.demand(workload.span_s)[0]
        spans = workload.demand(SPAN_S)
        mean = self._mean
        self._rates = {
            "prefill": np.array([d.rate * d.prompt_tokens / mean.prompt_tokens for d in spans]),
            "decode": np.array([d.rate * kv(d) / kv(mean) for d in spans]),
        }
        """Of requests of mean length that would be as much work."""
        self._most = {
            "prefill": _most_rates(
                mean, most["prefill"], lambda d: prefill_need(d, timing, machine, slo)
            ),
            "decode": _most_rates(
                mean, most["decode"], lambda d: decode_need(d, timing, machine, slo)
            ),
        }

    def plan(self, factor: float) -> dict[str, list[int]]:
        """Counts by span, as if there were `factor` times the demand."""
        return {
            role: [n + 1 for n in np.searchsorted(self._most[role], rates * factor).tolist()]
            for role, rates in self._rates.items()
        }


def kv(demand: Demand) -> float:
    """Token-steps of KV that a request takes."""
    return demand.output_tokens * (demand.prompt_tokens + demand.output_tokens / 2)


def _most_rates(mean: Demand, budget: int, need: Callable[[Demand], int]) -> Numbers:
    """The highest rate that one instance serves, that two do, and so on."""
    found: list[float] = []
    for count in range(1, budget):
        low = found[-1] if found else 0.0
        high = max(1.0, 2 * low)
        while need(mean.times(high / mean.rate)) <= count:
            high *= 2
        while high - low > 0.01 * high:
            middle = (low + high) / 2
            if need(mean.times(middle / mean.rate)) <= count:
                low = middle
            else:
                high = middle
        found.append(low)
    return np.array(found)


def best(
    plans: Planner,
    warm_up_s: float,
    target: float,
    run: Callable[[OraclePolicy], ScalingResult],
    start: float = 1.0,
    step: float = 1.15,
    fine: float = FINE,
) -> tuple[ScalingResult, float]:
    """The run of the least factor that attains the target, to `fine`; and the factor.

    Steps up or down from `start` until it lies between two, then by halves. Of the highest
    factor if none attains it.
    """
    low = high = 0.0
    found: ScalingResult | None = None
    factor = start
    while True:
        result = run(OraclePolicy(plans.plan(factor), warm_up_s))
        if result.attainment >= target:
            found, high = result, factor
        else:
            low = factor
        if found is None:
            if factor > HIGHEST:
                return result, factor
            factor *= step
        elif not low:
            if factor < LOWEST:
                return found, high
            factor /= step
        elif high / low <= fine * 1.0001:
            return found, high
        else:
            factor = math.sqrt(low * high)
