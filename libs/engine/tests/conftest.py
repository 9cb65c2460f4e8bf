"""A real bus, for what an instance tells the mesh."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from argosy.mesh.nats_process import NatsProcess, running_nats

PATIENCE_S = 20


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsProcess]:
    """A real nats-server with JetStream, which the test may kill and start again."""
    with running_nats(tmp_path / "nats") as server:
        deadline = time.monotonic() + PATIENCE_S
        while not listens(server.port):
            assert time.monotonic() < deadline, "nats-server never listened"
            time.sleep(0.005)
        yield server


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
