"""The replay command: journals through the very cores that wrote them."""

import json
from pathlib import Path
from typing import Any

import msgspec
from rich.progress import track
from rich.table import Table

from argosy.autoscaler.core.autoscaler import SPEC as AUTOSCALER
from argosy.cli import console
from argosy.decode.core.decode import SPEC as DECODE
from argosy.instance.lifecycle.core import SPEC as LIFE
from argosy.kvstore.policies import SPEC as KVSTORE
from argosy.mesh.replay import Replayed, replay_segment, segment_paths
from argosy.node_agent.core.node import SPEC as NODE_AGENT
from argosy.operator.core.operator import SPEC as OPERATOR
from argosy.prefill.core.prefill import SPEC as PREFILL
from argosy.router.policies import SPEC as ROUTER

SPECS = {
    spec.name: spec
    for spec in (ROUTER, PREFILL, DECODE, LIFE, KVSTORE, NODE_AGENT, OPERATOR, AUTOSCALER)
}


def replay_all(directory: Path) -> list[Replayed]:
    """Replay every segment below a directory. Raises JournalError if there is none."""
    steps = track(segment_paths(directory), "replaying", console=console.err, transient=True)
    return [replay_segment(path, SPECS) for path in steps]


def show_replay(directory: Path, *, as_json: bool) -> bool:
    """Print what came of it; True if every digest was reproduced."""
    results = replay_all(directory)
    ok = all(result.difference is None for result in results)
    if as_json:
        rows = [row_of(directory, result) for result in results]
        print(json.dumps({"ok": ok, "segments": rows}))
        return ok
    table = Table(box=None)
    for title in ("segment", "core", "steps", "digest", "end"):
        table.add_column(title)
    for result in results:
        digest = f"{result.digests[-1]:016x}" if result.digests else ""
        end = "cut" if result.cut else "whole"
        if result.difference is not None:
            end = f"[red]differs at step {result.difference.sequence}[/]"
        elif result.raised is not None:
            end = f"[yellow]the core raised at step {result.raised.sequence}[/]"
        name = str(result.path.relative_to(directory))
        table.add_row(name, result.core, str(result.steps), digest, end)
    console.out.print(table)
    for result in results:
        if result.raised is not None:
            show_raised(result)
    for result in results:
        if result.difference is not None:
            show_difference(result)
            break
    return ok


def show_raised(result: Replayed) -> None:
    """The step that ended the process: event, and what the core raised then and now."""
    raised = result.raised
    assert raised is not None
    console.out.print(f"\n{result.path}: step {raised.sequence}", style="bold")
    for line in (f"event: {raised.event}", f"raised in the original, and again: {raised.error}"):
        console.out.print(f"  {line}", markup=False, soft_wrap=True)


def show_difference(result: Replayed) -> None:
    """The first difference: event, expected effects, effects got."""
    difference = result.difference
    assert difference is not None
    console.out.print(f"\n{result.path}: step {difference.sequence}", style="bold")
    for title, value in (
        ("event", difference.event),
        ("expected", difference.expected),
        ("got", difference.got),
    ):
        console.out.print(f"  {title}:", style="bold")
        items = value if isinstance(value, list) else [value]
        for item in items or ["nothing"]:
            console.out.print(f"    {item}", markup=False, soft_wrap=True)


def row_of(directory: Path, result: Replayed) -> dict[str, Any]:
    """One segment for programs."""
    difference, raised = result.difference, result.raised
    return {
        "segment": str(result.path.relative_to(directory)),
        "core": result.core,
        "steps": result.steps,
        "cut": result.cut,
        "digest": f"{result.digests[-1]:016x}" if result.digests else None,
        "difference": msgspec.to_builtins(difference) if difference is not None else None,
        "raised": msgspec.to_builtins(raised) if raised is not None else None,
    }
