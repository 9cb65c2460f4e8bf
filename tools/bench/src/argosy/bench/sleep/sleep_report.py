"""What sleeping and waking in `bench sleep` came to."""

import statistics
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from argosy.cli import console
from argosy.wire.instance.v1 import events_pb2

ENDS = 5
"""Cycles at either end whose memory is compared."""


@dataclass
class Cycle:
    """What one cycle showed. MB are 10^6 bytes."""

    quiet: bool
    """Nobody asked before all were silent."""
    sleep_s: float = 0
    wake_to_first_token_s: float = 0
    active_mb: float = 0
    silent_mb: float = 0
    hit_tokens: int = 0
    reusable_tokens: int = 0
    tokens_equal: bool = False
    failed: int = 0


@dataclass
class SleepFigures:
    """All that was measured."""

    cycles: list[Cycle] = field(default_factory=list)
    changes: list[events_pb2.Change] = field(default_factory=list)
    """Every sleep and wake, as instances told of them."""
    cold_cache: list[float] = field(default_factory=list)
    """Seconds to the first token, of wakes that had to read the disk."""
    cold_start: list[float] = field(default_factory=list)
    """The same, of starts from nothing."""
    filled_mb: float = 0
    """Memory of all instances with KV memory full."""


def report_of(found: SleepFigures, level: str) -> dict[str, Any]:
    """Medians over the cycles in which nobody asked before all were silent, and all failures."""
    cycles, active = found.cycles, found.filled_mb
    quiet = [c for c in cycles if c.quiet and not c.failed]
    served = [c for c in cycles if not c.failed]
    if not quiet:
        return {"level": level, "cycles": len(cycles), "failed": sum(c.failed for c in cycles)}
    cold, wake = statistics.median(found.cold_start), median(quiet, "wake_to_first_token_s")
    silent = median(quiet, "silent_mb")
    return {
        "level": level,
        "sleep_s": round(median(quiet, "sleep_s"), 3),
        "sleep_max_s": round(max(c.sleep_s for c in quiet), 3),
        "wake_to_first_token_s": round(wake, 3),
        "wake_to_first_token_max_s": round(max(c.wake_to_first_token_s for c in quiet), 3),
        "interrupted_to_first_token_s": round(
            median([c for c in served if not c.quiet], "wake_to_first_token_s"), 3
        ),
        "sleep_steps_s": steps_s(found.changes, events_pb2.STATE_SILENT),
        "wake_steps_s": steps_s(found.changes, events_pb2.STATE_ACTIVE),
        "wake_cold_page_cache_to_first_token_s": round(statistics.median(found.cold_cache), 3),
        "cold_start_s": round(cold, 2),
        "wake_speedup": round(cold / wake, 1),
        "rss_active_mb": round(active),
        "rss_woken_mb": round(median(served, "active_mb")),
        "rss_silent_mb": round(silent),
        "rss_silent_share": round(silent / active, 3),
        "growth_active": growth([c.active_mb for c in served]),
        "growth_silent": growth([c.silent_mb for c in quiet]),
        "tokens_equal": all(c.tokens_equal for c in served),
        "context_hit_share": round(
            sum(c.hit_tokens for c in quiet) / sum(c.reusable_tokens for c in quiet), 4
        ),
        "cycles": len(cycles),
        "failed": sum(c.failed for c in cycles),
    }


def median(cycles: list[Cycle], name: str) -> float:
    """Of one figure."""
    return float(statistics.median(getattr(cycle, name) for cycle in cycles))


def steps_s(changes: list[events_pb2.Change], state: events_pb2.State) -> dict[str, float]:
    """Of all changes to this state, the median of each step, seconds."""
    found: dict[str, list[int]] = {}
    for change in changes:
        for step in change.steps if change.state == state else ():
            found.setdefault(step.name, []).append(step.ms)
    return {name: round(statistics.median(ms) / 1e3, 3) for name, ms in found.items()}


def growth(found_mb: list[float]) -> float | None:
    """The last few against the first few; None where these are not apart."""
    if len(found_mb) < 2 * ENDS:
        return None
    return round(statistics.mean(found_mb[-ENDS:]) / statistics.mean(found_mb[:ENDS]) - 1, 4)


def show(report: dict[str, Any]) -> None:
    """A line for each figure."""
    table = Table(box=None, show_header=False)
    for name, value in report.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    console.out.print(table)
