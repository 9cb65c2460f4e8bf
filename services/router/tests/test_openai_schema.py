import json
from typing import Any

import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.router.shell.openai.schema import (
    CHOICES_MAX,
    UNSUPPORTED,
    ChatRequest,
    CompletionRequest,
    chat_to_wire,
    completion_to_wire,
    parse,
)
from argosy.wire.router.v1 import router_pb2

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "sail", "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"knots": {"type": "integer"}}}


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def chat(**fields: Any) -> router_pb2.GenerateRequest:
    request = parse(body(**({"model": "m", "messages": HELLO} | fields)), ChatRequest)
    return chat_to_wire(request, "tenant")


def complete(**fields: Any) -> list[router_pb2.GenerateRequest]:
    request = parse(body(**({"model": "m", "prompt": "hello"} | fields)), CompletionRequest)
    return completion_to_wire(request, "tenant")


def messages_of(wire: router_pb2.GenerateRequest) -> Any:
    return json.loads(wire.chat.messages_json)


def refusal(call: Any, *args: Any, **fields: Any) -> str:
    with pytest.raises(ArgosyError) as refused:
        call(*args, **fields)
    assert refused.value.reason is Reason.BAD_REQUEST
    return refused.value.message


def test_a_chat_keeps_its_messages_model_and_tenant() -> None:
    wire = chat()
    assert (wire.model, wire.tenant, messages_of(wire)) == ("m", "tenant", HELLO)


def test_sampling_fields_are_carried_over() -> None:
    sampling = chat(
        temperature=0.5,
        top_p=0.25,
        seed=-7,
        stop="end",
        presence_penalty=1,
        frequency_penalty=-1,
        max_tokens=9,
        ignore_eos=True,
    ).sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (0.5, 0.25, -7)
    assert (list(sampling.stop), sampling.max_tokens, sampling.ignore_eos) == (["end"], 9, True)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (1, -1)


@pytest.mark.parametrize("name", ["temperature", "top_p", "seed", "presence_penalty"])
@pytest.mark.parametrize("fields", [{}, {"temperature": None, "top_p": None, "seed": None}])
def test_fields_that_are_not_given_stay_unset(name: str, fields: dict[str, None]) -> None:
    assert not chat(**fields).sampling.HasField(name)


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_a_field_that_cannot_be_honoured_is_refused_and_not_ignored(name: str) -> None:
    assert f"{name} is not supported" in refusal(chat, **{name: ["something"]})


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in UNSUPPORTED.items() for value in values]
)
def test_a_field_that_cannot_be_honoured_may_say_its_default(name: str, value: Any) -> None:
    assert messages_of(chat(**{name: value})) == HELLO


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b"[" * 100_000,
        b"\xff",
        b'{"model": "a\xff", "prompt": "b"}',
        b'{"model": "\\ud800", "prompt": "a"}',
        body(prompt="no model"),
        body(model="no prompt"),
    ],
)
def test_a_body_that_is_no_request_is_refused(encoded: bytes) -> None:
    assert refusal(parse, encoded, CompletionRequest)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": "hot"},
        {"n": True},
        {"n": 1.5},
        {"seed": 2**63},
        {"seed": "lucky"},
        {"max_tokens": 2**32},
        {"max_tokens": 1e30},
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"stop": [3]},
        {"stream": "yes"},
        {"stream_options": []},
        {"model": None},
    ],
)
def test_a_field_of_the_wrong_kind_or_size_is_refused(fields: dict[str, Any]) -> None:
    assert refusal(chat, **fields)
    assert refusal(complete, **fields)


@pytest.mark.parametrize("n", [0, -1, CHOICES_MAX + 1])
def test_the_number_of_answers_has_bounds(n: int) -> None:
    assert f"n must be in [1, {CHOICES_MAX}]" in refusal(chat, n=n)


@pytest.mark.parametrize("n", [1, CHOICES_MAX, None])
def test_the_number_of_answers_is_one_unless_told(n: int | None) -> None:
    request = parse(body(model="m", messages=HELLO, n=n), ChatRequest)
    assert request.choices == (n or 1)


def test_a_stream_ends_with_usage_only_when_asked() -> None:
    asked = {"model": "m", "messages": HELLO, "stream_options": {"include_usage": True}}
    assert parse(body(**asked), ChatRequest).include_usage
    assert not parse(body(model="m", messages=HELLO), ChatRequest).include_usage


# -- messages


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "hoist "}, {"type": "text", "text": "sails"}]
    wire = chat(messages=[{"role": "user", "content": parts}])
    assert messages_of(wire) == [{"role": "user", "content": "hoist sails"}]


def test_a_message_without_content_has_empty_content() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "sail", "arguments": "{}"}}]
    wire = chat(messages=[{"role": "assistant", "content": None, "tool_calls": calls}])
    assert messages_of(wire) == [{"role": "assistant", "content": "", "tool_calls": calls}]


@pytest.mark.parametrize(
    "message",
    [
        {"content": "no role"},
        {"role": 1, "content": "x"},
        {"role": "user", "content": 7},
        {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
        {"role": "user", "content": [{"type": "text", "text": 7}]},
        {"role": "user", "content": [{"type": "text"}]},
        {"role": "user", "content": ["hi"]},
        "hi",
    ],
)
def test_a_message_that_is_not_text_is_refused(message: Any) -> None:
    assert refusal(chat, messages=[message])


# -- lengths and logprobs


def test_a_chat_without_a_limit_leaves_it_to_the_context() -> None:
    assert chat().sampling.max_tokens == 0


def test_the_newer_name_of_the_limit_wins() -> None:
    assert chat(max_tokens=5, max_completion_tokens=7).sampling.max_tokens == 7


@pytest.mark.parametrize("limit", [0, -1])
def test_a_chat_of_no_tokens_is_refused(limit: int) -> None:
    assert "must be at least 1" in refusal(chat, max_completion_tokens=limit)


def test_a_plain_completion_without_a_limit_is_short() -> None:
    assert complete()[0].sampling.max_tokens == 16


@pytest.mark.parametrize(("given", "top"), [({}, 0), ({"top_logprobs": 5}, 5)])
def test_logprobs_of_a_chat_come_with_as_many_others_as_asked(
    given: dict[str, int], top: int
) -> None:
    sampling = chat(logprobs=True, **given).sampling
    assert (sampling.HasField("top_logprobs"), sampling.top_logprobs) == (True, top)


def test_top_logprobs_without_logprobs_are_refused() -> None:
    assert "needs logprobs: true" in refusal(chat, top_logprobs=2)


@pytest.mark.parametrize("top", [-1, 2**32])
def test_logprobs_that_the_contract_cannot_hold_are_refused(top: int) -> None:
    assert refusal(chat, logprobs=True, top_logprobs=top)
    assert refusal(complete, logprobs=top)


# -- prompts


@pytest.mark.parametrize(
    ("prompt", "inputs"),
    [
        ("sail", ["sail"]),
        (["sail", "ho"], ["sail", "ho"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
        ([[1], "ho"], [[1], "ho"]),
    ],
)
def test_a_completion_takes_one_prompt_or_many_as_text_or_tokens(
    prompt: Any, inputs: list[Any]
) -> None:
    wires = complete(prompt=prompt)
    assert [wire.text or list(wire.tokens.ids) for wire in wires] == inputs


@pytest.mark.parametrize(
    "prompt",
    [
        [],
        [-1],
        [2**32],
        [1, "a"],
        ["a", 1],
        [1, [2]],
        [True],
        [1.5],
        {"a": 1},
        7,
        ["a"] * (CHOICES_MAX + 1),
    ],
)
def test_a_prompt_that_is_neither_text_nor_tokens_is_refused(prompt: Any) -> None:
    assert refusal(complete, prompt=prompt)


# -- formats and tools


@pytest.mark.parametrize(
    ("response_format", "schema"),
    [
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}, SCHEMA),
    ],
)
def test_a_response_format_becomes_a_schema(response_format: Any, schema: Any) -> None:
    assert json.loads(chat(response_format=response_format).sampling.json_schema) == schema
    assert json.loads(complete(response_format=response_format)[0].sampling.json_schema) == schema


def test_plain_text_needs_no_schema() -> None:
    assert not chat(response_format={"type": "text"}).sampling.HasField("json_schema")


@pytest.mark.parametrize(
    "response_format",
    [
        {},
        {"type": "xml"},
        {"type": ["text"]},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": "x"},
        {"type": "json_schema", "json_schema": {"schema": "x"}},
    ],
)
def test_a_response_format_nobody_knows_is_refused(response_format: Any) -> None:
    assert refusal(chat, response_format=response_format)


@pytest.mark.parametrize(
    ("choice", "told", "forced"),
    [(None, True, False), ("auto", True, False), ("none", False, False), ("required", True, True)],
)
def test_a_tool_choice_says_whether_the_model_knows_the_tools_and_must_call(
    choice: str | None, told: bool, forced: bool
) -> None:
    wire = chat(tools=[TOOL], tool_choice=choice)
    assert bool(wire.chat.tools_json) == told
    assert wire.sampling.HasField("json_schema") == forced


def test_a_forced_call_is_stronger_than_a_response_format() -> None:
    wire = chat(tools=[TOOL], tool_choice="required", response_format={"type": "json_object"})
    assert "sail" in wire.sampling.json_schema
