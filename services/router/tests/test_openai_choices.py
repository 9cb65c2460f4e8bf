"""One HTTP request with several choices: they are answered together, and fail together."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh.service import Mesh
from argosy.router.settings import RouterSettings
from argosy.router.shell.openai.endpoints import Endpoints
from argosy.router.shell.openai.server import Completion, HttpServer
from argosy.router.shell.request_context import RequestContext
from argosy.wire.inference.v1 import inference_pb2

PATIENCE_S = 20
STOP = inference_pb2.FINISH_REASON_STOP
Answer = Callable[[int], AsyncGenerator[inference_pb2.TokenChunk, None]]


class ScriptedRelay:
    """Answers the n-th choice as the test's script says; counts the answers still open."""

    def __init__(self, script: Answer) -> None:
        self._script = script
        self.begun = 0
        self.open = 0

    async def generate(
        self, context: RequestContext
    ) -> AsyncGenerator[inference_pb2.TokenChunk, None]:
        number, self.begun = self.begun, self.begun + 1
        self.open += 1
        try:
            async for chunk in self._script(number):
                yield chunk
        finally:
            self.open -= 1


class AcceptingValidator:
    """Accepts whatever comes."""

    async def validate(self, request: Any, deadline_s: Any, **options: Any) -> RequestContext:
        return RequestContext("r", request.model, request.sampling, [1], [], "", 0)


class ReadyMesh:
    """As much of a mesh as an HTTP request touches."""

    settings = RouterSettings(fleet_secret="s")

    def __init__(self, tracer: Any) -> None:
        self.tracer = tracer

    def check_ready(self, **options: Any) -> None:
        """It is."""


@pytest.fixture
async def post() -> Any:
    """Call it with a script and a body: (the HTTP response, the relay)."""
    mesh = Mesh(RouterSettings(fleet_secret="s"), "router")

    async def post(script: Answer, **body: Any) -> tuple[httpx.Response, ScriptedRelay]:
        relay = ScriptedRelay(script)
        endpoints = Endpoints(AcceptingValidator(), relay)  # type: ignore[arg-type]
        http = HttpServer.__new__(HttpServer)
        http.mesh, http.endpoints = ReadyMesh(mesh.tracer), endpoints  # type: ignore[assignment]
        app = Completion(http, "http.completion", endpoints.completion)
        transport = httpx.ASGITransport(app=app)
        async with (
            asyncio.timeout(PATIENCE_S),
            httpx.AsyncClient(transport=transport, base_url="http://router") as client,
        ):
            request = {"model": "m", "prompt": "ahoy", **body}
            return await client.post("/v1/completions", json=request), relay

    yield post
    await mesh.close()


def chunk(text: str, finish: Any = None) -> inference_pb2.TokenChunk:
    return inference_pb2.TokenChunk(text=text, finish_reason=finish)


def one_fails(error: BaseException, *, after_chunks: int = 0) -> Answer:
    """The second choice fails; the others would go on for ever."""

    async def script(number: int) -> AsyncGenerator[inference_pb2.TokenChunk, None]:
        for _ in range(after_chunks):
            yield chunk("ahoy")
        if number == 1:
            raise error
        await asyncio.Event().wait()

    return script


FAILURES = [
    (ArgosyError(Reason.OVERLOADED, "full"), "OVERLOADED"),
    (ValueError("a bug"), "INTERNAL"),
    (asyncio.CancelledError(), "INSTANCE_LOST"),
]


@pytest.mark.parametrize(("error", "code"), FAILURES, ids=lambda value: type(value).__name__)
async def test_any_failure_of_one_choice_ends_all_and_is_answered(
    post: Any, error: BaseException, code: str
) -> None:
    response, relay = await post(one_fails(error), n=3)
    assert response.status_code >= 400
    assert response.json()["error"]["reason"] == code
    assert (relay.begun, relay.open) == (3, 0)


@pytest.mark.parametrize(("error", "code"), FAILURES, ids=lambda value: type(value).__name__)
async def test_any_failure_in_a_stream_is_its_last_event(
    post: Any, error: BaseException, code: str
) -> None:
    response, relay = await post(one_fails(error, after_chunks=2), n=2, stream=True)
    events = response.text.split("\n\n")[:-1]
    assert response.status_code == 200
    assert f'"reason":"{code}"' in events[-1]
    assert '"text":"ahoy"' in events[0]
    assert relay.open == 0


async def test_all_answers_of_a_request_share_one_copy_of_its_options() -> None:
    asked = {"model": "m", "prompt": ["a", "b", "c"], "n": 4, "stop": ["long" * 100]}
    endpoints = Endpoints(AcceptingValidator(), ScriptedRelay(nothing))  # type: ignore[arg-type]
    completion = await endpoints.completion(json.dumps(asked).encode(), "")
    contexts = completion.contexts
    assert (len(contexts), completion.prompts) == (12, 3)
    assert len({id(context.sampling) for context in contexts}) == 1
    assert len({context.instance_request_id for context in contexts}) == 12


async def nothing(number: int) -> AsyncGenerator[inference_pb2.TokenChunk, None]:
    return
    yield


async def test_the_choices_of_a_request_come_together(post: Any) -> None:
    async def script(number: int) -> AsyncGenerator[inference_pb2.TokenChunk, None]:
        yield chunk(f"choice {number}")
        yield chunk("!", STOP)

    response, relay = await post(script, n=3)
    assert [choice["text"] for choice in response.json()["choices"]] == [
        "choice 0!",
        "choice 1!",
        "choice 2!",
    ]
    assert relay.open == 0
