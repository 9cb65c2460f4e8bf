"""A fleet file on the control log that cannot be read never makes generations begin anew."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from argosy.launcher.nats_process import NatsProcess, running_nats
from argosy.mesh.bus import Bus, Envelope
from argosy.mesh.rpc import Channels
from argosy.mesh.service import Mesh
from argosy.operator.settings import OperatorSettings
from argosy.operator.shell.service import OperatorService
from argosy.wire.operator.v1 import operator_pb2, operator_pb2_grpc
from argosy.wire.operator.v1.events_pb2 import FleetApplied

PATIENCE_S = 20
FLEET = """
apiVersion: argosy.dev/v1alpha1
kind: FedDeployment
metadata: {name: test}
spec:
  model: {name: sim, source: sim}
  engine: {kind: sim}
  split:
    prefill: {replicas: 0}
    decode: {replicas: 1}
"""

Apply = Callable[[], Awaitable[int]]


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsProcess]:
    with running_nats(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def bus(nats: NatsProcess) -> AsyncIterator[Bus]:
    made = Bus(nats.url, "test", "somebody")
    made.start()
    await asyncio.wait_for(made.connected.wait(), PATIENCE_S)
    yield made
    await made.close()


async def generation_applied(nats: NatsProcess) -> int:
    """What an operator that starts now gives the next file."""
    mesh = Mesh(OperatorSettings(nats_url=nats.url, fleet="test"), "operator")
    service = OperatorService(mesh)
    channels = Channels()
    await mesh.open()
    try:
        await asyncio.wait_for(service.start(), PATIENCE_S)
        await mesh.set_ready(True)
        stub = channels.stub(operator_pb2_grpc.OperatorStub, mesh.address)
        reply = await stub.Apply(operator_pb2.ApplyRequest(fleet_yaml=FLEET, base_dir="/"))
        return int(reply.generation)
    finally:
        await channels.close()
        await mesh.close()


async def test_after_a_file_of_another_version_generations_go_on(
    nats: NatsProcess, bus: Bus
) -> None:
    heard = asyncio.Event()

    def deliver(fact: FleetApplied, envelope: Envelope) -> None:
        heard.set()

    bus.follow(FleetApplied, deliver, "somebody")
    bus.publish(FleetApplied(generation=41, fleet_yaml="kind: Unheard"))
    await asyncio.wait_for(heard.wait(), PATIENCE_S)
    assert await generation_applied(nats) == 42


async def test_after_a_fact_that_is_no_fact_generations_go_on(nats: NatsProcess, bus: Bus) -> None:
    for _ in range(3):
        assert await generation_applied(nats) > 0
    reply = await bus._jetstream().publish("argosy.test.operator.fleet_applied", b"\xff\xff")
    assert await generation_applied(nats) == reply.seq + 1
    assert reply.seq > 3
