"""Scaling policies side by side: the same callers, profile, promise, warm-up and budget."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from argosy.autoscaler.core.demand import Demand, Machine, Slo
from argosy.cli.bench.scale_report import Runs, show
from argosy.cli.bench.scale_work import Work, ramp_work, trace_work
from argosy.cli.console import err, fail, out
from argosy.cli.sim.scaling import oracle
from argosy.cli.sim.scaling.argosy import Argosy
from argosy.cli.sim.scaling.capacity import need
from argosy.cli.sim.scaling.crew import within
from argosy.cli.sim.scaling.event import EventWorld
from argosy.cli.sim.scaling.flow import FlowWorld, Setting
from argosy.cli.sim.scaling.registry import POLICIES, Given, at_peak
from argosy.cli.sim.scaling.result import Result
from argosy.cli.sim.scaling.seen import Policy
from argosy.cli.sim.trace import TraceError
from argosy.engine.profile import Profile, load_profile

EVENT_REQUESTS = 40_000
"""Longer traces are run as flows only."""
EVERY_S = 5.0
"""Between two of Argosy's plans, as in its settings."""
LONG_S, EVERY_LONG_S = 2 * 86_400.0, 60.0
"""Traces of many days: every minute, or a run takes half an hour."""
EVENT_STEP = 1.08
"""How finely the oracle looks where a run takes half a minute."""


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
class Bench:
    """One workload, and the runs of all policies through it."""

    work: Work
    setting: Setting
    given: Given
    profile: Profile
    runs: Runs
    plans: oracle.Planner | None = None
    factors: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, event: bool) -> Result:
        """One policy in one world; the oracle takes several runs."""
        world = "event" if event else "flow"
        if name != oracle.Oracle.name:
            return self._once(POLICIES[name](self.given), event, f"{name}, {world}")
        if self.plans is None:
            given = self.given
            self.plans = oracle.Planner(
                self.work.load, given.timing, given.machine, given.slo, at_peak(given)
            )
        start = self.factors.get("flow", 1.0)
        step, fine = (EVENT_STEP, EVENT_STEP) if event else (1.15, oracle.FINE)
        found, self.factors[world] = oracle.best(
            self.plans, self.setting.warm_up_s, oracle.TARGET,
            lambda policy: self._once(policy, event, f"{name}, {world}"), start, step, fine,
        )  # fmt: skip
        return found

    def _once(self, policy: Policy, event: bool, title: str) -> Result:
        setting = self.setting
        if policy.name == "static":
            setting = replace(setting, initial=at_peak(self.given))
        if isinstance(policy, Argosy):
            setting = replace(setting, warm_up_s=policy.start_s)
        world = (EventWorld if event else FlowWorld)(self.work.load, setting, policy)
        with self.runs.shown(title) as progress:
            return world.run(progress)


def policy_names() -> list[str]:
    """All there are, in the order of the report."""
    return [*POLICIES, oracle.Oracle.name]


def bench_of(options: ScaleOptions, work: Work, profile: Profile, runs: Runs) -> Bench:
    """A workload as it is put to all policies."""
    machine = Machine(tokens_per_pass=profile.tokens_per_pass)
    initial = within(need(work.first, profile, machine, options.slo), options.replicas)
    given = Given(
        profile, machine, options.slo, options.replicas, options.warm_up_s, options.wake_s,
        EVERY_S if work.load.span_s <= LONG_S else EVERY_LONG_S, work.mean, work.peak, initial,
    )  # fmt: skip
    setting = Setting(profile, machine, options.slo, options.replicas, options.warm_up_s, initial)
    return Bench(work, setting, given, profile, runs)


def run_scale(options: ScaleOptions, *, as_json: bool, plot: Path | None) -> None:
    """Run every policy and report."""
    profile = load_profile(options.timing)
    machine = Machine(tokens_per_pass=profile.tokens_per_pass)
    began = time.perf_counter()
    try:
        if options.trace is None:
            work = ramp_work(options.seed)
        else:
            work = trace_work(
                options.trace, options.lengths, options.replicas, profile, machine, options.slo,
                options.seed, EVENT_REQUESTS,
            )  # fmt: skip
    except (TraceError, OSError) as error:
        fail(str(error))
    with Runs(err) as runs:
        bench = bench_of(options, work, profile, runs)
        flow = {name: bench.run(name, event=False) for name in options.policies}
        event = (
            {name: bench.run(name, event=True) for name in options.policies} if work.exact else {}
        )
    report = _report(options, work, bench, flow, event)
    report["wall_s"] = round(time.perf_counter() - began, 1)
    if plot is not None:
        from argosy.cli.bench.scale_plot import plot_scale

        plot_scale(work, event or flow, options.replicas, plot)
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        show(out, report)


def _report(
    options: ScaleOptions, work: Work, bench: Bench, flow: dict[str, Result],
    event: dict[str, Result],
) -> dict[str, Any]:  # fmt: skip
    best = event or flow
    report: dict[str, Any] = {
        "workload": {
            "source": work.source, "factor": round(work.factor, 6), "lengths": work.lengths,
            "requests": round(work.load.requests), "span_s": work.load.span_s,
            "mean": _words(work.mean), "peak": _words(work.peak),
        },
        "timing": options.timing or "dynamo-mocker",
        "slo": {"ttft_ms": options.slo.ttft_ms, "tpot_ms": options.slo.tpot_ms},
        "replicas": options.replicas, "warm_up_s": options.warm_up_s, "wake_s": options.wake_s,
        "initial": bench.given.initial, "at_peak": at_peak(bench.given), "seed": options.seed,
        "world": "event" if event else "flow",
        "policies": {name: result.figures() for name, result in best.items()},
    }  # fmt: skip
    if bench.factors:
        report["oracle"] = {"target": oracle.TARGET, "factors": bench.factors}
    if event:
        report["flow"] = {name: result.figures() for name, result in flow.items()}
        report["flow_error"] = {
            name: {
                "attainment": round(flow[name].attainment - result.attainment, 5),
                "instance_hours": round(flow[name].instance_hours / result.instance_hours - 1, 4),
            }
            for name, result in event.items()
        }
    return report


def _words(demand: Demand) -> dict[str, float]:
    return {name: round(value, 3) for name, value in msgspec.to_builtins(demand).items()}
