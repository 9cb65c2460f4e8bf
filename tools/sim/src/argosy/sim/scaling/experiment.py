"""One workload for several scaling policies: the same requests, profile, SLO and budget."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from argosy.domain.demand import Machine, Slo
from argosy.engine.profile import Profile
from argosy.sim.scaling import oracle
from argosy.sim.scaling.closed_form import need
from argosy.sim.scaling.flow_level import FlowSimulation, ScalingSetup
from argosy.sim.scaling.observation import ScalingPolicy
from argosy.sim.scaling.policies.argosy_autoscaler import ArgosyPolicy
from argosy.sim.scaling.policies.registry import POLICIES, PolicyInputs, at_peak
from argosy.sim.scaling.replicas import within
from argosy.sim.scaling.request_level import RequestSimulation
from argosy.sim.scaling.result import ScalingResult
from argosy.sim.scaling.scenarios import Scenario

REQUEST_LEVEL_MAX = 40_000
"""Traces with more requests run as flows only: request by request they take minutes each."""
EVERY_S = 5.0
"""Between two plans of the autoscaler, as in its settings."""
LONG_S, EVERY_LONG_S = 2 * 86_400.0, 60.0
"""Traces of more days plan every minute only, or a run takes half an hour."""
REQUEST_LEVEL_STEP = 1.08
"""How finely the oracle searches request by request: coarsely, as a run takes half a minute."""


class RunProgress(Protocol):
    """Shows people how far a run is."""

    def shown(self, title: str) -> AbstractContextManager[Callable[[float], None]]:
        """While a run lasts; what it yields is called with the share that is done."""
        ...


@dataclass(frozen=True)
class ScaleOptions:
    """What to run."""

    trace: Path | None
    lengths: Path | None
    replicas: int
    warm_up_s: float
    wake_s: float
    timing: str | None
    slo: Slo
    policies: list[str]
    seed: int


@dataclass
class Experiment:
    """One workload, and the runs of all policies through it."""

    scenario: Scenario
    setting: ScalingSetup
    inputs: PolicyInputs
    profile: Profile
    progress: RunProgress
    plans: oracle.Planner | None = None
    factors: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, by_request: bool) -> ScalingResult:
        """Run one policy, by request or as flows. The oracle takes several runs."""
        simulation = "request_level" if by_request else "flow_level"
        if name != oracle.OraclePolicy.name:
            return self._once(POLICIES[name](self.inputs), by_request, f"{name}, {simulation}")
        if self.plans is None:
            inputs = self.inputs
            self.plans = oracle.Planner(
                self.scenario.load, inputs.timing, inputs.machine, inputs.slo, at_peak(inputs)
            )
        start = self.factors.get("flow_level", 1.0)
        step, fine = (REQUEST_LEVEL_STEP, REQUEST_LEVEL_STEP) if by_request else (1.15, oracle.FINE)
        found, self.factors[simulation] = oracle.best(
            self.plans,
            self.setting.warm_up_s,
            oracle.TARGET,
            lambda policy: self._once(policy, by_request, f"{name}, {simulation}"),
            start,
            step,
            fine,
        )
        return found

    def _once(self, policy: ScalingPolicy, by_request: bool, title: str) -> ScalingResult:
        setting = self.setting
        if policy.name == "static":
            setting = replace(setting, initial=at_peak(self.inputs))
        if isinstance(policy, ArgosyPolicy):
            setting = replace(setting, warm_up_s=policy.start_s)
        simulation = (RequestSimulation if by_request else FlowSimulation)(
            self.scenario.load, setting, policy
        )
        with self.progress.shown(title) as progress:
            return simulation.run(progress)


def policy_names() -> list[str]:
    """All policies, in the order of the report."""
    return [*POLICIES, oracle.OraclePolicy.name]


def experiment_of(
    options: ScaleOptions, scenario: Scenario, profile: Profile, progress: RunProgress
) -> Experiment:
    """The experiment in which all policies get this workload."""
    machine = Machine(tokens_per_step=profile.tokens_per_step)
    initial = within(need(scenario.first, profile, machine, options.slo), options.replicas)
    inputs = PolicyInputs(
        profile,
        machine,
        options.slo,
        options.replicas,
        options.warm_up_s,
        options.wake_s,
        EVERY_S if scenario.load.span_s <= LONG_S else EVERY_LONG_S,
        scenario.mean,
        scenario.peak,
        initial,
    )
    setting = ScalingSetup(
        profile, machine, options.slo, options.replicas, options.warm_up_s, initial
    )
    return Experiment(scenario, setting, inputs, profile, progress)
