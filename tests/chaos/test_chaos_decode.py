"""Decode dies: answers go on elsewhere as if nothing had happened, and it comes back."""

import asyncio
import contextlib
import os
import signal
from typing import Any

import pytest

from argosy.client import Answer
from argosy.wire.operator.v1 import operator_pb2, operator_pb2_grpc
from argosy.wire.router.v1 import router_pb2

pytestmark = pytest.mark.slow

LONG = "a long way round the cape of storms " * 8
SHORT = "land ahead"
TOKENS = 48
OPTIONS: dict[str, Any] = {"max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}

BOTH_WAYS = pytest.mark.parametrize("direct", [False, True], ids=["relayed", "direct"])


async def undisturbed(fleet: Any, text: str, **options: Any) -> Answer:
    """The answer as it should be: of a fleet that nobody hurts, and that is faster."""
    async with fleet.client() as client:
        return await client.answer("sim", text=text, **{**OPTIONS, **options})


async def disturbed(
    fleet: Any, text: str, reached: asyncio.Event, *, direct: bool, **options: Any
) -> Answer:
    """The answer, telling when it has got going."""
    answer = Answer()
    async with fleet.client(direct=direct) as client:
        async for chunk in client.generate("sim", text=text, **{**OPTIONS, **options}):
            answer.add(chunk)
            if len(answer.token_ids) >= 5:
                reached.set()
    return answer


async def kill_server(fleet: Any, eventually: Any, number: signal.Signals = signal.SIGKILL) -> None:
    """Signal the decode instance that has something to do."""

    # Known before: the answers go on while this looks for the one to kill.
    pids = {name: process.pid for name, process in (await fleet.processes()).items()}

    async def busy() -> str:
        instances = (await fleet.status()).instances
        names = [i.instance_id for i in instances if i.live and i.load.running_requests]
        return next((name for name in names if name.startswith("decode")), "")

    os.kill(pids[await eventually(busy)], number)


@BOTH_WAYS
async def test_killing_decode_mid_stream_changes_nothing_the_caller_sees(
    fleet: Any, either_pair: Any, eventually: Any, long_text: str, direct: bool
) -> None:
    await eventually(either_pair.is_whole, 30)
    expected = await undisturbed(fleet, long_text)
    reached = asyncio.Event()
    asking = asyncio.create_task(disturbed(either_pair, long_text, reached, direct=direct))
    await reached.wait()
    await kill_server(either_pair, eventually)
    answer = await asking

    assert answer.token_ids == expected.token_ids
    assert answer.text == expected.text
    assert answer.finish_reason == expected.finish_reason
    assert answer.usage.prompt_tokens == expected.usage.prompt_tokens
    assert answer.usage.completion_tokens == TOKENS
    assert answer.timing.attempts >= 2


@BOTH_WAYS
async def test_killing_decode_mid_stream_keeps_a_tenant_s_answer_of_any_priority(
    fleet: Any, hurt_pair: Any, eventually: Any, long_text: str, direct: bool
) -> None:
    await eventually(hurt_pair.is_whole, 30)
    expected = await undisturbed(fleet, long_text)
    bands = [router_pb2.PRIORITY_BACKGROUND, router_pb2.PRIORITY_URGENT]
    reached = [asyncio.Event() for _ in bands]
    asking = [
        asyncio.create_task(
            disturbed(
                hurt_pair,
                long_text,
                reached[n],
                direct=direct,
                tenant=f"guild {n}",
                priority=priority,
            )
        )
        for n, priority in enumerate(bands)
    ]
    await asyncio.gather(*(event.wait() for event in reached))
    await kill_server(hurt_pair, eventually)
    answers = await asyncio.gather(*asking)

    assert [answer.token_ids for answer in answers] == [expected.token_ids] * len(bands)
    assert max(answer.timing.attempts for answer in answers) >= 2


@BOTH_WAYS
async def test_killing_the_only_decode_makes_its_answer_wait_for_the_next(
    fleet: Any, whole_fleet: Any, direct: bool
) -> None:
    expected = await undisturbed(fleet, LONG)
    reached = asyncio.Event()
    asking = asyncio.create_task(disturbed(whole_fleet, LONG, reached, direct=direct))
    await reached.wait()
    await whole_fleet.kill("decode-0")
    answer = await asking

    assert (answer.text, answer.token_ids) == (expected.text, expected.token_ids)
    assert answer.timing.attempts >= 2


async def test_killing_decode_resumes_every_stream_it_had(
    fleet: Any, hurt_pair: Any, eventually: Any
) -> None:
    texts = [f"{LONG} {number}" for number in range(3)] + [f"short {n}" for n in range(3)]
    expected = await asyncio.gather(*(undisturbed(fleet, text) for text in texts))
    reached = [asyncio.Event() for _ in texts]
    asking = [
        asyncio.create_task(disturbed(hurt_pair, text, reached[n], direct=n % 2 == 0))
        for n, text in enumerate(texts)
    ]
    await asyncio.gather(*(event.wait() for event in reached))
    await kill_server(hurt_pair, eventually)
    answers = await asyncio.gather(*asking)

    assert [answer.text for answer in answers] == [answer.text for answer in expected]
    assert sum(answer.timing.attempts >= 2 for answer in answers) >= 2


async def test_the_trace_of_a_resumed_answer_is_one_and_shows_who_died(
    hurt_pair: Any, eventually: Any
) -> None:
    async with hurt_pair.traced_client() as client:
        chunks = client.generate("sim", text=LONG, **OPTIONS)
        async with contextlib.aclosing(chunks):
            await anext(chunks)
            await kill_server(hurt_pair, eventually)
            async for _ in chunks:
                pass
    trace_id = client.last_trace_id
    await eventually(lambda: len(hurt_pair.trace(trace_id).lost) == 1)
    trace = hurt_pair.trace(trace_id)

    assert [span.name for span in trace.roots] == ["client.generate"]
    assert trace.orphans == []
    assert [span.name for span in trace.spans].count("decode.generate") == 2
    assert [span.name for span in trace.lost] == ["decode.generate"]


async def test_a_stop_string_cut_in_two_by_a_kill_still_stops(
    fleet: Any, hurt_pair: Any, eventually: Any
) -> None:
    long = {"max_tokens": 2 * TOKENS}
    words = (await undisturbed(fleet, SHORT, **long)).text.split(" ")
    # It begins before the kill and ends well after it, however long finding the process takes.
    stop = " ".join(words[4:80])
    expected = await undisturbed(fleet, SHORT, stop=[stop], **long)
    reached = asyncio.Event()
    asking = asyncio.create_task(
        disturbed(hurt_pair, SHORT, reached, direct=False, stop=[stop], **long)
    )
    await reached.wait()
    await kill_server(hurt_pair, eventually)
    answer = await asking

    assert (answer.text, answer.finish_reason) == (expected.text, "stop")
    assert answer.timing.attempts >= 2


async def test_an_http_stream_goes_on_after_decode_was_killed(
    fleet: Any, hurt_pair: Any, eventually: Any
) -> None:
    expected = await undisturbed(fleet, SHORT)
    pieces: list[str] = []
    async with hurt_pair.openai() as client:
        stream = await client.completions.create(
            model="sim",
            prompt=SHORT,
            stream=True,
            temperature=0,
            max_tokens=TOKENS,
            extra_body={"ignore_eos": True},
        )
        async for chunk in stream:
            pieces.append(chunk.choices[0].text)
            if len(pieces) == 5:
                await kill_server(hurt_pair, eventually)

    assert "".join(pieces) == expected.text


async def test_health_is_503_while_no_decode_is_live_and_200_once_it_is_back(
    whole_fleet: Any, eventually: Any
) -> None:
    async def health_is(status: int) -> bool:
        return await whole_fleet.healthz() == status

    assert await health_is(200)
    await whole_fleet.kill("decode-0")
    await eventually(lambda: health_is(503))
    waited = await undisturbed(whole_fleet, SHORT)
    await eventually(lambda: health_is(200))

    assert len(waited.token_ids) == TOKENS


@pytest.mark.parametrize("name", ["prefill-0", "decode-0"])
async def test_a_killed_instance_comes_back_to_count(
    whole_fleet: Any, eventually: Any, name: str
) -> None:
    async def operator_s() -> Any:
        async with whole_fleet.channel(whole_fleet.running.operator) as channel:
            stub = operator_pb2_grpc.OperatorStub(channel)
            status = await stub.Status(operator_pb2.StatusRequest())
            return next(i for i in status.instances if i.instance_id == name)

    before = await operator_s()
    pid = await whole_fleet.kill(name)

    async def is_back() -> bool:
        now = await operator_s()
        return bool(now.state == "active" and now.restarts == before.restarts + 1)

    await eventually(is_back)
    await eventually(whole_fleet.is_whole)
    assert (await whole_fleet.processes())[name].pid != pid


@BOTH_WAYS
async def test_a_draining_decode_finishes_its_answers(
    fleet: Any, hurt_pair: Any, eventually: Any, direct: bool
) -> None:
    expected = await undisturbed(fleet, LONG)
    reached = asyncio.Event()
    asking = asyncio.create_task(disturbed(hurt_pair, LONG, reached, direct=direct))
    await reached.wait()
    await kill_server(hurt_pair, eventually, signal.SIGTERM)
    answer = await asking

    assert answer.text == expected.text
    assert answer.timing.attempts == 1
