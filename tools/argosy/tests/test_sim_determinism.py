"""The same trace, fleet and seed give the same digest: anywhere, any time."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from argosy.cli.sim.report import digest_of
from argosy.cli.sim.trace import TraceRequest
from argosy.cli.sim.world import Fault, Fleet, World

S = 1_000_000
LINE = '{{"timestamp": {ms}, "input_length": {n}, "output_length": {out}, "hash_ids": {ids}}}\n'
FLEETS = [
    ("--aggregated", "2", "--dp", "2"), ("--prefill", "2", "--decode", "2"), ("--free", "3"),
]  # fmt: skip


def write(trace: Path, requests: list[TraceRequest]) -> None:
    """As Mooncake does; who has been here before shares a first block."""
    trace.write_text(
        "".join(
            LINE.format(
                ms=r.arrived_us // 1000, n=r.prompt_tokens, out=r.output_tokens,
                ids=[number % 9, *range(100 * number + 9, 100 * number + 8 - (-r.prompt_tokens // 512))],
            )
            for number, r in enumerate(requests)
        )
    )  # fmt: skip


@pytest.mark.parametrize("fleet", FLEETS, ids=" ".join)
def test_the_digest_does_not_depend_on_the_hash_seed(
    traffic: Any, tmp_path: Path, fleet: tuple[str, ...]
) -> None:
    write(tmp_path / "trace.jsonl", traffic(seed=1).stream(20, 10))
    command = [
        sys.executable,
        "-m",
        "argosy.cli",
        "sim",
        "--trace",
        "trace.jsonl",
        "--json",
        *fleet,
    ]
    reports = [
        subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
            capture_output=True, text=True,
        ).stdout
        for seed in ("1", "4242")
    ]  # fmt: skip
    first, second = (digest_line(report) for report in reports)
    assert first == second


def digest_line(report: str) -> str:
    (line,) = (line for line in report.splitlines() if '"digest"' in line)
    return line


def digest(world: World) -> str:
    return digest_of(passage.outcome for passage in world.passages)


def test_twice_the_same_and_otherwise_different(traffic: Any, play: Any) -> None:
    trace, fleet = traffic(seed=1).chats(5, 10, turns=3), Fleet(aggregated=3, routers=2)
    faults = [Fault(5 * S, "decode-001", 1 * S)]
    first = digest(play(trace, fleet, faults))
    assert digest(play(trace, fleet, faults)) == first
    assert digest(play(trace, fleet)) != first
    assert digest(play(traffic(seed=2).chats(5, 10, turns=3), fleet, faults)) != first
