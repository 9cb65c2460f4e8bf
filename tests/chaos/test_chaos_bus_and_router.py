"""NATS or the router dies: what can go on goes on, and all is well again afterwards."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from signals import send_signal

from argosy.client import Answer
from argosy.domain.errors import ArgosyError, Reason
from argosy.wire.decode.v1 import events_pb2 as decode_events
from argosy.wire.prefill.v1 import events_pb2 as prefill_events

pytestmark = pytest.mark.slow

LONG = "over the sea and far away " * 8
STALE_S = 3
"""An instance this long silent is not used, as long as the bus is there."""
OPTIONS: dict[str, Any] = {"max_tokens": 6, "temperature": 0, "ignore_eos": True}


async def ask(fleet: Any, text: str, *, direct: bool = False, **options: Any) -> Answer:
    async with fleet.client(direct=direct) as client:
        return await client.answer("sim", text=text, **{**OPTIONS, **options})


@asynccontextmanager
async def bus_away(fleet: Any) -> AsyncIterator[dict[str, int]]:
    """NATS is killed, and who would start it again sleeps, while the block runs. -> pids"""
    pids = {name: process.pid for name, process in (await fleet.processes()).items()}
    send_signal(fleet.running.pid, signal.SIGSTOP)
    try:
        os.kill(pids["nats"], signal.SIGKILL)
        yield pids
    finally:
        os.kill(fleet.running.pid, signal.SIGCONT)


async def test_no_request_fails_while_nats_is_away(whole_fleet: Any) -> None:
    async with bus_away(whole_fleet):
        until = time.monotonic() + STALE_S + 1
        answers = []
        while time.monotonic() < until:
            answers += await asyncio.gather(
                ask(whole_fleet, LONG), ask(whole_fleet, LONG, direct=True), ask(whole_fleet, "hi")
            )
        assert await whole_fleet.healthz() == 200

    assert {len(answer.token_ids) for answer in answers} == {6}
    assert {answer.timing.attempts for answer in answers} == {1}


async def test_an_answer_under_way_does_not_notice_that_nats_is_killed(whole_fleet: Any) -> None:
    expected = await ask(whole_fleet, LONG, max_tokens=30)
    answer = Answer()
    async with whole_fleet.client() as client:
        async for chunk in client.generate("sim", text=LONG, **{**OPTIONS, "max_tokens": 30}):
            if not answer.token_ids:
                await whole_fleet.kill("nats")
            answer.add(chunk)

    assert answer.text == expected.text
    assert answer.timing.attempts == 1


async def test_facts_flow_again_when_nats_is_back(whole_fleet: Any, eventually: Any) -> None:
    kinds = (prefill_events.LoadReported, prefill_events.KvChanged, decode_events.KvChanged)
    numbers = itertools.count()
    async with whole_fleet.hears(*kinds) as heard:
        await whole_fleet.kill("nats")
        heard.clear()

        async def all_heard() -> bool:
            # Until the listener is back too, what is said on core NATS is lost on it.
            await ask(whole_fleet, f"{next(numbers)} back again " * 20)
            return {type(fact) for fact in heard} == set(kinds)

        await eventually(all_heard)


async def test_an_instance_that_dies_while_nats_is_away_is_used_again_after(
    whole_fleet: Any, eventually: Any
) -> None:
    async with bus_away(whole_fleet) as pids:
        await ask(whole_fleet, "away")
        os.kill(pids["decode-0"], signal.SIGKILL)
        asking = asyncio.create_task(ask(whole_fleet, LONG))

    assert len((await asking).token_ids) == 6
    await eventually(whole_fleet.is_whole)


async def test_killing_the_router_ends_relayed_calls_with_instance_lost(whole_fleet: Any) -> None:
    async with whole_fleet.client() as client:
        chunks = client.generate("sim", text=LONG, **{**OPTIONS, "max_tokens": 200})
        await anext(chunks)
        await whole_fleet.kill("router")
        with pytest.raises(ArgosyError) as caught:
            async for _ in chunks:
                pass

    assert caught.value.reason is Reason.INSTANCE_LOST
    assert caught.value.reason.value.grpc == "UNAVAILABLE"


async def test_a_direct_answer_under_way_does_not_notice_that_the_router_is_killed(
    whole_fleet: Any,
) -> None:
    expected = await ask(whole_fleet, LONG, max_tokens=30)
    answer = Answer()
    async with whole_fleet.client(direct=True) as client:
        async for chunk in client.generate("sim", text=LONG, **{**OPTIONS, "max_tokens": 30}):
            if not answer.token_ids:
                await whole_fleet.kill("router")
            answer.add(chunk)

    assert answer.text == expected.text


@pytest.mark.parametrize("direct", [False, True], ids=["relayed", "direct"])
async def test_calls_work_again_once_a_killed_router_is_back(
    whole_fleet: Any, eventually: Any, direct: bool
) -> None:
    async def works() -> Answer | None:
        try:
            return await ask(whole_fleet, LONG, direct=direct)
        except ArgosyError as error:
            if error.reason not in (Reason.INSTANCE_LOST, Reason.NOT_READY):
                raise
            return None

    expected = await ask(whole_fleet, LONG)
    await whole_fleet.kill("router")

    assert (await eventually(works)).text == expected.text


async def test_callers_of_a_killed_router_leave_nothing_held(
    whole_fleet: Any, eventually: Any
) -> None:
    async with whole_fleet.client() as client:
        chunks = client.generate("sim", text=LONG, **{**OPTIONS, "max_tokens": 5000})
        await anext(chunks)
        await whole_fleet.kill("router")
        with pytest.raises(ArgosyError):
            async for _ in chunks:
                pass
    await eventually(whole_fleet.is_whole)

    await eventually(lambda: whole_fleet.is_at_rest(0))
