"""Demand and instances as time goes, one panel for each policy, in one SVG file."""

from pathlib import Path

import numpy as np

from argosy.sim.reports.plot import STYLE
from argosy.sim.scaling.result import ScalingResult
from argosy.sim.scaling.scenarios import Scenario

POINTS = 1500
"""More than a screen is wide."""
COLOURS = {"prefill": "#e08214", "decode": "#2b7bba", "used": "#444444"}


def plot_scale(
    scenario: Scenario, results: dict[str, ScalingResult], budget: int, path: Path
) -> None:
    """The same results give the same file. Raises OSError when it cannot be written."""
    # Slow to import, and only needed for a picture.
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12, 1.6 * (len(results) + 1)), layout="constrained")
        figure.suptitle(f"{scenario.source}: instances as demand goes")
        panels = figure.subplots(len(results) + 1, 1, sharex=True)
        demand = scenario.load.demand(max(60.0, scenario.load.span_s / POINTS))
        hours = np.arange(len(demand)) * scenario.load.span_s / len(demand) / 3600
        panels[0].plot(hours, [d.rate for d in demand], color="#7b3294", linewidth=1)
        panels[0].set_ylabel("requests/s")
        for panel, (name, result) in zip(panels[1:], results.items(), strict=True):
            samples = result.samples[:: max(1, len(result.samples) // POINTS)]
            at_h = [sample.at_s / 3600 for sample in samples]
            lines = {role: [s.ready[role] for s in samples] for role in ("prefill", "decode")}
            lines["used"] = [s.used for s in samples]
            for label, values in lines.items():
                panel.step(
                    at_h, values, where="post", color=COLOURS[label], label=label, linewidth=1
                )
            panel.set_ylim(0, budget + 1)
            panel.set_title(
                f"{name}: {100 * result.attainment:.2f} % within the SLO, "
                f"{result.mean_replicas:.2f} instances",
                loc="left",
            )
        panels[1].legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
        panels[-1].set_xlabel("hours")
        figure.savefig(path, format="svg", dpi=150, metadata={"Date": None})
