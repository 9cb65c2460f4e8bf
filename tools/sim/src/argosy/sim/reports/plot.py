"""A simulation in one picture: TTFT as it went, and as it is spread."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from argosy.sim.reports.outcome import RequestOutcome
from argosy.sim.reports.report import ttft_ms

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Numbers = npt.NDArray[np.float64]

SPANS = 60
"""Percentiles are drawn for at most this many spans of time,"""
REQUESTS_PER_SPAN = 50
"""each with at least this many requests on average: percentiles of fewer are noise."""
COLOURS = {50: "#2b7bba", 90: "#e08214", 99: "#7b3294"}
"""Of each percentile drawn, alike in both panels."""
REJECTED_COLOUR = "#d7191c"
STYLE: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    # Shapes' ids: the same picture is the same file.
    "svg.hashsalt": "argosy",
}


def plot(outcomes: Sequence[RequestOutcome], path: Path, title: str, slo_ttft_ms: float) -> None:
    """Draw TTFT over virtual time and its distribution into one SVG file.

    The same outcomes give the same file. Raises OSError when it cannot be written.
    """
    # Slow to import, and only needed for a picture.
    import matplotlib as mpl
    from matplotlib.figure import Figure

    served = [outcome for outcome in outcomes if outcome.first_us is not None]
    at_s = np.array([outcome.arrived_us / 1e6 for outcome in served])
    waited_ms = np.array([ttft_ms(outcome) for outcome in served])
    rejected_s = np.array([outcome.arrived_us / 1e6 for outcome in outcomes if outcome.rejected])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12, 4.6), layout="constrained")
        figure.suptitle(title)
        over_time, distribution = figure.subplots(1, 2, width_ratios=(3, 2))
        _draw_over_time(over_time, at_s, waited_ms, rejected_s)
        _draw_distribution(distribution, waited_ms)
        over_time.axhline(slo_ttft_ms, color="black", linestyle=":", label="SLO")
        distribution.axvline(
            slo_ttft_ms, color="black", linestyle=":", label=f"SLO {slo_ttft_ms:,.0f}"
        )
        for axes in (over_time, distribution):
            # Above the curves: no place among them is free in every run.
            axes.legend(
                ncols=5, loc="lower left", bbox_to_anchor=(0, 1), columnspacing=1, handlelength=1.2
            )
        figure.savefig(path, format="svg", dpi=150, metadata={"Date": None})


def _draw_over_time(axes: "Axes", at_s: Numbers, waited_ms: Numbers, rejected_s: Numbers) -> None:
    """Every request as a dot, percentiles of equal spans of time as lines."""
    axes.set_title("TTFT over virtual time", loc="left", pad=26)
    axes.set_xlabel("arrival, s")
    axes.set_ylabel("TTFT, ms")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,g}")
    # As pixels: ten thousand dots make a drawing no viewer is quick with.
    axes.plot(at_s, waited_ms, ".", color="#999999", markersize=2, alpha=0.4, rasterized=True)
    if at_s.size:
        spans = min(SPANS, max(1, at_s.size // REQUESTS_PER_SPAN))
        edges = np.linspace(at_s.min(), at_s.max(), spans + 1)
        span = np.clip(np.searchsorted(edges, at_s, side="right") - 1, 0, spans - 1)
        seen = np.unique(span)
        middles = (edges[seen] + edges[seen + 1]) / 2
        for share, colour in COLOURS.items():
            of_spans = [np.percentile(waited_ms[span == number], share) for number in seen]
            axes.plot(middles, of_spans, color=colour, linewidth=1.6, label=f"p{share}")
    if rejected_s.size:
        top = np.ones_like(rejected_s)
        axes.plot(
            rejected_s,
            top,
            "|",
            color=REJECTED_COLOUR,
            markersize=9,
            rasterized=True,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            label=f"rejected ({rejected_s.size:,})",
        )


def _draw_distribution(axes: "Axes", waited_ms: Numbers) -> None:
    """The share of served requests whose first token came within a time."""
    axes.set_title("TTFT's distribution", loc="left", pad=26)
    axes.set_xlabel("TTFT, ms")
    axes.set_ylabel("share of served requests")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_ylim(0, 1.02)
    if not waited_ms.size:
        return
    axes.ecdf(waited_ms, color="#444444", linewidth=1.6)
    for share, colour in COLOURS.items():
        at_ms = float(np.percentile(waited_ms, share))
        axes.axvline(at_ms, color=colour, linewidth=1.2, label=f"p{share} {at_ms:,.0f}")
