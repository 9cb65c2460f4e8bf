"""The same trace, fleet and seed give the same digest: anywhere, any time."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from argosy.sim.fleet.simulation import Simulation
from argosy.sim.fleet.spec import InstanceFault, SimFleet
from argosy.sim.reports.report import digest_of
from argosy.sim.traces.trace import TraceRequest

S = 1_000_000
LINE = '{{"timestamp": {ms}, "input_length": {n}, "output_length": {out}, "hash_ids": {ids}}}\n'
SIM = "from argosy.cli.app import app; app()"
FLEETS = [
    ("--aggregated", "2", "--dp", "2"),
    ("--prefill", "2", "--decode", "2"),
    ("--flexible", "3"),
]


def write(trace: Path, requests: list[TraceRequest]) -> None:
    """In Mooncake's format; every ninth prompt begins alike."""
    lines = []
    for number, r in enumerate(requests):
        blocks = [number % 9, *range(100 * number + 10, 100 * number + 99)]
        ids = blocks[: -(-r.prompt_tokens // 512)]
        ms = r.arrived_us // 1000
        lines.append(LINE.format(ms=ms, n=r.prompt_tokens, out=r.output_tokens, ids=ids))
    trace.write_text("".join(lines))


def simulated_digest(trace: Path, fleet: tuple[str, ...], hash_seed: str) -> str:
    """As told by a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-c", SIM, "sim", "--trace", str(trace), "--json", *fleet],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        stdout=subprocess.PIPE,
    )
    report = json.loads(ran.stdout)
    assert report["completed"] == report["requests"] > 100
    return report["digest"]


@pytest.mark.parametrize("fleet", FLEETS, ids=" ".join)
def test_the_digest_does_not_depend_on_the_hash_seed(
    traffic: Any, tmp_path: Path, fleet: tuple[str, ...]
) -> None:
    trace = tmp_path / "trace.jsonl"
    write(trace, traffic(seed=1).stream(20, 10))
    assert simulated_digest(trace, fleet, "1") == simulated_digest(trace, fleet, "4242")


def digest(simulation: Simulation) -> str:
    return digest_of(sim_request.outcome for sim_request in simulation.requests)


def test_twice_the_same_and_otherwise_different(traffic: Any, play: Any) -> None:
    trace, fleet = traffic(seed=1).chats(5, 10, turns=3), SimFleet(aggregated=3, routers=2)
    faults = [InstanceFault(5 * S, "decode-001", 1 * S)]
    first = digest(play(trace, fleet, faults))
    assert digest(play(trace, fleet, faults)) == first
    assert digest(play(trace, fleet)) != first
    assert digest(play(traffic(seed=2).chats(5, 10, turns=3), fleet, faults)) != first
