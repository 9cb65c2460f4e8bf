"""How long a plan of the autoscaler takes, and how near its capacity model is to the simulator.

plan: the seconds one plan takes (planner_time). model: TTFT p90 in closed form against
`argosy sim`, which runs the router's own core on every request (capacity_model): prompts of three
lengths, two profiles, 1 to 16 prefill instances at 30 to 90 % of their capacity.
"""

import json
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from rich.progress import Progress
from rich.table import Table

from argosy.bench.scaling import capacity_model, planner_time
from argosy.cli import console

ASKED = 0.1
"""Error of TTFT p90."""
RUNS = 5
QUICK_PREFILLS, QUICK_USES = (2,), (0.7,)


def run_plan(*, quick: bool, as_json: bool) -> None:
    """Measure both and report."""
    grid = (
        capacity_model.grid(prefills=QUICK_PREFILLS, uses=QUICK_USES)
        if quick
        else capacity_model.grid()
    )
    with Progress(console=console.err, transient=True) as progress:
        task = progress.add_task("planning", total=None)
        planned = planner_time.measure(RUNS)
        progress.update(task, description="simulating")
        compared = capacity_model.compare(
            grid, lambda done, of: progress.update(task, completed=done, total=of)
        )
    report = report_of(planned, compared)
    if as_json:
        print(json.dumps(report))
    else:
        show(report)


def report_of(planned: dict[str, Any], compared: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of all cases, of each group of profile and lengths, and the cases."""
    groups: dict[tuple[str, str], list[float]] = {}
    for case in compared:
        groups.setdefault((case["profile"], case["lengths"]), []).append(abs(case["error"]))
    every = [error for errors in groups.values() for error in errors]
    modelled = {
        **errors_of(every),
        "asked": ASKED,
        "groups": [
            {"profile": profile, "lengths": lengths, **errors_of(errors)}
            for (profile, lengths), errors in groups.items()
        ],
        "compared": list(compared),
    }
    modelled["ok"] = modelled["worst"] <= ASKED
    return {"plan": planned, "model": modelled, "ok": planned["ok"] and modelled["ok"]}


def errors_of(errors: Iterable[float]) -> dict[str, Any]:
    """Worst and mean, and how many are as good as asked."""
    errors = list(errors)
    return {
        "cases": len(errors),
        "worst": round(max(errors), 4),
        "mean": round(fmean(errors), 4),
        "within_asked": round(sum(error <= ASKED for error in errors) / len(errors), 4),
    }


def show(report: dict[str, Any]) -> None:
    """A table of plans and one of groups."""
    planned, modelled = report["plan"], report["model"]
    table = Table(
        box=None,
        title_justify="left",
        title=f"one plan, {planner_time.INSTANCES} + {planner_time.INSTANCES} instances, "
        f"{planned['slots']} slots: asked at most {planned['asked_s']:g} s",
    )
    for name in ("", "cold, s", "of CPU", "warm, s", "of CPU"):
        table.add_column(name, justify="right" if name else "left")
    for kind, title in (("free", "roles apart"), ("bound", "budget and ratio bind")):
        took = planned[kind]
        table.add_row(
            title,
            *(f"{took[when][of]:.3f}" for when in ("cold", "warm") for of in ("wall_s", "cpu_s")),
        )
    console.out.print(table)
    errors = Table(
        box=None,
        title_justify="left",
        title=f"the model's TTFT p90 against `argosy sim`: asked within {ASKED:.0%}",
    )
    for name in ("profile", "lengths", "cases", "worst", "mean", f"within {ASKED:.0%}"):
        errors.add_column(name, justify="left" if name in ("profile", "lengths") else "right")
    total = {"profile": "all", "lengths": "", **modelled}
    for group in (*modelled["groups"], total):
        errors.add_row(
            group["profile"],
            group["lengths"],
            f"{group['cases']}",
            f"{group['worst']:.1%}",
            f"{group['mean']:.1%}",
            f"{group['within_asked']:.0%}",
        )
    console.out.print(errors)
    console.out.print("ok" if report["ok"] else "not as asked")
