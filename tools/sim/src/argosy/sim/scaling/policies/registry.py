"""Every policy by name. Each is made anew for a run: policies have memory."""

from collections.abc import Callable
from dataclasses import dataclass

from argosy.domain.demand import Demand, Machine, Slo
from argosy.domain.timing import Timing
from argosy.sim.scaling.closed_form import need
from argosy.sim.scaling.observation import ScalingPolicy
from argosy.sim.scaling.policies.argosy_autoscaler import ArgosyPolicy
from argosy.sim.scaling.policies.dynamo import Dynamo
from argosy.sim.scaling.policies.hpa import Hpa
from argosy.sim.scaling.policies.keda_slo import KedaSlo
from argosy.sim.scaling.policies.static import Static
from argosy.sim.scaling.replicas import within


@dataclass(frozen=True)
class PolicyInputs:
    """What whoever installs a policy knows: the profile, the promise, the budget, the traffic."""

    timing: Timing
    machine: Machine
    slo: Slo
    budget: int
    warm_up_s: float
    wake_s: float
    """What an instance that sleeps takes to be back, where a policy lets any sleep."""
    every_s: float
    """Between two plans of Argosy's: longer for traces of many days."""
    mean: Demand
    """Of the whole trace: what an operator tunes for."""
    peak: Demand
    initial: dict[str, int]
    """Instances there are at first."""


def at_peak(given: PolicyInputs) -> dict[str, int]:
    """The whole budget, split as the peak wants it: each role gets what it needs, then more."""
    wanted = within(need(given.peak, given.timing, given.machine, given.slo), given.budget)
    spare = given.budget - sum(wanted.values())
    while spare > 0:
        # To whoever has the least beyond its need.
        scale = need(
            given.peak.times(1 + spare / given.budget), given.timing, given.machine, given.slo
        )
        role = max(wanted, key=lambda r: scale[r] / wanted[r])
        wanted[role] += 1
        spare -= 1
    return wanted


def concurrency(given: PolicyInputs) -> float:
    """Requests of mean length that a decode instance holds within the SLO."""
    mean, machine = given.mean, given.machine
    context = mean.prompt_tokens + mean.output_tokens / 2
    most = max(1, int(min(machine.kv_tokens / context, machine.max_running)))
    for count in range(most, 1, -1):
        if (
            given.timing.decode_step_ms(count * context / machine.kv_tokens, count)
            <= given.slo.tpot_ms
        ):
            return count
    return 1


def _floor(given: PolicyInputs) -> dict[str, int]:
    """Three eighths of the budget, as in llm-d's benchmark, split as the peak wants it."""
    total = max(2, round(given.budget * 3 / 8))
    peak = at_peak(given)
    prefill = max(1, round(total * peak["prefill"] / given.budget))
    return {"prefill": prefill, "decode": max(1, total - prefill)}


def argosy(given: PolicyInputs, start_s: float, name: str = "argosy") -> ArgosyPolicy:
    """Its own autoscaler; `argosy_cold` lets none sleep, and starts each as all others do."""
    return ArgosyPolicy(
        given.timing,
        given.machine,
        given.slo,
        given.budget,
        start_s,
        given.initial,
        name,
        given.every_s,
    )


POLICIES: dict[str, Callable[[PolicyInputs], ScalingPolicy]] = {
    "static": lambda given: Static(at_peak(given)),
    "hpa": lambda given: Hpa(concurrency(given), at_peak(given)),
    "keda_slo": lambda given: KedaSlo(given.slo, at_peak(given)),
    "keda_slo_floor": lambda given: KedaSlo(given.slo, at_peak(given), _floor(given)),
    "dynamo": lambda given: Dynamo(given.timing, given.machine, given.slo),
    "argosy": lambda given: argosy(given, given.wake_s),
    "argosy_cold": lambda given: argosy(given, given.warm_up_s, "argosy_cold"),
}
"""`oracle` is not here: it is made from runs (oracle.best)."""
