"""The autoscaler on a workload, in virtual time, beside other policies."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import typer

from argosy.cli.console import err, fail, out
from argosy.cli.plan.comparison import RunBars, show
from argosy.cli.plan.scaler import iso
from argosy.cli.plan.source import Source
from argosy.cli.plan.watch import PlotSample, RecordingPolicy
from argosy.domain.plan_window import PlanWindow
from argosy.engine.profile_files import load_profile
from argosy.fleet.plans import Plans
from argosy.sim.scaling.experiment import Experiment, ScaleOptions, experiment_of, policy_names
from argosy.sim.scaling.flow_level import FlowSimulation
from argosy.sim.scaling.policies.argosy_autoscaler import ArgosyPolicy, ForecastPoint
from argosy.sim.scaling.result import ScalingResult

ARGOSY = "argosy"
WEEK_US = 7 * 86_400_000_000


def chosen(names: str) -> list[str]:
    """argosy and the others asked for. Raises typer.BadParameter for one that there is not."""
    asked = [name for name in names.split(",") if name != ARGOSY]
    known = [name for name in policy_names() if name != ARGOSY]
    if unknown := [name for name in asked if name not in known]:
        raise typer.BadParameter(
            f"no {', '.join(unknown)}: there are {', '.join((ARGOSY, *known))}",
            param_hint="--policy",
        )
    return [ARGOSY, *asked]


def run_simulation(
    options: ScaleOptions,
    source: Source,
    plans: list[str],
    timezone: str,
    *,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Run every policy and report. Raises ArgosyError for a plan that cannot be."""
    windows = windows_of(plans, timezone, source, options.replicas)
    began = time.perf_counter()
    with RunBars(err) as runs:
        experiment = experiment_of(options, source.scenario, load_profile(options.timing), runs)
        inputs = experiment.inputs
        argosy = ArgosyPolicy(
            inputs.timing,
            inputs.machine,
            inputs.slo,
            inputs.budget,
            inputs.wake_s,
            inputs.initial,
            every_s=inputs.every_s,
            began_us=source.began_us,
            windows=windows,
        )
        watched = RecordingPolicy(argosy)
        results = {argosy.name: run_watched(watched, experiment)}
        for name in options.policies[1:]:
            results[name] = experiment.run(name, by_request=False)
    report = report_of(options, source, results)
    report |= {"plans": plans, "timezone": timezone}
    report["wall_s"] = round(time.perf_counter() - began, 1)
    if as_json:
        print(msgspec.json.encode(report).decode(), flush=True)
    else:
        show(out, report)
    # After the report: where the picture cannot be written, the run was not for nothing.
    if plot is not None:
        draw(plot, source, experiment, watched.moments, argosy.foreseen, results)


def run_watched(watched: RecordingPolicy, experiment: Experiment) -> ScalingResult:
    """One run of Argosy, noted; its silent instances wake."""
    setting = replace(experiment.setting, warm_up_s=experiment.inputs.wake_s)
    simulation = FlowSimulation(experiment.scenario.load, setting, watched)
    watched.simulation = simulation
    with experiment.progress.shown(f"{watched.name}, flow") as progress:
        return simulation.run(progress)


def windows_of(texts: list[str], timezone: str, source: Source, budget: int) -> list[PlanWindow]:
    """When which of the plans hold while the workload lasts.

    Raises ArgosyError for one that cannot be read or contradicts another.
    """
    began_us = source.began_us
    plans = Plans()
    plans.apply([], timezone, {}, 0, began_us)
    for text in texts:
        name = plans.check("", text, began_us)
        plans.changed(name, text, began_us)
    until_us = began_us + round(1e6 * source.scenario.load.span_s)
    found = {w for now_us in range(began_us, until_us, WEEK_US) for w in plans.windows(now_us)}
    for window in found:
        if window.kind == "at_least" and window.count > budget:
            fail(f"plan '{window.plan}' is beyond the {budget} there may be: raise --replicas")
        if window.kind == "drain":
            fail(f"plan '{window.plan}': simulated instances have no racks")
    return sorted(found, key=lambda window: (window.from_us, window.plan))


def report_of(
    options: ScaleOptions, source: Source, results: dict[str, ScalingResult]
) -> dict[str, Any]:
    """For programs; as `argosy bench scale` has it."""
    scenario, slo = source.scenario, options.slo
    return {
        "workload": {
            "source": scenario.source,
            "factor": round(scenario.factor, 6),
            "lengths": scenario.lengths,
            "requests": round(scenario.load.requests),
            "span_s": scenario.load.span_s,
            "began": iso(source.began_us),
        },
        "timing": options.timing or "dynamo-mocker",
        "slo": {"ttft_ms": slo.ttft_ms, "tpot_ms": slo.tpot_ms},
        "replicas": options.replicas,
        "warm_up_s": options.warm_up_s,
        "wake_s": options.wake_s,
        "seed": options.seed,
        "simulation": "flow_level",
        "policies": {name: result.figures() for name, result in results.items()},
    }


def draw(
    path: Path,
    source: Source,
    experiment: Experiment,
    moments: list[PlotSample],
    foreseen: list[ForecastPoint],
    results: dict[str, ScalingResult],
) -> None:
    """The picture; a message and exit code 1 where it cannot be written."""
    # Slow to import, and only needed for a picture.
    from argosy.cli.plan.plot import plot_run

    try:
        plot_run(source, experiment.inputs.budget, moments, foreseen, results, path)
    except OSError as error:
        fail(f"cannot write the picture {path}: {error.strerror}")
