"""The KV stores of a fleet: found by what they tell the mesh, asked over gRPC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from argosy.launcher.home import RunningFleet
from argosy.launcher.launch import UpError
from argosy.mesh import rpc
from argosy.mesh.bus import Bus, Envelope
from argosy.wire.kvstore.v1 import events_pb2
from argosy.wire.kvstore.v1.kvstore_pb2_grpc import KvStoreStub

LISTEN_S = 1.5
"""Three heartbeats."""


@dataclass(frozen=True)
class FoundStores:
    """A store."""

    name: str
    stub: KvStoreStub


@asynccontextmanager
async def stores_of(running: RunningFleet, only: str = "") -> AsyncIterator[list[FoundStores]]:
    """The stores that are there, by name; `only`: that one. Raises UpError for none."""
    bus = Bus(running.nats, running.fleet, "argosy-kv")
    addresses: dict[str, str] = {}

    def hear(fact: events_pb2.StoreReported, envelope: Envelope) -> None:
        addresses[fact.store_id] = fact.address

    bus.start()
    bus.listen(events_pb2.StoreReported, hear)
    try:
        await asyncio.sleep(LISTEN_S)
    finally:
        await bus.close()
    if only and only not in addresses:
        raise UpError(
            f"no store {only} in {running.fleet}: there is {', '.join(addresses) or 'none'}"
        )
    if not addresses:
        raise UpError(
            f"no KV store in {running.fleet}: add spec.kvStore to the fleet file, as in "
            "deploy/local/demo-store-sim.yaml"
        )
    channels = rpc.Channels()
    try:
        yield [
            FoundStores(name, KvStoreStub(channels.get(address)))
            for name, address in sorted(addresses.items())
            if only in ("", name)
        ]
    finally:
        await channels.close()
