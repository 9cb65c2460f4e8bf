"""A caller that hangs up, at whatever stage, leaves nothing held five seconds later."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.wire.router.v1 import router_pb2, router_pb2_grpc

WITHIN_S = 5
VERY_LONG = "x" * 6000
"""Takes the slow fleet's prefill more than a second."""
ENDLESS: dict[str, Any] = {"max_tokens": 7000, "ignore_eos": True}
RUNNING, ROOM = 2, 4
"""Of the slow fleet's decode instance: what it runs at once, and what it is given."""

BOTH_WAYS = pytest.mark.parametrize("direct", [False, True], ids=["relayed", "direct"])


@asynccontextmanager
async def streaming(fleet: Any, answers: int) -> AsyncIterator[None]:
    """That many answers being decoded for as long as the block runs."""
    async with fleet.client() as client, contextlib.AsyncExitStack() as stack:
        for number in range(answers):
            chunks = client.generate("sim", text=f"filler {number}", **ENDLESS)
            await stack.enter_async_context(contextlib.aclosing(chunks))
            if number < RUNNING:
                await anext(chunks)
            else:
                waiting = asyncio.ensure_future(anext(chunks))
                stack.push_async_callback(hang_up, waiting)
        yield


async def hang_up(task: "asyncio.Future[Any]") -> None:
    """What a caller that goes away does."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def assert_at_rest(fleet: Any, eventually: Any, since_us: int) -> None:
    """Nothing is held in time, and the next request is served."""
    await eventually(lambda: fleet.is_at_rest(since_us), WITHIN_S)
    async with fleet.client() as client:
        answer = await client.answer("sim", text="well?", max_tokens=2, ignore_eos=True)
    assert len(answer.token_ids) == 2


def now_us() -> int:
    return time.time_ns() // 1000


@BOTH_WAYS
async def test_hanging_up_while_queued_leaves_nothing_held(
    slow_fleet: Any, eventually: Any, long_text: str, direct: bool
) -> None:
    async with streaming(slow_fleet, ROOM), slow_fleet.client(direct=direct) as client:

        async def queued(number: int) -> bool:
            return (await slow_fleet.status()).queued_requests == number

        # All fillers are on their way or there; what the router's ledger counts twice, until a
        # first token, can hold the last of them in the queue for some seconds.
        await eventually(lambda: has_running(slow_fleet, ROOM))
        asking = asyncio.create_task(client.answer("sim", text=long_text, max_tokens=2))
        await eventually(lambda: queued(1))
        await hang_up(asking)

        await eventually(lambda: queued(0), WITHIN_S)
    await assert_at_rest(slow_fleet, eventually, now_us())


async def has_running(fleet: Any, requests: int) -> bool:
    """Whether the router has sent that many, and has none left to send."""
    status = await fleet.status()
    return bool(status.running_requests == requests and status.queued_requests == 0)


@BOTH_WAYS
async def test_hanging_up_while_prefilling_leaves_nothing_held(
    slow_fleet: Any, eventually: Any, direct: bool
) -> None:
    async def prefilling() -> bool:
        return (await slow_fleet.instance("prefill-0")).load.queued_prefill_tokens > 0

    async with slow_fleet.client(direct=direct) as client:
        asking = asyncio.create_task(
            client.answer("sim", text=f"{direct}{VERY_LONG}", max_tokens=2)
        )
        await eventually(prefilling)
        await hang_up(asking)
        await assert_at_rest(slow_fleet, eventually, now_us())


async def prefill_holds(fleet: Any) -> bool:
    """Whether prefill has computed something that nobody pulled."""
    return (await fleet.instance("prefill-0")).load.kv_held_blocks > 0


@BOTH_WAYS
async def test_hanging_up_when_prefilled_but_not_pulled_leaves_nothing_held(
    slow_fleet: Any, eventually: Any, long_text: str, direct: bool
) -> None:
    # Decode has claimed the KV, and pulls it once it runs less than it does.
    async with streaming(slow_fleet, RUNNING), slow_fleet.client(direct=direct) as client:
        asking = asyncio.create_task(client.answer("sim", text=long_text, max_tokens=2))
        await eventually(lambda: prefill_holds(slow_fleet))
        await hang_up(asking)

        async def let_go() -> bool:
            return not await prefill_holds(slow_fleet)

        await eventually(let_go, WITHIN_S)
    await assert_at_rest(slow_fleet, eventually, now_us())


async def test_a_ticket_that_is_never_used_leaves_nothing_held(
    either_slow_fleet: Any, eventually: Any, long_text: str
) -> None:
    fleet = either_slow_fleet
    request = router_pb2.GenerateRequest(model="sim", text=long_text, sampling={"max_tokens": 2})
    async with fleet.channel(fleet.running.grpc) as channel:
        await router_pb2_grpc.RouterStub(channel).Route(router_pb2.RouteRequest(request=request))
    if fleet.prefills:
        await eventually(lambda: prefill_holds(fleet))

    await assert_at_rest(fleet, eventually, now_us())


@BOTH_WAYS
async def test_hanging_up_while_decoding_leaves_nothing_held(
    either_slow_fleet: Any, eventually: Any, long_text: str, direct: bool
) -> None:
    fleet = either_slow_fleet
    async with fleet.client(direct=direct) as client:
        chunks = client.generate("sim", text=long_text, **ENDLESS)
        for _ in range(3):
            await anext(chunks)
        await chunks.aclose()
        await assert_at_rest(fleet, eventually, now_us())


CALLER = """
import asyncio, sys
from argosy.client import Client

async def main():
    _, address, direct, text = sys.argv
    async with Client(address, direct=bool(int(direct))) as client:
        async for chunk in client.generate("sim", text=text, max_tokens=7000, ignore_eos=True):
            print(len(chunk.token_ids), flush=True)

asyncio.run(main())
"""


@BOTH_WAYS
async def test_a_caller_that_is_killed_while_decoding_leaves_nothing_held(
    slow_fleet: Any, eventually: Any, long_text: str, direct: bool
) -> None:
    caller = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CALLER,
        slow_fleet.running.grpc,
        str(int(direct)),
        long_text,
        stdout=asyncio.subprocess.PIPE,
    )
    assert caller.stdout is not None
    assert await caller.stdout.readline() == b"1\n"
    caller.kill()
    await caller.wait()

    await assert_at_rest(slow_fleet, eventually, now_us())


async def test_a_deadline_that_passes_leaves_nothing_held(
    slow_fleet: Any, eventually: Any, long_text: str
) -> None:
    async with slow_fleet.client() as client:
        with pytest.raises(ArgosyError) as caught:
            await client.answer("sim", text=long_text, timeout_s=1, **ENDLESS)
    assert caught.value.reason is Reason.DEADLINE

    await assert_at_rest(slow_fleet, eventually, now_us())


async def test_closing_an_http_stream_leaves_nothing_held(
    slow_fleet: Any, eventually: Any, long_text: str
) -> None:
    body = {"model": "sim", "prompt": long_text, "stream": True, **ENDLESS}
    async with slow_fleet.http() as http:
        async with http.stream("POST", "/v1/completions", json=body) as reply:
            await anext(reply.aiter_lines())
        await assert_at_rest(slow_fleet, eventually, now_us())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_hanging_up_http_before_the_first_byte_leaves_nothing_held(
    slow_fleet: Any, eventually: Any, stream: bool
) -> None:
    async def prefilling() -> bool:
        return (await slow_fleet.instance("prefill-0")).load.queued_prefill_tokens > 0

    body = {"model": "sim", "prompt": f"{stream} {VERY_LONG}", "stream": stream, "max_tokens": 9}
    async with slow_fleet.http() as http:
        asking = asyncio.create_task(http.post("/v1/completions", json=body))
        await eventually(prefilling)
        await hang_up(asking)
        await assert_at_rest(slow_fleet, eventually, now_us())


async def test_hanging_up_one_of_n_http_choices_stops_them_all(
    slow_fleet: Any, eventually: Any, long_text: str
) -> None:
    body = {"model": "sim", "prompt": long_text, "stream": True, "n": 3, **ENDLESS}
    async with slow_fleet.http() as http:
        async with http.stream("POST", "/v1/completions", json=body) as reply:
            await anext(reply.aiter_lines())
        await assert_at_rest(slow_fleet, eventually, now_us())


async def test_hanging_up_in_the_middle_of_a_body_leaves_the_router_well(
    slow_fleet: Any, eventually: Any
) -> None:
    host, _, port = slow_fleet.running.http.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    await assert_at_rest(slow_fleet, eventually, now_us())
    assert "Traceback" not in (slow_fleet.path / "logs/router.log").read_text()
