"""Staggered batches against immediate dispatch, in virtual time.

Prefill: instances of several data-parallel ranks in lockstep, answers of one token,
no shared prefixes, Poisson arrivals from a tenth of capacity to beyond it, the same
requests for every policy. Capacity: every rank always prefilling full steps.
Goodput (DistServe, OSDI '24): the highest load at which 90 % of requests meet the TTFT
objective, interpolated between the loads that were run.

Balance: over all steps, the most prompt tokens of a rank over the mean of ranks, each
step weighted by its tokens: what lockstep makes of the work. Prefill's is taken at
capacity, where steps decide throughput. Decode's is the same of KV tokens held by
answers. Both while requests arrive, the first fifth of them left out: neither filling
up nor running dry is what a scheduler is chosen for.
"""

import json
import random
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rich.progress import Progress
from rich.table import Table

from argosy.bench.router.lengths import lengths
from argosy.cli import console
from argosy.engine.profile import Profile
from argosy.engine.sim.scheduler import EngineStep
from argosy.router.policies import policy_names
from argosy.sim.fleet.simulation import Simulation
from argosy.sim.fleet.spec import SimFleet
from argosy.sim.reports.outcome import RequestOutcome
from argosy.sim.traces.trace import TraceRequest

BASELINE = "round_robin"
OURS = "least_cost"
INSTANCES = 8
DP_RANKS = 4
LOADS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1)
COMPARED_LOAD = 0.8
ATTAINED = 0.9
DECODES = 2
WARM_UP_SHARE = 0.2


@dataclass
class Balance:
    """Sums over steps of the heaviest rank's tokens, and of the ranks' mean."""

    heaviest: float = 0
    mean: float = 0

    def add(self, tokens: list[int]) -> None:
        """One step, by rank."""
        self.heaviest += max(tokens)
        self.mean += sum(tokens) / len(tokens)

    @property
    def max_over_mean(self) -> float:
        """1 is even."""
        return self.heaviest / self.mean if self.mean else 1.0


@dataclass
class StaggerRun:
    """One policy at one load."""

    policy: str
    load: float
    ttft_mean_ms: float
    attained: float
    balance: Balance = field(default_factory=Balance)


def capacity_tokens_per_s(profile: Profile) -> float:
    """Prompt tokens per second of all ranks, in full steps."""
    tokens = profile.tokens_per_step
    return INSTANCES * DP_RANKS * tokens / profile.prefill_step_ms(tokens) * 1e3


def workload(
    trace: Path | None, requests: int, tokens_per_s: float, seed: int, *, answers: bool
) -> list[TraceRequest]:
    """Poisson arrivals that bring this many prompt tokens per second."""
    drawn = list(islice(lengths(trace, seed), requests))
    mean = sum(prompt for prompt, _ in drawn) / len(drawn)
    chance = random.Random(seed + 1)  # noqa: S311 - a workload, not a secret
    at_s, found = 0.0, []
    for prompt, answer in drawn:
        at_s += chance.expovariate(tokens_per_s / mean)
        found.append(TraceRequest(round(at_s * 1e6), prompt, answer if answers else 1, []))
    return found


def run_prefill(
    policy: str, load: float, requests: list[TraceRequest], slo_ms: float
) -> StaggerRun:
    """Every request's TTFT, and the balance of steps."""
    fleet = SimFleet(aggregated=INSTANCES, dp_ranks=DP_RANKS, policy=policy)
    simulation = Simulation(requests, fleet)
    balance = Balance()

    steady = steady_us(requests)

    def on_step(_role: str, done: EngineStep) -> None:
        tokens = [share.prefill_tokens if share else 0 for share in done.shares]
        if any(tokens) and done.started_us in steady:
            balance.add(tokens)

    simulation.instance_ports.on_step = on_step
    simulation.run()
    waits = [ttft_ms(sim_request.outcome) for sim_request in simulation.requests]
    attained = sum(wait <= slo_ms for wait in waits) / len(waits)
    return StaggerRun(policy, load, sum(waits) / len(waits), attained, balance)


def steady_us(requests: list[TraceRequest]) -> range:
    """From when the fleet has filled up until the last arrival."""
    first = requests[int(len(requests) * WARM_UP_SHARE)].arrived_us
    return range(first, requests[-1].arrived_us)


def ttft_ms(outcome: RequestOutcome) -> float:
    """Of a request that was served, as all are here."""
    assert outcome.first_us is not None
    return (outcome.first_us - outcome.arrived_us) / 1e3


def run_decode(requests: list[TraceRequest]) -> Balance:
    """Balance of KV between the ranks of decode instances, prefill being plentiful."""
    fleet = SimFleet(prefill=INSTANCES, decode=DECODES, dp_ranks=DP_RANKS)
    simulation = Simulation(requests, fleet)
    balance = Balance()

    steady = steady_us(requests)

    def on_step(role: str, done: EngineStep) -> None:
        answers = [share.decoding if share else [] for share in done.shares]
        if role == "decode" and done.started_us in steady:
            balance.add([sum(s.tokens for s in rank) * done.steps for rank in answers])

    simulation.instance_ports.on_step = on_step
    simulation.run()
    return balance


def goodput(runs: list[StaggerRun]) -> float:
    """The highest load with ATTAINED of the requests within the objective; see the module."""
    best = 0.0
    for before, after in zip([None, *runs], runs, strict=False):
        if after.attained >= ATTAINED:
            best = after.load
        elif before is not None and before.attained >= ATTAINED:
            part = (before.attained - ATTAINED) / (before.attained - after.attained)
            return before.load + part * (after.load - before.load)
    return best


def run_stagger(
    trace: Path | None, requests: int, slo_ttft_ms: float, seed: int, *, as_json: bool
) -> None:
    """Run every policy at every load, and report."""
    profile = Profile()
    capacity = capacity_tokens_per_s(profile)
    runs: list[StaggerRun] = []
    with Progress(console=console.err, transient=True) as progress:
        task = progress.add_task("simulating", total=len(LOADS) * len(policy_names()) + 1)
        for load in LOADS:
            work = workload(trace, requests, load * capacity, seed, answers=False)
            for policy in policy_names():
                runs.append(run_prefill(policy, load, work, slo_ttft_ms))
                progress.advance(task)
        # Half of what the decode ranks could hold at once, if each answer took 10 s.
        decode_work = workload(trace, requests, decode_tokens_per_s(), seed, answers=True)
        decode = run_decode(decode_work)
    report = report_of(runs, decode, slo_ttft_ms, requests)
    if as_json:
        print(json.dumps(report))
    else:
        show(report)


def decode_tokens_per_s() -> float:
    """Prompt tokens per second that keep decode ranks about half full."""
    fleet = SimFleet()
    return 0.5 * DECODES * DP_RANKS * fleet.kv_tokens / 10


def report_of(
    runs: list[StaggerRun], decode: Balance, slo_ttft_ms: float, requests: int
) -> dict[str, Any]:
    """The figures, and every run they come from."""
    by = {(run.policy, run.load): run for run in runs}
    ours, base = by[OURS, COMPARED_LOAD], by[BASELINE, COMPARED_LOAD]
    versus = {
        load: by[OURS, load].ttft_mean_ms
        / min(by[p, load].ttft_mean_ms for p in policy_names() if p != OURS)
        for load in LOADS
    }
    good = {p: goodput([run for run in runs if run.policy == p]) for p in policy_names()}
    return {
        "instances": INSTANCES,
        "dp_ranks": DP_RANKS,
        "requests": requests,
        "slo_ttft_ms": slo_ttft_ms,
        "compared_load": COMPARED_LOAD,
        "ttft_mean_ratio": ours.ttft_mean_ms / base.ttft_mean_ms,
        "goodput_load": good,
        "goodput_ratio": good[OURS] / good[BASELINE] if good[BASELINE] else None,
        "worst_vs_best_baseline": max(versus.values()),
        "versus_best_baseline": {str(load): ratio for load, ratio in versus.items()},
        "dp_prefill_max_over_mean": by[OURS, 1.0].balance.max_over_mean,
        "dp_decode_max_over_mean": decode.max_over_mean,
        "runs": [
            {
                "policy": run.policy,
                "load": run.load,
                "ttft_mean_ms": run.ttft_mean_ms,
                "attained": run.attained,
                "dp_max_over_mean": run.balance.max_over_mean,
            }
            for run in runs
        ],
    }


def show(report: dict[str, Any]) -> None:
    """Mean TTFT by load and policy, and the figures."""
    table = Table(box=None, title="mean TTFT, ms (share within the objective)")
    table.add_column("load")
    for policy in policy_names():
        table.add_column(policy, justify="right")
    by = {(run["policy"], run["load"]): run for run in report["runs"]}
    for load in LOADS:
        cells = [by[policy, load] for policy in policy_names()]
        table.add_row(
            f"{load:.1f}", *(f"{c['ttft_mean_ms']:,.0f} ({c['attained']:.0%})" for c in cells)
        )
    console.out.print(table)
    for name in (
        "ttft_mean_ratio",
        "goodput_ratio",
        "worst_vs_best_baseline",
        "dp_prefill_max_over_mean",
        "dp_decode_max_over_mean",
    ):
        console.out.print(f"{name}: {report[name]:.3f}")
