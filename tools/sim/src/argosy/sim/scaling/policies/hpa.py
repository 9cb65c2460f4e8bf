"""Kubernetes' HorizontalPodAutoscaler on queue depth, as llm-d's guides set it up.

Sync period 15 s, tolerance 0.1, scale-up 100 % or 4 pods per 15 s at once, scale-down by the
highest wish of 300 s: Kubernetes' defaults. Metrics and targets as AverageValue (llm-d/llm-d,
guides/workload-autoscaling/keda-epp-queue): requests queued, one per instance; requests
running, a number to be set "below the concurrency at which your model's latency begins to
degrade" (README.hpa-epp.md); the greater wish counts. With roles apart, prefill follows the
queue and what is being prefilled, at 80 % of one prompt an instance, and decode what runs or
waits there, at 80 % of what an instance holds within the SLO.
"""

from argosy.sim.scaling.observation import Observation
from argosy.sim.scaling.policies.hpa_behaviour import HpaBehaviour, HpaLimits

QUEUED_PER_INSTANCE = 1.0
RUNNING_SHARE = 0.8
UP = HpaLimits(window_s=0, period_s=15, percent=100, pods=4)
DOWN = HpaLimits(window_s=300, period_s=15, percent=100)


class Hpa:
    """See the module. concurrency: requests a decode instance holds within the SLO.

    ceiling: maxReplicas by role.
    """

    name = "hpa"
    every_s = 15.0

    def __init__(self, concurrency: float, ceiling: dict[str, int]) -> None:
        self._running_each = max(1.0, RUNNING_SHARE * concurrency)
        self._prefill = HpaBehaviour(UP, DOWN, 1, ceiling["prefill"])
        self._decode = HpaBehaviour(UP, DOWN, 1, ceiling["decode"])

    def decide(self, observation: Observation) -> dict[str, int]:
        """Totals over targets, rounded up by what Kubernetes does with them."""
        prefill = max(
            observation.queued_requests / QUEUED_PER_INSTANCE,
            observation.prefilling_requests / RUNNING_SHARE,
        )
        decode = (observation.running_requests + observation.waiting_decode) / self._running_each
        there = {
            role: observation.ready[role] + observation.warming[role] for role in observation.ready
        }
        return {
            "prefill": self._prefill.settle(observation.now_s, there["prefill"], prefill),
            "decode": self._decode.settle(observation.now_s, there["decode"], decode),
        }
