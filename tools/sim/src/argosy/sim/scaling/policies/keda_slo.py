"""llm-d's SLO law: KEDA with the endpoint picker's latencies.

llm-d/llm-d, guides/workload-autoscaling/README.slo-aware.md. s = P90 latency over SLO, at most
2, the mean of 45 s of samples 15 s apart. Of n instances, r of them ready: above 0.55 wish
n + ceil(n·(s·r/n / 0.55 - 1)), below 0.40 wish n - floor(n·(1 - s/0.40)). Then an HPA: up by
100 % or 4 in 60 s, least wish of 30 s; down by 1 in 120 s, highest wish of 180 s. The guide
scales one pool by the worse of TTFT and TPOT, and says of roles apart that "TTFT would drive
the prefill pool and TPOT the decode pool": so it is here, where a pool also answers for the
part of TTFT that is spent in it, or a decode pool without room would make prefill grow. Its
benchmark had a floor of 3 of 8 instances; `floor` gives one, by role.
"""

import math
from collections import deque

from argosy.domain.demand import Slo
from argosy.sim.scaling.observation import ROLES, Observation
from argosy.sim.scaling.policies.hpa_behaviour import HpaBehaviour, HpaLimits

UP_ABOVE, DOWN_BELOW = 0.55, 0.40
CLAMP = 2.0
SAMPLES = 3
UP = HpaLimits(window_s=30, period_s=60, percent=100, pods=4)
DOWN = HpaLimits(window_s=180, period_s=120, pods=1)


class KedaSlo:
    """See the module. ceiling, floor: maxReplicas and minReplicas by role."""

    every_s = 15.0

    def __init__(
        self, slo: Slo, ceiling: dict[str, int], floor: dict[str, int] | None = None
    ) -> None:
        self.name = "keda_slo" if floor is None else "keda_slo_floor"
        self._slo = slo
        low = floor or dict.fromkeys(ROLES, 1)
        self._pools = {
            role: _Pool(HpaBehaviour(UP, DOWN, low[role], ceiling[role])) for role in ROLES
        }

    def decide(self, observation: Observation) -> dict[str, int]:
        """Each pool by its own latency."""
        ttft_ms, tpot_ms = self._slo.ttft_ms, self._slo.tpot_ms
        raw = {
            "prefill": observation.prefilled_p90_ms / ttft_ms,
            "decode": max(observation.joined_p90_ms / ttft_ms, observation.tpot_p90_ms / tpot_ms),
        }
        return {
            role: pool.decide(observation, role, raw[role]) for role, pool in self._pools.items()
        }


class _Pool:
    def __init__(self, behaviour: HpaBehaviour) -> None:
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        self._behaviour = behaviour

    def decide(self, observation: Observation, role: str, raw: float) -> int:
        self._samples.append(min(raw, CLAMP))
        ready = observation.ready[role]
        there = ready + observation.warming[role]
        wish = desired(sum(self._samples) / len(self._samples), there, ready)
        return self._behaviour.settle(observation.now_s, there, wish)


def desired(signal: float, there: int, ready: int) -> int:
    """The law itself: instances wished for."""
    credit = ready / there if 0 < ready < there else 1.0
    if signal > UP_ABOVE:
        # The credit takes from the ask what is warming; it never makes of it a scale-down.
        return there + max(0, math.ceil(there * (signal * credit / UP_ABOVE - 1)))
    if signal < DOWN_BELOW:
        return there - math.floor(there * (1 - signal / DOWN_BELOW))
    return there
