"""More of what tests ask of a fleet: a second router, and where requests went."""

import asyncio
import dataclasses
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from argosy.client import Answer
from argosy.domain.errors import ArgosyError
from argosy.mesh.bus import Bus
from argosy.mesh.ports import free_ports
from argosy.wire.router.v1 import events_pb2

BEAT_S = 0.25


class FactWatch:
    """Knows of each request where routers sent it, and what they knew to be cached there.

    Routers tell their dispatches to other routers: to them it looks like one.
    """

    def __init__(self, fleet: Any, eventually: Any) -> None:
        self.fleet = fleet
        self.dispatched: dict[str, events_pb2.Dispatched] = {}
        self.routers: dict[str, str] = {}
        """The router of each request."""
        self._eventually = eventually
        self._asked = 0

    async def ask(
        self, fleet: Any = None, *, at_once: bool = False, **options: Any
    ) -> tuple[Answer, events_pb2.Dispatched]:
        """An answer, and where it came from.

        fleet: whose router to ask. at_once: also while that believes that others are served.
        """
        fleet = fleet or self.fleet
        self._asked += 1
        request_id = f"watched {self._asked}"
        options = {"max_tokens": 4, "temperature": 0, "ignore_eos": True, **options}
        if not at_once:
            await self._eventually(lambda: fleet.is_at_rest(0))
        async with fleet.client() as client:
            answer = await client.answer("sim", request_id=request_id, **options)
        return answer, await self._eventually(lambda: self.dispatched.get(request_id))

    def hear(self, fact: events_pb2.RequestsDispatched, envelope: Any) -> None:
        """Take in a fact."""
        for sent in fact.dispatched:
            self.dispatched[sent.request_id] = sent
            self.routers[sent.request_id] = fact.router

    async def is_told(self) -> bool:
        """Whether the router tells its dispatches by now."""
        async with self.fleet.client() as client:
            self._asked += 1
            request_id = f"watched {self._asked}"
            await client.answer("sim", text="hail", request_id=request_id, max_tokens=1)
        await asyncio.sleep(0)
        return request_id in self.dispatched


@asynccontextmanager
async def watching(fleet: Any, eventually: Any) -> AsyncIterator[FactWatch]:
    """A Watch of a fleet's routers."""
    watch = FactWatch(fleet, eventually)
    bus = Bus(fleet.running.nats, fleet.running.fleet, "watch")
    bus.start()
    bus.listen(events_pb2.RequestsDispatched, watch.hear)

    async def beat() -> None:
        while True:
            bus.publish(events_pb2.QueueReported(router="watch", model="sim"))
            await asyncio.sleep(BEAT_S)

    beating = asyncio.create_task(beat())
    await eventually(watch.is_told)
    yield watch
    beating.cancel()
    await bus.close()


@asynccontextmanager
async def another_router(
    fleet: Any, eventually: Any, name: str = "router-b", **settings: str
) -> AsyncIterator[Any]:
    """The fleet as seen through one more router, which an operator starts beside it."""
    running = fleet.running
    grpc, http = (f"127.0.0.1:{port}" for port in free_ports(2))
    given = {
        "fleet": running.fleet,
        "instance_id": name,
        "listen": grpc,
        "http_listen": http,
        "nats_url": running.nats,
        "fleet_secret": fleet.secret.decode(),
        "data_dir": str(fleet.path),
        **settings,
    }
    with (fleet.path / f"logs/{name}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "argosy.router",
            stdout=log,
            stderr=log,
            env={**os.environ, **{f"ARGOSY_ROUTER_{k.upper()}": v for k, v in given.items()}},
        )
    there = msgspec.structs.replace(running, grpc=grpc, http=f"http://{http}")
    other = dataclasses.replace(fleet, running=there)

    async def is_ready() -> bool:
        try:
            return bool((await other.status()).ready)
        except ArgosyError:
            return False

    try:
        await eventually(is_ready, 30)
        yield other
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture(scope="session")
def three_decodes(
    new_fleet_launcher: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Each with a cache of its own; every request is decode's alone."""
    launcher = new_fleet_launcher(tmp_path_factory.mktemp("three"))
    # Every instance has room for all that a test asks, wherever it lands: 1,024 KV blocks.
    yield asyncio.run(launcher.launch(prefill=0, decode=3, kv_memory="4Gi"))
    launcher.close()


@pytest.fixture
async def watch(three_decodes: Any, eventually: Any) -> AsyncIterator[FactWatch]:
    """Of three_decodes, all of them in use."""
    await eventually(three_decodes.is_whole, 30)
    async with watching(three_decodes, eventually) as found:
        yield found


@pytest.fixture
async def other_router(three_decodes: Any, eventually: Any) -> AsyncIterator[Any]:
    """three_decodes through a second router."""
    async with another_router(three_decodes, eventually) as found:
        yield found


@pytest.fixture
def router_beside(eventually: Any) -> Any:
    """another_router, for fleets of the test's choice."""
    return lambda fleet, **settings: another_router(fleet, eventually, **settings)
