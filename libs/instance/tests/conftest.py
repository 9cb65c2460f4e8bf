"""What the tests of instances share: a sim engine's instance on a real bus."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from argosy.engine.api import EngineRequest, SamplingSpec
from argosy.instance.instance import EngineInstance
from argosy.instance.settings import InstanceSettings
from argosy.launcher.nats_process import NatsProcess
from argosy.mesh import control_log
from argosy.mesh.bus import Bus
from argosy.mesh.service import Mesh
from argosy.wire.decode.v1.events_pb2 import KvChanged, LoadReported
from argosy.wire.inference.v1.inference_pb2 import KvChange, Load
from argosy.wire.instance.v1.events_pb2 import (
    ROLE_DECODE,
    InstanceDraining,
    InstanceReady,
    InstanceSlept,
    InstanceStopped,
    InstanceWaking,
    InstanceWoke,
)

PATIENCE_S = 20

FACTS = (
    InstanceReady,
    InstanceDraining,
    InstanceSlept,
    InstanceWaking,
    InstanceWoke,
    InstanceStopped,
)


class RecordedWork:
    """What an instance does for others: nothing, unless a test says that it is not idle."""

    def __init__(self) -> None:
        self.idle = True
        self.calls: list[str] = []
        self.done: Callable[[], None] = lambda: None
        """Nothing is left of it now."""

    def stop_admitting(self) -> None:
        self.calls.append("stop_admitting")
        if self.idle:
            self.done()

    def abort(self) -> None:
        self.calls.append("abort")
        self.done()

    def resume(self) -> None:
        self.calls.append("resume")


class ListenedInstance:
    """An instance, and a listener elsewhere on the bus."""

    def __init__(self, nats: NatsProcess, **given: Any) -> None:
        settings = InstanceSettings(
            nats_url=nats.url,
            instance_id="decode-0",
            epoch="e1",
            node="n1",
            **{"sim_speed": 1000, "block_tokens": 4, "heartbeat_s": 3600, **given},
        )
        self.mesh = Mesh(settings, "decode")
        self.work = RecordedWork()
        self.instance = EngineInstance(
            self.mesh,
            ROLE_DECODE,
            self.work,
            load_fact=lambda load: LoadReported(load=load),
            kv_fact=lambda change: KvChanged(change=change),
            stepped=lambda stats: None,
        )
        self.work.done = self.instance.life.work_ended
        self.elsewhere = Bus(nats.url, settings.fleet, "elsewhere")
        self.loads: list[Load] = []
        self.changes: list[KvChange] = []
        self.heard: list[Any] = []

    async def start(self) -> None:
        bus = self.elsewhere
        bus.listen(LoadReported, lambda fact, _: self.loads.append(fact.load))
        bus.listen(KvChanged, lambda fact, _: self.changes.append(fact.change))
        bus.start()
        for fact in FACTS:
            heard = bus.follow(fact, lambda heard, _: self.heard.append(heard), fact.__name__)
            await asyncio.wait_for(heard.wait(), PATIENCE_S)
        assert bus._client is not None
        await bus._client.flush()
        await self.mesh.open()
        await asyncio.wait_for(self.instance.start(), PATIENCE_S)

    async def answer(
        self, name: str, tokens: list[int], max_tokens: int = 20, dp_rank: int = 0
    ) -> None:
        sampling = SamplingSpec(max_tokens, ignore_eos=True)
        request = EngineRequest(name, tokens, sampling, dp_rank=dp_rank)
        async for _ in self.instance.engine.submit(request):
            pass

    def names(self) -> list[str]:
        return [type(fact).__name__ for fact in self.heard]

    async def close(self) -> None:
        await self.instance.stop()
        await self.mesh.close()
        await self.elsewhere.close()


@pytest.fixture
async def start_instance(
    nats: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Any]]:
    """Starts instances with some settings; all are stopped when the test ends."""
    monkeypatch.setattr(control_log, "FETCH_S", 0.3)  # How long an outage is noticed late.
    started: list[ListenedInstance] = []

    async def begin(**given: Any) -> ListenedInstance:
        started.append(ListenedInstance(nats, **given))
        await started[-1].start()
        return started[-1]

    yield begin
    for made in started:
        await made.close()
