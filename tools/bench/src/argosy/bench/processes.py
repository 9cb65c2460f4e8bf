"""Processes for a benchmark of the router: started bare, pinned to nothing, all ended at the end.

The services are those of any fleet, started by themselves with the settings the
measurement needs: a sim engine that takes no time and has room for everything.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from argosy.bench.load_generator import LoadOrder, LoadOutcome
from argosy.client import Client
from argosy.domain.errors import ArgosyError
from argosy.launcher.nats_process import nats_command
from argosy.mesh.ports import free_port

FLEET = "bench"
UP_S = 60
END_S = 10
QUEUE_LIMIT = "8192"
INSTANCE = {
    "engine": "sim",
    "sim_speed": "1000",
    "max_running": "4096",
    "queue_limit": QUEUE_LIMIT,
    "kv_bytes": str(1 << 37),
}


class BenchFailed(Exception):
    """A process of the benchmark did not do its part: which, and where its log is."""


@dataclass
class BenchProcesses:
    """Everything that runs. `folder` holds logs, journals and NATS's store."""

    folder: Path
    nats: str = ""
    router: str = ""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """A process with pipes, its stderr in `folder`."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = self.processes[name] = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stderr=log,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        return process

    def start_module(self, name: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        """`python -m module`."""
        return self.start(name, sys.executable, "-m", module, *arguments)

    def start_service(self, service: str, name: str, **settings: str) -> None:
        """A service of the fleet, with what it keeps under `folder`."""
        values = {
            "fleet": FLEET,
            "instance_id": name,
            "nats_url": self.nats,
            "data_dir": str(self.folder / name),
            "log_level": "WARNING",
            **settings,
        }
        environment = {f"ARGOSY_{service.upper()}_{k.upper()}": v for k, v in values.items()}
        self.start(name, sys.executable, "-m", f"argosy.{service}", **environment)

    async def start_fleet(self, service: str) -> None:
        """NATS, a router, and one instance; return when requests would be served."""
        port = free_port()
        self.nats = f"nats://127.0.0.1:{port}"
        self.start("nats", *nats_command(port, self.folder / "nats"))
        self.router = f"127.0.0.1:{free_port()}"
        listen = {"listen": self.router, "http_listen": "127.0.0.1:0"}
        self.start_service("router", "router", queue_limit=QUEUE_LIMIT, **listen)
        await self.start_instance(service, f"{service}-0")

    async def start_instance(self, service: str, name: str, **settings: str) -> None:
        """A prefill or decode instance; return when the router would use it."""
        self.start_service(service, name, **{**INSTANCE, **settings})
        await self.until_live(name)

    async def until_live(self, *names: str, count: int = 0) -> None:
        """Return when the router would use these instances, and `count` in all."""
        try:
            async with asyncio.timeout(UP_S), Client(self.router) as client:
                while True:
                    live = await self._live(client)
                    if live.issuperset(names) and len(live) >= count:
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise BenchFailed(f"not ready within {UP_S} s: see {self.folder}") from None

    async def _live(self, client: Client) -> set[str]:
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise BenchFailed(f"{name} ended: {(self.folder / f'{name}.log').read_text()}")
        try:
            status = await client.status()
        except ArgosyError:
            return set()
        return {instance.instance_id for instance in status.instances if instance.live}

    async def line(self, name: str) -> bytes:
        """The next line a process prints. Raises BenchFailed when it ends instead."""
        stdout = self.processes[name].stdout
        assert stdout is not None
        if line := await asyncio.to_thread(stdout.readline):
            return line
        log = (self.folder / f"{name}.log").read_text()
        raise BenchFailed(f"{name} ended: {log[-2000:]}")

    async def order(self, order: LoadOrder) -> LoadOutcome:
        """Have the load generator do something."""
        stdin = self.processes["load"].stdin
        assert stdin is not None
        stdin.write(msgspec.json.encode(order) + b"\n")
        stdin.flush()
        return msgspec.json.decode(await self.line("load"), type=LoadOutcome)

    def cpu_s(self, name: str) -> float:
        """CPU time a process and its children have had, seconds."""
        process = psutil.Process(self.processes[name].pid)
        family = [process, *process.children(recursive=True)]
        return sum(sum(member.cpu_times()[:2]) for member in family)

    def end(self, *names: str) -> None:
        """End these processes, last started first; all, when none are named."""
        for name in names or reversed(list(self.processes)):
            end(self.processes.pop(name))


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and see that it and its children do."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        _, alive = psutil.wait_procs([psutil.Process(process.pid), *family], timeout=END_S)
        for left in alive:
            left.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
