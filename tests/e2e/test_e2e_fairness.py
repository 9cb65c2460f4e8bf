"""Who is let in, and who is next: priorities, tenants, and the queue for all to see."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.wire.router.v1 import events_pb2, router_pb2

BANDS = [
    router_pb2.PRIORITY_UNSPECIFIED,
    router_pb2.PRIORITY_BACKGROUND,
    router_pb2.PRIORITY_INTERACTIVE,
    router_pb2.PRIORITY_URGENT,
]
ROOM = 4
"""Of the slow fleets' decode: what it is given at once."""


@pytest.mark.parametrize("direct", [False, True], ids=["relayed", "direct"])
async def test_requests_of_every_band_are_answered(
    fleet: Any, long_text: str, direct: bool
) -> None:
    async with fleet.client(direct=direct) as client:
        options = {"max_tokens": 16, "ignore_eos": True}
        answers = await asyncio.gather(
            *(
                client.answer("sim", text=f"{number} {long_text}", priority=band, **options)
                for number in range(3)
                for band in BANDS
            )
        )

    assert [len(answer.token_ids) for answer in answers] == [16] * len(answers)


async def test_an_unknown_band_is_refused(fleet: Any) -> None:
    with pytest.raises(ArgosyError) as caught:
        async with fleet.client() as client:
            await client.answer("sim", text="hello", max_tokens=1, priority=99)

    assert caught.value.reason is Reason.BAD_REQUEST
    assert "99" in caught.value.message


@pytest.mark.parametrize("tier", ["auto", "default", "flex", "priority", None])
async def test_openai_s_service_tiers_are_taken(fleet: Any, tier: str | None) -> None:
    async with fleet.openai() as client:
        chat = await client.chat.completions.create(
            model="sim",
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=4,
            service_tier=tier,
        )

    assert chat.choices[0].finish_reason in ("length", "stop")


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_a_service_tier_that_does_not_exist_is_refused(fleet: Any, path: str) -> None:
    prompt = {"prompt": "x"} if path == "/v1/completions" else {"messages": []}
    async with fleet.http() as http:
        reply = await http.post(path, json={"model": "sim", "service_tier": "gold", **prompt})

    assert reply.status_code == 400
    assert "service_tier" in reply.json()["error"]["message"]


@pytest.fixture
async def strict_fleet(slow_lone_fleet: Any, router_beside: Any) -> AsyncIterator[Any]:
    """Through a router where one request of each tenant may wait."""
    async with router_beside(slow_lone_fleet, tenant_queue_limit="1") as found:
        yield found


@pytest.fixture
async def greedy(strict_fleet: Any, eventually: Any) -> AsyncIterator[None]:
    """A tenant that has all the room, and the one request waiting that it may have."""

    async def ask(client: Any) -> None:
        await client.answer("sim", text="more!", tenant="greedy", max_tokens=100, ignore_eos=True)

    async def queued(number: int) -> bool:
        return (await strict_fleet.status()).queued_requests == number

    async with strict_fleet.client() as client:
        asking = []
        for running in range(1, ROOM + 1):
            asking.append(asyncio.create_task(ask(client)))
            await eventually(lambda running=running: has_running(strict_fleet, running))
        asking.append(asyncio.create_task(ask(client)))
        await eventually(lambda: queued(1))
        yield
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def has_running(fleet: Any, number: int) -> bool:
    status = await fleet.status()
    return bool(status.running_requests == number and status.queued_requests == 0)


async def test_a_tenant_over_its_limit_is_told_when_to_come_back_and_others_are_served(
    strict_fleet: Any, greedy: None
) -> None:
    async with strict_fleet.client() as client, strict_fleet.http() as http:
        with pytest.raises(ArgosyError) as caught:
            await client.answer("sim", text="yet more!", tenant="greedy", max_tokens=1)
        body = {"model": "sim", "prompt": "and more!", "max_tokens": 1}
        refused = await http.post(
            "/v1/completions", json=body, headers={"x-argosy-tenant": "greedy"}
        )
        other = asyncio.create_task(
            client.answer("sim", text="if you please", tenant="modest", max_tokens=1)
        )
        served = await asyncio.wait_for(other, 60)

    assert caught.value.reason is Reason.OVERLOADED
    assert caught.value.reason.value.grpc == "RESOURCE_EXHAUSTED"
    assert caught.value.retry_after_ms > 0
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert served.token_ids


async def test_a_router_tells_of_its_queue_all_the_time(slow_fleet: Any, eventually: Any) -> None:
    async with slow_fleet.hears(events_pb2.QueueReported) as heard:
        await eventually(lambda: len(heard) >= 3)
        idle = heard[-1]
        async with slow_fleet.client() as client:
            asking = asyncio.create_task(
                client.answer("sim", text="hello", max_tokens=40, ignore_eos=True)
            )
            await eventually(lambda: heard[-1].running_requests == 1)
            await asking
        await eventually(lambda: heard[-1].running_requests == 0)

    assert (idle.router, idle.model, idle.queued_requests) == ("router", "sim", 0)
    assert heard[-1].arrived_requests == idle.arrived_requests + 1
    assert [fact.at_us for fact in heard] == sorted(fact.at_us for fact in heard)
