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
    """What is known where a policy is installed: profile, SLO, budget and traffic."""

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


def at_peak(inputs: PolicyInputs) -> dict[str, int]:
    """The whole budget, split as the peak wants it: each role gets what it needs, then more."""
    wanted = within(need(inputs.peak, inputs.timing, inputs.machine, inputs.slo), inputs.budget)
    spare = inputs.budget - sum(wanted.values())
    while spare > 0:
        # To the role that has the least beyond its need.
        scale = need(
            inputs.peak.times(1 + spare / inputs.budget), inputs.timing, inputs.machine, inputs.slo
        )
        role = max(wanted, key=lambda r: scale[r] / wanted[r])
        wanted[role] += 1
        spare -= 1
    return wanted


def concurrency(inputs: PolicyInputs) -> float:
    """Requests of mean length that a decode instance holds within the SLO."""
    mean, machine = inputs.mean, inputs.machine
    context = mean.prompt_tokens + mean.output_tokens / 2
    most = max(1, int(min(machine.kv_tokens / context, machine.max_running)))
    for count in range(most, 1, -1):
        if (
            inputs.timing.decode_step_ms(count * context / machine.kv_tokens, count)
            <= inputs.slo.tpot_ms
        ):
            return count
    return 1


def _floor(inputs: PolicyInputs) -> dict[str, int]:
    """Three eighths of the budget, as in llm-d's benchmark, split as the peak wants it."""
    total = max(2, round(inputs.budget * 3 / 8))
    peak = at_peak(inputs)
    prefill = max(1, round(total * peak["prefill"] / inputs.budget))
    return {"prefill": prefill, "decode": max(1, total - prefill)}


def argosy(inputs: PolicyInputs, start_s: float, name: str = "argosy") -> ArgosyPolicy:
    """Its own autoscaler; `argosy_cold` lets none sleep, and starts each as all others do."""
    return ArgosyPolicy(
        inputs.timing,
        inputs.machine,
        inputs.slo,
        inputs.budget,
        start_s,
        inputs.initial,
        name,
        inputs.every_s,
    )


POLICIES: dict[str, Callable[[PolicyInputs], ScalingPolicy]] = {
    "static": lambda inputs: Static(at_peak(inputs)),
    "hpa": lambda inputs: Hpa(concurrency(inputs), at_peak(inputs)),
    "keda_slo": lambda inputs: KedaSlo(inputs.slo, at_peak(inputs)),
    "keda_slo_floor": lambda inputs: KedaSlo(inputs.slo, at_peak(inputs), _floor(inputs)),
    "dynamo": lambda inputs: Dynamo(inputs.timing, inputs.machine, inputs.slo),
    "argosy": lambda inputs: argosy(inputs, inputs.wake_s),
    "argosy_cold": lambda inputs: argosy(inputs, inputs.warm_up_s, "argosy_cold"),
}
"""`oracle` is not here: it is made from runs (oracle.best)."""
