"""What every service does alike: health, reflection, starting alone, stopping when told."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from argosy.mesh.ports import free_port
from argosy.mesh.rpc import Channels

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = {
    "router": "argosy.router.v1.Router",
    "operator": "argosy.operator.v1.Operator",
    "node-agent": "argosy.node_agent.v1.NodeAgent",
    "prefill": "argosy.prefill.v1.Prefill",
    "decode": "argosy.decode.v1.Decode",
}
EVERY = pytest.mark.parametrize("service", SERVICES)
ALONE = {
    **SERVICES,
    "kvstore": "argosy.kvstore.v1.KvStore",
    "autoscaler": "argosy.autoscaler.v1.Autoscaler",
}


async def address_of(fleet: Any, service: str) -> str:
    """Where a service of the fleet listens."""
    running = fleet.running
    known = {"router": running.grpc, "operator": running.operator, "node-agent": running.node_agent}
    return known.get(service) or str((await fleet.instance(f"{service}-0")).address)


async def health_of(channel: Any, name: str) -> int:
    """What the health service says of `name`."""
    stub = health_pb2_grpc.HealthStub(channel)
    reply = await stub.Check(health_pb2.HealthCheckRequest(service=name), wait_for_ready=True)
    return int(reply.status)


async def reflect(channel: Any, **question: str) -> Any:
    """What the reflection service answers."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(**question)
    return await anext(aiter(stub.ServerReflectionInfo(iter([request]))))


@EVERY
async def test_a_service_of_a_fleet_says_that_it_serves(fleet: Any, service: str) -> None:
    async with fleet.channel(await address_of(fleet, service)) as channel:
        assert await health_of(channel, "") == SERVING
        assert await health_of(channel, SERVICES[service]) == SERVING


@EVERY
async def test_a_service_describes_itself_by_reflection(fleet: Any, service: str) -> None:
    name = SERVICES[service]
    async with fleet.channel(await address_of(fleet, service)) as channel:
        listed = await reflect(channel, list_services="")
        described = await reflect(channel, file_containing_symbol=name)

    names = {entry.name for entry in listed.list_services_response.service}
    assert {name, "grpc.health.v1.Health"} <= names
    assert described.file_descriptor_response.file_descriptor_proto


# -- alone


@dataclass
class Alone:
    """A service started by itself: no NATS, nobody else."""

    process: asyncio.subprocess.Process
    address: str
    log: Path

    def says(self, text: str) -> bool:
        return text in self.log.read_text()


@asynccontextmanager
async def started(service: str, folder: Path, **extra: str) -> AsyncIterator[Alone]:
    """`python -m argosy.<service>`, killed at the end if it is still there."""
    module = service.replace("-", "_")
    address, log = f"127.0.0.1:{free_port()}", folder / "log"
    given = {"listen": address, "nats_url": "nats://127.0.0.1:1", **extra}
    prefix = f"ARGOSY_{module.upper()}_"
    if service == "router":
        given.setdefault("http_listen", "127.0.0.1:0")
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"argosy.{module}",
            stderr=out,
            stdout=out,
            env={**os.environ, **{prefix + name.upper(): value for name, value in given.items()}},
        )
    try:
        yield Alone(process, address, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("service", ALONE)
async def test_a_service_alone_says_what_it_waits_for_and_ends_when_told(
    tmp_path: Path, eventually: Any, service: str
) -> None:
    async with started(service, tmp_path) as alone:
        await eventually(lambda: alone.says("waiting for NATS at nats://127.0.0.1:1"))
        channels = Channels()
        channel = channels.get(alone.address)
        said = [await health_of(channel, name) for name in ("", ALONE[service])]
        await channels.close()
        alone.process.send_signal(signal.SIGTERM)

        assert said == [NOT_SERVING, NOT_SERVING]
        assert await asyncio.wait_for(alone.process.wait(), 10) == 0


async def test_a_wrong_setting_ends_a_service_with_the_name_meant(tmp_path: Path) -> None:
    async with started("decode", tmp_path, fleat="demo") as alone:
        assert await asyncio.wait_for(alone.process.wait(), 20) == 2
        assert alone.says("ARGOSY_DECODE_FLEAT; did you mean ARGOSY_DECODE_FLEET?")


@pytest.mark.parametrize("option", ["listen", "http_listen"])
async def test_a_router_whose_port_is_taken_ends_and_says_which(
    fleet: Any, tmp_path: Path, option: str
) -> None:
    taken = fleet.running.grpc if option == "listen" else fleet.running.http.removeprefix("http://")
    async with started("router", tmp_path, **{option: taken}) as alone:
        assert await asyncio.wait_for(alone.process.wait(), 20) == 1
        assert alone.says(f"cannot listen on {taken}")


async def test_a_router_alone_answers_http_with_503_and_what_it_waits_for(
    tmp_path: Path, eventually: Any
) -> None:
    import httpx

    http = f"127.0.0.1:{free_port()}"
    async with started("router", tmp_path, http_listen=http) as alone:
        await eventually(lambda: alone.says("waiting for NATS"))
        async with httpx.AsyncClient(base_url=f"http://{http}", trust_env=False) as client:
            health = await client.get("/healthz")
            alive = await client.get("/livez")
            asked = await client.post("/v1/completions", json={"model": "sim", "prompt": "x"})

    assert (health.status_code, alive.status_code, asked.status_code) == (503, 200, 503)
    assert "waiting for NATS" in health.text
    assert asked.json()["error"]["reason"] == "NOT_READY"
    assert int(asked.headers["retry-after"]) >= 1
