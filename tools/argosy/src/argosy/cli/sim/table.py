"""The report as people read it."""

from typing import Any

from rich.console import Group
from rich.table import Table


def table_of(report: dict[str, Any]) -> Group:
    """The report for people: latencies as a table, all else a line each."""
    latencies = Table(box=None)
    latencies.add_column()
    for title in ("mean", "p50", "p90", "p99"):
        latencies.add_column(title, justify="right")
    for title, key in (("TTFT, ms", "ttft_ms"), ("ITL, ms", "itl_ms"), ("E2E, ms", "e2e_ms")):
        values = report[key].values()
        latencies.add_row(title, *("-" if value is None else f"{value:,.1f}" for value in values))
    lines = Table(box=None, show_header=False)
    slo, throughput = report["slo"], report["throughput"]
    wall_s, virtual_s = report["wall_s"], report["virtual_s"]
    faster = f", {virtual_s / wall_s:,.0f}× real time" if wall_s else ""
    for name, text in (
        (
            "requests",
            f"{report['requests']:,}: {report['completed']:,} completed, "
            f"{report['rejected']:,} rejected",
        ),
        ("reuse", f"{report['reuse']:.1%} of prompt tokens"),
        (
            "SLO",
            f"{slo['share']:.1%} of requests with TTFT ≤ {slo['ttft_ms']:,g} ms "
            f"and ITL ≤ {slo['itl_ms']:,g} ms",
        ),
        (
            "throughput",
            f"{throughput['requests_per_s']:,.2f} requests/s, "
            f"{throughput['output_tokens_per_s']:,.0f} output tokens/s",
        ),
        ("used", f"{report['instance_hours']:,.2f} instance hours"),
        ("time", f"{virtual_s:,.0f} s simulated in {wall_s:,.1f} s{faster}"),
        ("digest", report["digest"]),
    ):
        lines.add_row(name, text)
    if "rest" in report:
        for name in ("sleep", "wake"):
            lines.add_row(f"{name}s", rest_line(report["rest"], name))
    return Group(latencies, "", lines)


def rest_line(rest: dict[str, Any], name: str) -> str:
    """How many sleeps or wakes, and what the longest was made of."""
    if not rest[f"{name}s"]:
        return "none"
    steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in rest[f"{name}_steps_s"].items())
    return f"{rest[f'{name}s']:,}, the longest {rest[f'longest_{name}_s']:.1f} s ({steps})"
