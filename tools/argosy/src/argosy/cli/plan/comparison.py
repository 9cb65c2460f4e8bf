"""Progress of scaling runs on stderr, and what came of them for people."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


class RunBars:
    """A bar for the run under way."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )

    def __enter__(self) -> "RunBars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextmanager
    def shown(self, title: str) -> Iterator[Callable[[float], None]]:
        """While a run lasts; what is yielded is told its share done."""
        task = self._bars.add_task(title, total=1.0)
        yield lambda share: self._bars.update(task, completed=share)
        self._bars.remove_task(task)


COLUMNS = {
    "attainment": "within SLO",
    "mean_replicas": "instances",
    "instance_hours": "instance-hours",
    "changes": "changes",
    "flaps": "flaps",
    "ttft_p90_ms": "TTFT p90 ms",
    "tpot_p90_ms": "TPOT p90 ms",
    "peak_replicas": "most",
}


def show(console: Console, report: dict[str, Any]) -> None:
    """A table of policies."""
    scenario = report["workload"]
    console.print(
        f"{scenario['source']}: {scenario['requests']:,} requests "
        f"in {scenario['span_s'] / 3600:,.2f} h, "
        f"rate × {scenario['factor']:g}, at most {report['replicas']} instances, "
        f"warm-up {report['warm_up_s']:g} s, TTFT ≤ {report['slo']['ttft_ms']:g} ms, "
        f"TPOT ≤ {report['slo']['tpot_ms']:g} ms, {report['simulation']} simulation"
    )
    table = Table("policy", box=None)
    for title in COLUMNS.values():
        table.add_column(title, justify="right")
    if "flow_level_error" in report:
        table.add_column("flow's error", justify="right")
    for name, figures in report["policies"].items():
        row = [_text(column, figures[column]) for column in COLUMNS]
        if "flow_level_error" in report:
            wrong = report["flow_level_error"][name]
            row.append(
                f"{100 * wrong['attainment']:+.1f} pp, {100 * wrong['instance_hours']:+.1f} %"
            )
        table.add_row(name, *row)
    console.print(table)


def _text(column: str, value: float) -> str:
    if column == "attainment":
        return f"{100 * value:.2f} %"
    if column in ("changes", "flaps", "peak_replicas"):
        return f"{value:,.0f}"
    return f"{value:,.2f}" if column == "mean_replicas" else f"{value:,.1f}"
