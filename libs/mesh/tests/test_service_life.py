"""A service's process from start to exit: what it says, what it answers, how it ends."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from argosy.launcher.nats_process import NatsProcess
from argosy.mesh.ports import free_port
from argosy.mesh.replay import replay_directory

PATIENCE_S = 30
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

TINY_SERVICE = '''
"""A service that waits for the bus; `hold` keeps its drain from ending."""
import asyncio, runpy, sys
from pydantic import Field
from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh.service import run
from argosy.mesh.settings import ServiceSettings

class TinySettings(ServiceSettings):
    hold: bool = Field(False, description="Never finish draining.")
    broken: bool = Field(False, description="Fail to start.")
    core: str = Field("", description="Where a core is that fails a moment after the start.")

class Tiny:
    def __init__(self, mesh):
        self.mesh = mesh

    async def start(self):
        if self.mesh.settings.broken:
            raise ArgosyError(Reason.NOT_READY, "the mast is broken: mend it")
        await self.mesh.wait_for_bus()
        if self.mesh.settings.core:
            found = runpy.run_path(self.mesh.settings.core)
            driver = self.mesh.drive(found["SPEC"], found["Totals"](), print)
            spoiled = found["Spoiled"](now_us=driver.now_us(), word="keel")
            asyncio.get_running_loop().call_later(0.2, driver.feed, spoiled)

    async def drain(self):
        print("draining", file=sys.stderr, flush=True)
        if self.mesh.settings.hold:
            await asyncio.Event().wait()

    async def stop(self):
        print("stopped", file=sys.stderr, flush=True)

run(TinySettings, Tiny)
'''


class RecordedService:
    """A running service, and what it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.said = ""

    async def says(self, words: str) -> None:
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            while words not in self.said:
                line = await self.process.stderr.readline()
                assert line, f"ended without saying {words!r}:\n{self.said}"
                self.said += line.decode()

    async def ends(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            _, rest = await self.process.communicate()
        self.said += rest.decode()
        assert self.process.returncode is not None
        return self.process.returncode

    async def health(self) -> int:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)).status


Start = Callable[..., Awaitable[RecordedService]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts the tiny service with some settings; whatever still runs at the end is killed."""
    script = tmp_path / "tiny.py"
    script.write_text(TINY_SERVICE)
    lives: list[RecordedService] = []

    async def begin(**settings: str) -> RecordedService:
        port = free_port()
        given = {"listen": f"127.0.0.1:{port}", "nats_url": "nats://127.0.0.1:1", **settings}
        environment = {f"ARGOSY_TINY_{name.upper()}": value for name, value in given.items()}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **environment},
        )
        lives.append(RecordedService(process, port))
        return lives[-1]

    yield begin
    for life in lives:
        if life.process.returncode is None:
            life.process.kill()
            await life.process.communicate()


async def test_without_a_bus_it_says_what_it_waits_for_and_does_not_serve(start: Start) -> None:
    life = await start()
    await life.says("waiting for NATS at nats://127.0.0.1:1")
    assert await life.health() == NOT_SERVING

    life.process.send_signal(signal.SIGTERM)
    assert await life.ends() == 0
    assert "stopped while waiting for NATS" in life.said


async def test_it_serves_once_it_is_ready_and_drains_before_it_ends(
    start: Start, nats: NatsProcess
) -> None:
    life = await start(nats_url=nats.url)
    await life.says("is ready")
    assert await life.health() == SERVING

    life.process.send_signal(signal.SIGTERM)
    assert await life.ends() == 0
    assert life.said.index("draining") < life.said.index("stopped")


async def test_it_becomes_ready_when_a_bus_comes_later(start: Start, nats: NatsProcess) -> None:
    nats.kill()
    life = await start(nats_url=nats.url)
    await life.says("waiting for NATS")
    nats.start()
    await life.says("is ready")
    assert await life.health() == SERVING


async def test_while_it_drains_it_is_not_healthy_and_only_an_interrupt_ends_the_wait(
    start: Start, nats: NatsProcess
) -> None:
    life = await start(nats_url=nats.url, hold="true")
    await life.says("is ready")
    life.process.send_signal(signal.SIGTERM)
    await life.says("draining")
    life.process.send_signal(signal.SIGTERM)
    assert await life.health() == NOT_SERVING

    life.process.send_signal(signal.SIGINT)
    assert await life.ends() == 0
    assert "stopped" in life.said


async def test_a_drain_that_takes_too_long_is_ended(start: Start, nats: NatsProcess) -> None:
    life = await start(nats_url=nats.url, hold="true", drain_timeout_s="0.1")
    await life.says("is ready")
    life.process.send_signal(signal.SIGTERM)
    assert await life.ends() == 0
    assert "drains, for at most 0.1 s" in life.said


async def test_a_port_in_use_ends_it_with_1_and_the_remedy(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        life = await start(listen=address)
        assert await life.ends() == 1
    assert f"cannot listen on {address}: the port is in use" in life.said
    assert "Traceback" not in life.said


async def test_a_start_that_fails_ends_it_with_1_and_the_reason(start: Start) -> None:
    life = await start(broken="true")
    assert await life.ends() == 1
    assert "cannot start: the mast is broken: mend it" in life.said
    assert "Traceback" not in life.said


async def test_a_wrong_setting_ends_it_with_2_and_the_remedy(start: Start) -> None:
    life = await start(drain_timeout_s="-3")
    assert await life.ends() == 2
    assert "ARGOSY_TINY_DRAIN_TIMEOUT_S='-3'" in life.said
    assert "Traceback" not in life.said


async def test_a_core_that_fails_ends_the_process_with_3_and_replay_shows_the_step(
    start: Start, nats: NatsProcess, tiny: Any, tmp_path: Path
) -> None:
    """Not held up by a drain: nothing it decided since could be relied on."""
    life = await start(nats_url=nats.url, core=str(tiny.home), data_dir=str(tmp_path), hold="true")
    await life.says("is ready")
    assert await life.ends() == 3
    assert "the core failed on Spoiled" in life.said
    assert "stopped" in life.said
    (replayed,) = replay_directory(tmp_path, {"tiny": tiny.spec})
    assert replayed.raised is not None
