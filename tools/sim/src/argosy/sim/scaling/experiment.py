"""One workload put to several scaling policies: the same callers, profile, SLO and budget."""

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

EVENT_REQUESTS = 40_000
"""Longer traces are run as flows only."""
EVERY_S = 5.0
"""Between two of Argosy's plans, as in its settings."""
LONG_S, EVERY_LONG_S = 2 * 86_400.0, 60.0
"""Traces of many days: every minute, or a run takes half an hour."""
EVENT_STEP = 1.08
"""How finely the oracle looks where a run takes half a minute."""


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

    work: Scenario
    setting: ScalingSetup
    given: PolicyInputs
    profile: Profile
    progress: RunProgress
    plans: oracle.Planner | None = None
    factors: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, event: bool) -> ScalingResult:
        """One policy in one simulation; the oracle takes several runs."""
        simulation = "event" if event else "flow"
        if name != oracle.OraclePolicy.name:
            return self._once(POLICIES[name](self.given), event, f"{name}, {simulation}")
        if self.plans is None:
            given = self.given
            self.plans = oracle.Planner(
                self.work.load, given.timing, given.machine, given.slo, at_peak(given)
            )
        start = self.factors.get("flow", 1.0)
        step, fine = (EVENT_STEP, EVENT_STEP) if event else (1.15, oracle.FINE)
        found, self.factors[simulation] = oracle.best(
            self.plans,
            self.setting.warm_up_s,
            oracle.TARGET,
            lambda policy: self._once(policy, event, f"{name}, {simulation}"),
            start,
            step,
            fine,
        )
        return found

    def _once(self, policy: ScalingPolicy, event: bool, title: str) -> ScalingResult:
        setting = self.setting
        if policy.name == "static":
            setting = replace(setting, initial=at_peak(self.given))
        if isinstance(policy, ArgosyPolicy):
            setting = replace(setting, warm_up_s=policy.start_s)
        simulation = (RequestSimulation if event else FlowSimulation)(
            self.work.load, setting, policy
        )
        with self.progress.shown(title) as progress:
            return simulation.run(progress)


def policy_names() -> list[str]:
    """All there are, in the order of the report."""
    return [*POLICIES, oracle.OraclePolicy.name]


def experiment_of(
    options: ScaleOptions, work: Scenario, profile: Profile, progress: RunProgress
) -> Experiment:
    """A workload as it is put to all policies."""
    machine = Machine(tokens_per_step=profile.tokens_per_step)
    initial = within(need(work.first, profile, machine, options.slo), options.replicas)
    given = PolicyInputs(
        profile,
        machine,
        options.slo,
        options.replicas,
        options.warm_up_s,
        options.wake_s,
        EVERY_S if work.load.span_s <= LONG_S else EVERY_LONG_S,
        work.mean,
        work.peak,
        initial,
    )
    setting = ScalingSetup(
        profile, machine, options.slo, options.replicas, options.warm_up_s, initial
    )
    return Experiment(work, setting, given, profile, progress)
