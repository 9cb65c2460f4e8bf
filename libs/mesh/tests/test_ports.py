"""A port that is drawn is given to nobody else."""

import subprocess
import sys

import pytest

from argosy.mesh import ports

DRAW_AND_WAIT = """
import sys
from argosy.mesh import ports
ports.first_ephemeral = lambda: 20_100
ports.BELOW = 100
print(*ports.free_ports(40), flush=True)
sys.stdin.read()
"""


def test_ports_drawn_together_are_distinct() -> None:
    drawn = ports.free_ports(500)
    assert len(set(drawn)) == 500


def test_a_port_is_not_drawn_twice_and_not_one_that_was_ruled_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ports, "first_ephemeral", lambda: 20_016)
    monkeypatch.setattr(ports, "BELOW", 16)
    monkeypatch.setattr(ports, "TRIES", 2000)
    first = ports.free_ports(4, besides=[20_000, 20_001])
    second = ports.free_ports(4, besides=[20_000, 20_001])
    assert not {*first} & {*second}
    assert not {20_000, 20_001} & {*first, *second}


def test_processes_that_draw_at_the_same_time_draw_different_ports() -> None:
    command = [sys.executable, "-c", DRAW_AND_WAIT]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as other:
        drawn = [process.stdout.readline().split() for process in (one, other)]
        for process in (one, other):
            process.stdin.close()
    assert len(drawn[0]) == len(drawn[1]) == 40
    assert not {*drawn[0]} & {*drawn[1]}
