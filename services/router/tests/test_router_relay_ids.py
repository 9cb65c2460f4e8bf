import asyncio
from collections.abc import AsyncIterator

import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh.service import Mesh
from argosy.router.core import events
from argosy.router.core.state import RouterLimits, new_state
from argosy.router.policies import SPEC
from argosy.router.settings import RouterSettings
from argosy.router.shell.relay import Relay
from argosy.router.shell.request_context import RequestContext
from argosy.router.shell.tokenizing import TokenizerPool
from argosy.wire.inference.v1 import inference_pb2

MINUTE_US = 60_000_000


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A relay over a real core that knows of a prefill instance only: requests wait."""
    mesh = Mesh(RouterSettings(fleet_secret="s"), "router")
    relay = Relay(mesh, TokenizerPool("sim", "sim", 32, 1))
    state = new_state(RouterLimits(queue_limit=8))
    relay.driver = mesh.drive(SPEC, state, relay.perform)
    now_us = relay.driver.now_us()
    relay.driver.feed(
        events.InstanceJoined(
            now_us=now_us,
            instance="p",
            epoch="e",
            role="prefill",
            address="host:1",
            node="n",
            model="sim",
            kv_total_blocks=8,
            block_tokens=32,
            max_model_tokens=99,
            max_running_requests=1,
        )
    )
    yield relay
    relay.pool.stop()
    await mesh.close()


def request_context(relay: Relay, request_id: str) -> RequestContext:
    sampling = inference_pb2.Sampling(max_tokens=4)
    deadline_us = relay.driver.now_us() + MINUTE_US
    return RequestContext(request_id, "sim", sampling, [1, 2, 3], [], "", deadline_us)


async def until_queued(relay: Relay) -> None:
    async with asyncio.timeout(5):
        while not relay.driver.core.state.queued_requests:
            await asyncio.sleep(0)


async def test_a_request_id_in_use_is_refused_and_its_owner_keeps_its_place(relay: Relay) -> None:
    owner = asyncio.ensure_future(anext(relay.generate(request_context(relay, "a"))))
    await until_queued(relay)
    with pytest.raises(ArgosyError, match="a is in use") as refused:
        await anext(relay.generate(request_context(relay, "a")))
    assert refused.value.reason is Reason.BAD_REQUEST
    assert list(relay.driver.core.state.requests) == ["a"]
    assert relay.driver.core.state.queued_requests == 1
    owner.cancel()


async def test_a_caller_that_hangs_up_while_queued_is_forgotten(relay: Relay) -> None:
    caller = asyncio.ensure_future(anext(relay.generate(request_context(relay, "a"))))
    await until_queued(relay)
    caller.cancel()
    await asyncio.wait([caller])
    assert relay.driver.core.state.requests == {}
