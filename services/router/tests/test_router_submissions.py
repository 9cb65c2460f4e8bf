"""Prompts to one instance share a stream, and only what happens to a prompt is its own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh import rpc
from argosy.router.shell import prompt_stream
from argosy.router.shell.submissions import Submissions
from argosy.wire.inference.v1.inference_pb2 import (
    Load,
    Prompt,
    Refusal,
    SubmitReply,
    SubmitRequest,
)
from argosy.wire.prefill.v1 import prefill_pb2_grpc

PATIENCE_S = 20


class Instance(prefill_pb2_grpc.PrefillServicer):
    """Answers batches as the test says. `batches`: the request ids of each that came."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.streams = 0
        self.answers: asyncio.Queue[Callable[[SubmitRequest], SubmitReply]] = asyncio.Queue()

    async def Submit(self, requests: AsyncIterator[SubmitRequest], context: Any) -> None:  # noqa: N802
        self.streams += 1
        async for request in requests:
            self.batches.append([prompt.request_id for prompt in request.prompts])
            answer = await self.answers.get()
            await context.write(answer(request))

    def take(self, batches: int = 1) -> None:
        """Answer that many batches, those to come included."""
        for _ in range(batches):
            self.answers.put_nowait(taken)

    def refuse(self) -> None:
        """Refuse the next batch."""
        self.answers.put_nowait(refused)


def taken(request: SubmitRequest) -> SubmitReply:
    return SubmitReply(batch=request.batch, load=Load(instance_id="p", at_us=request.batch))


def refused(request: SubmitRequest) -> SubmitReply:
    refusal = Refusal(reason="OVERLOADED", message="full", retry_after_ms=7)
    return SubmitReply(batch=request.batch, refused=refusal)


class Harbour:
    """An instance that can be killed, and the router's way to it."""

    def __init__(self) -> None:
        self.instance = Instance()
        self.heard: list[Load] = []
        self.channels = rpc.Channels()
        self.submissions = Submissions(self._connect, self.heard.append)
        self.address = ""
        self._server: Any = None

    async def start(self) -> None:
        self._server = grpc.aio.server()
        prefill_pb2_grpc.add_PrefillServicer_to_server(self.instance, self._server)
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def kill(self) -> None:
        await self._server.stop(None)

    def submit(self, request_id: str) -> "asyncio.Task[None]":
        prompt = Prompt(request_id=request_id, token_ids=[1, 2, 3])
        return asyncio.create_task(self.submissions.submit(prompt, "p", self.address))

    def _connect(self, address: str) -> Any:
        return self.channels.stub(prefill_pb2_grpc.PrefillStub, address).Submit()


@pytest.fixture
async def harbour() -> AsyncIterator[Harbour]:
    harbour = Harbour()
    await harbour.start()
    yield harbour
    await harbour.submissions.close()
    await harbour.channels.close()
    await harbour.kill()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


async def failure(task: "asyncio.Task[None]") -> ArgosyError:
    with pytest.raises(ArgosyError) as caught:
        await asyncio.wait_for(task, PATIENCE_S)
    return caught.value


async def test_prompts_of_one_turn_go_as_one_batch(harbour: Harbour) -> None:
    harbour.instance.take()
    await asyncio.gather(*(harbour.submit(name) for name in "abc"))
    assert harbour.instance.batches == [["a", "b", "c"]]


async def test_prompts_that_come_before_the_answer_go_together_in_the_next_batch(
    harbour: Harbour,
) -> None:
    first = harbour.submit("a")
    await until(lambda: harbour.instance.batches == [["a"]])
    later = [harbour.submit(name) for name in "bcd"]
    harbour.instance.take(2)
    await asyncio.gather(first, *later)
    assert harbour.instance.batches == [["a"], ["b", "c", "d"]]
    assert harbour.instance.streams == 1


async def test_the_load_on_every_answer_is_heard(harbour: Harbour) -> None:
    harbour.instance.take(2)
    await harbour.submit("a")
    await harbour.submit("b")
    assert [load.at_us for load in harbour.heard] == [1, 2]


async def test_a_refused_batch_fails_its_own_prompts_only(harbour: Harbour) -> None:
    harbour.instance.refuse()
    mine = [harbour.submit("a"), harbour.submit("b")]
    for task in mine:
        error = await failure(task)
        assert (error.reason, error.instance) == (Reason.OVERLOADED, "p")
        assert error.retry_after_ms == 7

    harbour.instance.take()
    await harbour.submit("c")
    assert harbour.instance.batches == [["a", "b"], ["c"]]
    assert harbour.instance.streams == 1


async def test_an_instance_that_dies_fails_what_it_has_not_answered(harbour: Harbour) -> None:
    harbour.instance.take()
    await harbour.submit("answered")
    written = harbour.submit("written")
    await until(lambda: len(harbour.instance.batches) == 2)
    waiting = harbour.submit("waiting")
    await harbour.kill()

    for task in (written, waiting):
        error = await failure(task)
        assert (error.reason, error.instance) == (Reason.INSTANCE_LOST, "p")


async def test_a_prompt_to_nobody_is_instance_lost(harbour: Harbour) -> None:
    await harbour.kill()
    error = await failure(harbour.submit("a"))
    assert (error.reason, error.instance) == (Reason.INSTANCE_LOST, "p")


async def test_an_instance_that_is_back_gets_a_stream_of_its_own(harbour: Harbour) -> None:
    harbour.instance.take()
    await harbour.submit("a")
    await harbour.kill()
    await harbour.start()
    harbour.instance.take(2)

    async def served() -> None:
        while True:  # until the channel has found the instance again
            try:
                return await harbour.submit("b")
            except ArgosyError as error:
                assert error.reason is Reason.INSTANCE_LOST  # noqa: PT017 - it may not come

    await asyncio.wait_for(served(), PATIENCE_S)
    assert harbour.instance.batches[-1] == ["b"]
    assert harbour.instance.streams == 2


async def test_a_caller_that_goes_takes_its_unwritten_prompt_back(harbour: Harbour) -> None:
    first = harbour.submit("a")
    await until(lambda: harbour.instance.batches == [["a"]])
    gone, stays = harbour.submit("gone"), harbour.submit("stays")
    await asyncio.sleep(0)
    gone.cancel()
    harbour.instance.take(2)
    await asyncio.gather(first, stays)
    assert harbour.instance.batches == [["a"], ["stays"]]


async def test_a_caller_that_goes_takes_nobody_with_it(harbour: Harbour) -> None:
    gone, stays = harbour.submit("gone"), harbour.submit("stays")
    await until(lambda: harbour.instance.batches == [["gone", "stays"]])
    gone.cancel()
    harbour.instance.take()
    await asyncio.wait_for(stays, PATIENCE_S)


async def test_an_instance_that_does_not_answer_is_lost(
    harbour: Harbour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_stream, "ANSWER_S", 0.05)
    written = harbour.submit("a")
    await until(lambda: harbour.instance.batches == [["a"]])
    error = await failure(written)
    assert error.reason is Reason.INSTANCE_LOST
    assert "no answer within 0.05 s" in error.message


async def test_more_prompts_than_an_instance_may_owe_an_answer_for_are_refused(
    harbour: Harbour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_stream, "PROMPTS_MAX", 2)
    owed = [harbour.submit("a"), harbour.submit("b")]
    assert (await failure(harbour.submit("c"))).reason is Reason.OVERLOADED
    harbour.instance.take()
    await asyncio.gather(*owed)


async def test_a_message_takes_no_more_prompts_than_its_size_allows(
    harbour: Harbour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_stream, "BATCH_BYTES", 1)
    harbour.instance.take(3)
    await asyncio.gather(*(harbour.submit(name) for name in "abc"))
    assert harbour.instance.batches == [["a"], ["b"], ["c"]]


async def test_forgetting_an_address_fails_what_is_under_way_there(harbour: Harbour) -> None:
    written = harbour.submit("a")
    await until(lambda: harbour.instance.batches == [["a"]])
    harbour.submissions.forget(harbour.address)
    assert (await failure(written)).reason is Reason.INSTANCE_LOST
