"""The trace command."""

import json
from pathlib import Path

import msgspec

from argosy.cli import console
from argosy.cli.traces.spans import find
from argosy.cli.traces.waterfall import waterfall
from argosy.launcher.home import NoFleet


def show_trace(directory: Path, trace_id: str, *, as_json: bool) -> None:
    """Draw every trace whose id begins so. Raises NoFleet when there is none."""
    found = find(directory, trace_id)
    if not found:
        raise NoFleet(f"no trace '{trace_id}' below {directory}; make one with `argosy generate`")
    if len(found) > 1:
        ids = ", ".join(trace.trace_id[:12] for trace in found[:8])
        raise NoFleet(f"{len(found)} traces begin with '{trace_id}': {ids}. Give more of the id")
    trace = found[0]
    if not as_json:
        console.out.print(waterfall(trace, console.out.width))
        return
    report = {
        "trace_id": trace.trace_id,
        "services": trace.services,
        "orphans": len(trace.orphans),
        "lost": len(trace.lost),
        "spans": [msgspec.to_builtins(span) for span in trace.spans],
    }
    print(json.dumps(report))
