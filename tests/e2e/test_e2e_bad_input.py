"""Bad input gets a clear answer over gRPC and over HTTP, and nothing breaks."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh import tickets
from argosy.wire.decode.v1 import decode_pb2, decode_pb2_grpc
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.operator.v1 import operator_pb2, operator_pb2_grpc
from argosy.wire.router.v1 import router_pb2, router_pb2_grpc

CONTEXT = 8192
LONG = "this one is long enough to be worth a prefill instance of its own " * 26


@dataclass(frozen=True)
class Bad:
    """One kind of bad input: what is sent, what comes back."""

    name: str
    sent: Any
    reason: Reason
    says: str


def generate(**fields: Any) -> dict[str, Any]:
    """Arguments of Client.generate: a good request, less what is given."""
    return {"model": "sim", "text": "hello", "max_tokens": 4, **fields}


def chat(**fields: Any) -> dict[str, Any]:
    """The body of a chat request: a good one, less what is given."""
    messages = [{"role": "user", "content": "hello"}]
    return {"model": "sim", "messages": messages, "max_tokens": 4, **fields}


GRPC = [
    Bad("prompt over the context", generate(text="x" * CONTEXT), Reason.PROMPT_TOO_LONG, "8192"),
    Bad("max_tokens 0", generate(max_tokens=0), Reason.BAD_REQUEST, "max_tokens"),
    Bad("unknown model", generate(model="no-such"), Reason.MODEL_NOT_FOUND, "there are: sim"),
    Bad("no input", generate(text=None), Reason.BAD_REQUEST, "no input"),
    Bad("empty text", generate(text=""), Reason.BAD_REQUEST, "empty"),
    Bad("no messages", generate(text=None, messages=[]), Reason.BAD_REQUEST, "messages"),
    Bad("message without role", generate(text=None, messages=[{}]), Reason.BAD_REQUEST, "role"),
    Bad("message not an object", generate(text=None, messages=[1]), Reason.BAD_REQUEST, "message"),
    Bad(
        "token id outside the vocabulary",
        generate(text=None, token_ids=[1, 1_000_000]),
        Reason.BAD_REQUEST,
        "1000000",
    ),
    Bad("temperature over 2", generate(temperature=3), Reason.BAD_REQUEST, "temperature"),
    Bad("temperature below 0", generate(temperature=-1), Reason.BAD_REQUEST, "temperature"),
    Bad("temperature no number", generate(temperature=float("nan")), Reason.BAD_REQUEST, "nan"),
    Bad("top_p 0", generate(top_p=0), Reason.BAD_REQUEST, "top_p"),
    Bad("top_logprobs 21", generate(top_logprobs=21), Reason.BAD_REQUEST, "top_logprobs"),
    Bad("empty stop", generate(stop=[""]), Reason.BAD_REQUEST, "stop"),
    Bad("request id too long", generate(request_id="x" * 129), Reason.BAD_REQUEST, "request_id"),
    Bad("stop string too long", generate(stop=["x" * 1025]), Reason.BAD_REQUEST, "1024"),
    Bad("repetition_penalty 0", generate(repetition_penalty=0), Reason.BAD_REQUEST, "above 0"),
    Bad("min_tokens over max_tokens", generate(min_tokens=5), Reason.BAD_REQUEST, "min_tokens"),
    Bad("logit_bias over 100", generate(logit_bias={1: 101}), Reason.BAD_REQUEST, "logit_bias"),
    Bad("two forms", generate(regex="a", choice=["a"]), Reason.BAD_REQUEST, "an answer has one"),
    Bad("grammar on sim", generate(grammar="a"), Reason.BAD_REQUEST, "use the vllm engine"),
    Bad(
        "grammar on sim, disaggregated",
        generate(text=LONG, grammar="a"),
        Reason.BAD_REQUEST,
        "use the vllm engine",
    ),
]

HTTP = [
    Bad(
        "prompt over the context",
        chat(messages=[{"role": "user", "content": "x" * CONTEXT}]),
        Reason.PROMPT_TOO_LONG,
        "8192",
    ),
    Bad("max_tokens 0", chat(max_tokens=0), Reason.BAD_REQUEST, "max_tokens"),
    Bad("max_tokens below 0", chat(max_tokens=-5), Reason.BAD_REQUEST, "max_tokens"),
    Bad("max_tokens out of range", chat(max_tokens=2**40), Reason.BAD_REQUEST, "max_tokens"),
    Bad(
        "max_completion_tokens 0",
        chat(max_completion_tokens=0),
        Reason.BAD_REQUEST,
        "max_completion_tokens",
    ),
    Bad("unknown model", chat(model="no-such"), Reason.MODEL_NOT_FOUND, "there are: sim"),
    Bad("malformed JSON", b'{"model": "sim", ', Reason.BAD_REQUEST, "not a valid request"),
    Bad("JSON that is no object", b"[1, 2]", Reason.BAD_REQUEST, "object"),
    Bad("no body", b"", Reason.BAD_REQUEST, "not a valid request"),
    Bad("nesting without end", b"[" * 100_000, Reason.BAD_REQUEST, "not a valid request"),
    Bad(
        "invalid UTF-8",
        json.dumps(chat()).replace("hello", "h\\").encode()[:-1] + b"\xff\xfe",
        Reason.BAD_REQUEST,
        "not a valid request",
    ),
    Bad(
        "invalid UTF-8 in the text",
        json.dumps(chat()).encode().replace(b"hello", b"h\xff"),
        Reason.BAD_REQUEST,
        "not a valid request",
    ),
    Bad(
        "lone surrogate",
        json.dumps(chat()).encode().replace(b"hello", b"\\ud800"),
        Reason.BAD_REQUEST,
        "",
    ),
    Bad("oversized body", b" " * (5 << 20), Reason.BODY_TOO_LARGE, "4194304"),
    Bad("no messages", chat(messages=[]), Reason.BAD_REQUEST, "messages"),
    Bad("message without role", chat(messages=[{"content": "x"}]), Reason.BAD_REQUEST, "role"),
    Bad(
        "message that is not text",
        chat(messages=[{"role": "user", "content": 5}]),
        Reason.BAD_REQUEST,
        "content",
    ),
    Bad(
        "picture in a message",
        chat(messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
        Reason.BAD_REQUEST,
        "text",
    ),
    Bad("temperature over 2", chat(temperature=2.5), Reason.BAD_REQUEST, "temperature"),
    Bad("temperature no number", chat(temperature="hot"), Reason.BAD_REQUEST, "temperature"),
    Bad("top_p over 1", chat(top_p=1.5), Reason.BAD_REQUEST, "top_p"),
    Bad("n 0", chat(n=0), Reason.BAD_REQUEST, "n must be"),
    Bad("n 129", chat(n=129), Reason.BAD_REQUEST, "n must be"),
    Bad("seed out of range", chat(seed=2**70), Reason.BAD_REQUEST, "seed"),
    Bad("top_logprobs without logprobs", chat(top_logprobs=2), Reason.BAD_REQUEST, "logprobs"),
    Bad(
        "top_logprobs out of range",
        chat(logprobs=True, top_logprobs=2**40),
        Reason.BAD_REQUEST,
        "top_logprobs",
    ),
    Bad(
        "top_logprobs 21", chat(logprobs=True, top_logprobs=21), Reason.BAD_REQUEST, "top_logprobs"
    ),
    Bad("temperature beyond a float", chat(temperature=1e300), Reason.BAD_REQUEST, "temperature"),
    Bad("17 stop strings", chat(stop=list("abcdefghijklmnopq")), Reason.BAD_REQUEST, "stop"),
    Bad(
        "schema that sim cannot follow",
        chat(guided_json={"not": {}}),
        Reason.BAD_REQUEST,
        "sim engine cannot follow 'not'",
    ),
    Bad(
        "response_format of no kind",
        chat(response_format={"type": "yaml"}),
        Reason.BAD_REQUEST,
        "response_format",
    ),
    Bad(
        "tool_choice without tools", chat(tool_choice="required"), Reason.BAD_REQUEST, "tool_choice"
    ),
    Bad(
        "tool without a name",
        chat(tools=[{"type": "function"}], tool_choice="required"),
        Reason.BAD_REQUEST,
        "function.name",
    ),
    Bad("what we do not do", chat(best_of=2), Reason.BAD_REQUEST, "best_of"),
    Bad("typing error", chat(max_token=2), Reason.BAD_REQUEST, "did you mean max_tokens?"),
]

PLAIN = [
    Bad("empty prompt", "", Reason.BAD_REQUEST, "empty"),
    Bad("no prompt", [], Reason.BAD_REQUEST, "prompt"),
    Bad("1025 prompts", ["x"] * 1025, Reason.BAD_REQUEST, "prompt"),
    Bad("text among tokens", [1, "x"], Reason.BAD_REQUEST, "prompt"),
    Bad("negative token id", [-1], Reason.BAD_REQUEST, "prompt"),
    Bad("token id outside the vocabulary", [1_000_000], Reason.BAD_REQUEST, "vocabulary"),
    Bad("empty list among prompts", [[1], []], Reason.BAD_REQUEST, "not empty"),
]


def named(cases: list[Bad]) -> dict[str, Any]:
    """Arguments of parametrize."""
    return {"argvalues": cases, "ids": [case.name for case in cases]}


async def assert_works(fleet: Any) -> None:
    """A good request is answered, over gRPC and HTTP."""
    async with fleet.client() as client, fleet.http() as http:
        assert len((await client.answer(**generate(ignore_eos=True))).token_ids) == 4
        assert (await http.post("/v1/chat/completions", json=chat())).status_code == 200


async def refused(fleet: Any, **arguments: Any) -> ArgosyError:
    """The error a generate ends with."""
    with pytest.raises(ArgosyError) as caught:
        async with fleet.client() as client:
            await client.answer(**arguments)
    return caught.value


def assert_is(bad: Bad, reply: Any) -> None:
    """The HTTP reply is the one a case asks for."""
    assert reply.status_code == bad.reason.value.http, reply.text
    error = reply.json()["error"]
    assert error["reason"] == bad.reason.name
    assert error["code"] == (bad.reason.value.openai_code or None)
    assert error["type"] == bad.reason.value.openai_type
    assert bad.says in error["message"]


@pytest.mark.parametrize("bad", **named(GRPC))
async def test_bad_grpc_requests_are_refused_with_their_reason(fleet: Any, bad: Bad) -> None:
    error = await refused(fleet, **bad.sent)

    assert (error.reason, bad.says in error.message) == (bad.reason, True), repr(error)
    await assert_works(fleet)


@pytest.mark.parametrize("bad", **named(HTTP))
async def test_bad_chats_are_refused_with_their_status(fleet: Any, bad: Bad) -> None:
    content = bad.sent if isinstance(bad.sent, bytes) else json.dumps(bad.sent).encode()
    async with fleet.http() as http:
        assert_is(bad, await http.post("/v1/chat/completions", content=content))

    await assert_works(fleet)


@pytest.mark.parametrize("bad", **named(PLAIN))
async def test_bad_prompts_of_completions_are_refused_with_their_status(
    fleet: Any, bad: Bad
) -> None:
    async with fleet.http() as http:
        body = {"model": "sim", "prompt": bad.sent, "max_tokens": 2}
        assert_is(bad, await http.post("/v1/completions", json=body))

    await assert_works(fleet)


async def test_a_stream_that_is_refused_has_the_status_too(fleet: Any) -> None:
    async with fleet.http() as http:
        body = chat(stream=True, guided_grammar="a")
        reply = await http.post("/v1/chat/completions", json=body)

    assert reply.status_code == 400
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/models/no-such", 404),
    ],
)
async def test_other_paths_and_methods_get_an_openai_error_body(
    fleet: Any, method: str, path: str, status: int
) -> None:
    async with fleet.http() as http:
        reply = await http.request(method, path)

    assert reply.status_code == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code", "reason"}


async def test_a_grpc_message_over_the_limit_is_refused(fleet: Any) -> None:
    error = await refused(fleet, **generate(text="x" * (17 << 20)))

    assert error.reason is Reason.BODY_TOO_LARGE
    await assert_works(fleet)


async def test_two_requests_at_once_cannot_have_one_id(slow_fleet: Any) -> None:
    async with slow_fleet.client() as client:
        first = client.generate(
            "sim", text="mine", max_tokens=200, request_id="taken", ignore_eos=True
        )
        await anext(first)
        error = await refused(slow_fleet, **generate(request_id="taken"))
        going_on = await anext(first)
        await first.aclose()

    assert (error.reason, "taken" in error.message) == (Reason.BAD_REQUEST, True), repr(error)
    assert going_on.token_ids


@pytest.mark.parametrize("direct", [False, True], ids=["relayed", "direct"])
async def test_a_request_id_may_be_used_again_once_its_answer_has_ended(
    either_fleet: Any, long_text: str, direct: bool
) -> None:
    arguments = generate(text=long_text, request_id=f"again {direct}")
    async with either_fleet.client(direct=direct) as client:
        # A tenant of its own: nothing is cached for either.
        first = await client.answer(**arguments, tenant="the first")
        again = await client.answer(**arguments, tenant="the second")

    assert first.token_ids == again.token_ids


# -- tickets


async def route(fleet: Any, text: str) -> router_pb2.RouteReply:
    """A ticket from the router."""
    request = router_pb2.GenerateRequest(model="sim", text=text, sampling={"max_tokens": 2})
    async with fleet.channel(fleet.running.grpc) as channel:
        stub = router_pb2_grpc.RouterStub(channel)
        return await stub.Route(router_pb2.RouteRequest(request=request))


async def route_apart(fleet: Any, text: str, eventually: Any) -> router_pb2.RouteReply:
    """A ticket for a prompt that a prefill instance has: the router may find decode quicker."""

    async def is_apart() -> router_pb2.RouteReply | None:
        reply = await route(fleet, text)
        return None if reply.HasField("prompt") else reply

    found: router_pb2.RouteReply = await eventually(is_apart)
    return found


async def present(
    fleet: Any, reply: router_pb2.RouteReply, ticket: inference_pb2.SignedTicket | None = None
) -> str:
    """What decode says to the reply's ticket, or another: a Reason's name, or the finish."""
    from argosy.mesh import rpc

    async with fleet.channel(reply.decode_address) as channel:
        stub = decode_pb2_grpc.DecodeStub(channel)
        prompt = reply.prompt if reply.HasField("prompt") else None
        request = decode_pb2.GenerateRequest(ticket=ticket or reply.ticket, prompt=prompt)
        try:
            chunks = [c async for c in rpc.stream(stub.Generate, request, timeout_s=10)]
        except ArgosyError as error:
            return error.reason.name
    return inference_pb2.FinishReason.Name(chunks[-1].finish_reason)


def altered(
    fleet: Any, signed: inference_pb2.SignedTicket, **fields: Any
) -> inference_pb2.SignedTicket:
    """The ticket with other fields, signed as the fleet would."""
    ticket = inference_pb2.Ticket.FromString(signed.ticket)
    for name, value in fields.items():
        setattr(ticket, name, value)
    return tickets.sign(ticket, fleet.secret)


async def test_a_ticket_is_good_for_one_answer(either_fleet: Any, long_text: str) -> None:
    reply = await route(either_fleet, long_text)

    first = await present(either_fleet, reply)
    assert first in ("FINISH_REASON_LENGTH", "FINISH_REASON_STOP")
    assert await present(either_fleet, reply) == "TICKET_USED"
    await assert_works(either_fleet)


async def test_a_ticket_whose_bytes_were_changed_is_forged(fleet: Any, long_text: str) -> None:
    reply = await route(fleet, long_text)
    ticket = inference_pb2.Ticket.FromString(reply.ticket.ticket)
    ticket.max_tokens = 1000
    forged = inference_pb2.SignedTicket(
        ticket=ticket.SerializeToString(), signature=reply.ticket.signature
    )

    assert await present(fleet, reply, forged) == "TICKET_FORGED"
    await assert_works(fleet)


async def test_a_ticket_signed_with_another_secret_is_forged(fleet: Any, long_text: str) -> None:
    reply = await route(fleet, long_text)
    ticket = inference_pb2.Ticket.FromString(reply.ticket.ticket)
    forged = tickets.sign(ticket, b"not this fleet's")

    assert await present(fleet, reply, forged) == "TICKET_FORGED"
    await assert_works(fleet)


async def test_a_ticket_that_is_none_is_forged(fleet: Any, long_text: str) -> None:
    reply = await route(fleet, long_text)
    nothing = inference_pb2.SignedTicket()

    assert await present(fleet, reply, nothing) == "TICKET_FORGED"


async def test_a_forged_ticket_does_not_spoil_the_good_one(fleet: Any, long_text: str) -> None:
    reply = await route(fleet, long_text)
    ticket = inference_pb2.Ticket.FromString(reply.ticket.ticket)
    forged = tickets.sign(ticket, b"not this fleet's")

    await present(fleet, reply, forged)
    answered = await present(fleet, reply)
    assert answered.startswith("FINISH_REASON_")


async def test_an_expired_ticket_is_refused(fleet: Any, long_text: str) -> None:
    reply = await route(fleet, long_text)
    expired = altered(fleet, reply.ticket, expires_ms=1)

    assert await present(fleet, reply, expired) == "TICKET_EXPIRED"
    await assert_works(fleet)


async def test_a_ticket_for_another_instance_is_misdirected(fleet: Any, long_text: str) -> None:
    reply = await route(fleet, long_text)
    elsewhere = altered(fleet, reply.ticket, decode_instance="decode-9")

    assert await present(fleet, reply, elsewhere) == "TICKET_MISDIRECTED"
    await assert_works(fleet)


async def test_a_ticket_for_a_prompt_nobody_has_is_lost_kv(
    fleet: Any, long_text: str, eventually: Any
) -> None:
    reply = await route_apart(fleet, long_text, eventually)
    unknown = altered(fleet, reply.ticket, request_id="never submitted")

    assert await present(fleet, reply, unknown) == "KV_LOST"
    await assert_works(fleet)


async def test_a_prompt_under_another_s_ticket_is_misdirected(lone_fleet: Any) -> None:
    reply, other = await route(lone_fleet, "short"), await route(lone_fleet, "other")

    assert await present(lone_fleet, reply, other.ticket) == "TICKET_MISDIRECTED"
    assert (await present(lone_fleet, reply)).startswith("FINISH_REASON_")


async def test_a_prompt_altered_on_its_way_is_misdirected(lone_fleet: Any, long_text: str) -> None:
    reply = await route(lone_fleet, long_text)
    assert reply.HasField("prompt")
    reply.prompt.token_ids[0] += 1

    assert await present(lone_fleet, reply) == "TICKET_MISDIRECTED"
    await assert_works(lone_fleet)


async def test_a_ticket_to_decode_alone_needs_its_prompt(lone_fleet: Any) -> None:
    reply = await route(lone_fleet, "short")
    reply.ClearField("prompt")

    assert await present(lone_fleet, reply) == "BAD_REQUEST"
    await assert_works(lone_fleet)


# -- fleet files


async def test_a_wrong_fleet_file_is_refused_with_its_line(fleet: Any) -> None:
    from argosy.mesh import rpc

    async with fleet.channel(fleet.running.operator) as channel:
        stub = operator_pb2_grpc.OperatorStub(channel)
        request = operator_pb2.ApplyRequest(fleet_yaml=WRONG_FLEET, base_dir="/")
        with pytest.raises(ArgosyError) as caught:
            await rpc.call(stub.Apply, request, timeout_s=10)

    assert caught.value.reason is Reason.FLEET_FILE
    assert caught.value.reason.value.grpc == "INVALID_ARGUMENT"
    assert ":8: spec.split.decode.replica: unknown field; write replicas" in caught.value.message
    await assert_works(fleet)


WRONG_FLEET = """\
apiVersion: argosy.dev/v1alpha1
kind: FedDeployment
metadata: {name: demo}
spec:
  model: {name: sim, source: sim}
  engine: {kind: sim}
  split:
    decode:  {replica: 1}
    prefill: {replicas: 1}
"""
