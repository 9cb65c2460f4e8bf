"""What the tests of all libs share: a real bus."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from argosy.launcher.nats_process import NatsProcess, running_nats


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsProcess]:
    """A real nats-server with JetStream, which the test may kill and start again."""
    with running_nats(tmp_path / "nats") as server:
        yield server
