"""Prompts to one instance share a stream, and only what happens to a prompt is its own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh import rpc
from argosy.router.shell import prompt_stream
from argosy.router.shell.submissions import PromptSubmissions
from argosy.wire.inference.v1.inference_pb2 import Load, Prompt, Refusal, SubmitReply, SubmitRequest
from argosy.wire.prefill.v1 import prefill_pb2_grpc

PATIENCE_S = 20


class PrefillServer(prefill_pb2_grpc.PrefillServicer):
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


class PrefillServers:
    """An instance that can be killed, and the router's way to it."""

    def __init__(self) -> None:
        self.instance = PrefillServer()
        self.heard: list[Load] = []
        self.channels = rpc.Channels()
        self.submissions = PromptSubmissions(self._connect, self.heard.append)
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
async def servers() -> AsyncIterator[PrefillServers]:
    servers = PrefillServers()
    await servers.start()
    yield servers
    await servers.submissions.close()
    await servers.channels.close()
    await servers.kill()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


async def failure(task: "asyncio.Task[None]") -> ArgosyError:
    with pytest.raises(ArgosyError) as caught:
        await asyncio.wait_for(task, PATIENCE_S)
    return caught.value


async def test_prompts_of_one_turn_go_as_one_batch(servers: PrefillServers) -> None:
    servers.instance.take()
    await asyncio.gather(*(servers.submit(name) for name in "abc"))
    assert servers.instance.batches == [["a", "b", "c"]]


async def test_prompts_that_come_before_the_answer_go_together_in_the_next_batch(
    servers: PrefillServers,
) -> None:
    first = servers.submit("a")
    await until(lambda: servers.instance.batches == [["a"]])
    later = [servers.submit(name) for name in "bcd"]
    servers.instance.take(2)
    await asyncio.gather(first, *later)
    assert servers.instance.batches == [["a"], ["b", "c", "d"]]
    assert servers.instance.streams == 1


async def test_the_load_on_every_answer_is_heard(servers: PrefillServers) -> None:
    servers.instance.take(2)
    await servers.submit("a")
    await servers.submit("b")
    assert [load.at_us for load in servers.heard] == [1, 2]


async def test_a_refused_batch_fails_its_own_prompts_only(servers: PrefillServers) -> None:
    servers.instance.refuse()
    mine = [servers.submit("a"), servers.submit("b")]
    for task in mine:
        error = await failure(task)
        assert (error.reason, error.instance) == (Reason.OVERLOADED, "p")
        assert error.retry_after_ms == 7

    servers.instance.take()
    await servers.submit("c")
    assert servers.instance.batches == [["a", "b"], ["c"]]
    assert servers.instance.streams == 1


async def test_an_instance_that_dies_fails_what_it_has_not_answered(
    servers: PrefillServers,
) -> None:
    servers.instance.take()
    await servers.submit("answered")
    written = servers.submit("written")
    await until(lambda: len(servers.instance.batches) == 2)
    waiting = servers.submit("waiting")
    await servers.kill()

    for task in (written, waiting):
        error = await failure(task)
        assert (error.reason, error.instance) == (Reason.INSTANCE_LOST, "p")


async def test_a_prompt_to_nobody_is_instance_lost(servers: PrefillServers) -> None:
    await servers.kill()
    error = await failure(servers.submit("a"))
    assert (error.reason, error.instance) == (Reason.INSTANCE_LOST, "p")


async def test_an_instance_that_is_back_gets_a_stream_of_its_own(servers: PrefillServers) -> None:
    servers.instance.take()
    await servers.submit("a")
    await servers.kill()
    await servers.start()
    servers.instance.take(2)

    async def served() -> None:
        while True:  # until the channel has found the instance again
            try:
                return await servers.submit("b")
            except ArgosyError as error:
                assert error.reason is Reason.INSTANCE_LOST  # noqa: PT017 - it may not come

    await asyncio.wait_for(served(), PATIENCE_S)
    assert servers.instance.batches[-1] == ["b"]
    assert servers.instance.streams == 2


async def test_a_caller_that_goes_takes_its_unwritten_prompt_back(servers: PrefillServers) -> None:
    first = servers.submit("a")
    await until(lambda: servers.instance.batches == [["a"]])
    gone, stays = servers.submit("gone"), servers.submit("stays")
    await asyncio.sleep(0)
    gone.cancel()
    servers.instance.take(2)
    await asyncio.gather(first, stays)
    assert servers.instance.batches == [["a"], ["stays"]]


async def test_a_caller_that_goes_takes_nobody_with_it(servers: PrefillServers) -> None:
    gone, stays = servers.submit("gone"), servers.submit("stays")
    await until(lambda: servers.instance.batches == [["gone", "stays"]])
    gone.cancel()
    servers.instance.take()
    await asyncio.wait_for(stays, PATIENCE_S)


async def test_an_instance_that_does_not_answer_is_lost(
    servers: PrefillServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_stream, "ANSWER_S", 0.05)
    written = servers.submit("a")
    await until(lambda: servers.instance.batches == [["a"]])
    error = await failure(written)
    assert error.reason is Reason.INSTANCE_LOST
    assert "no answer within 0.05 s" in error.message


async def test_more_prompts_than_an_instance_may_owe_an_answer_for_are_refused(
    servers: PrefillServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_stream, "PROMPTS_MAX", 2)
    owed = [servers.submit("a"), servers.submit("b")]
    assert (await failure(servers.submit("c"))).reason is Reason.OVERLOADED
    servers.instance.take()
    await asyncio.gather(*owed)


async def test_a_message_takes_no_more_prompts_than_its_size_allows(
    servers: PrefillServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_stream, "BATCH_BYTES", 1)
    servers.instance.take(3)
    await asyncio.gather(*(servers.submit(name) for name in "abc"))
    assert servers.instance.batches == [["a"], ["b"], ["c"]]


async def test_forgetting_an_address_fails_what_is_under_way_there(servers: PrefillServers) -> None:
    written = servers.submit("a")
    await until(lambda: servers.instance.batches == [["a"]])
    servers.submissions.forget(servers.address)
    assert (await failure(written)).reason is Reason.INSTANCE_LOST
