import json
from typing import Any

import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.router.shell.openai.options import INSTEAD, NO_EFFECT, UNSUPPORTED
from argosy.router.shell.openai.schema import (
    ANSWERS_MAX,
    CHOICES_MAX,
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
    return list(completion_to_wire(request, "tenant"))


def messages_of(wire: router_pb2.GenerateRequest) -> Any:
    return json.loads(wire.chat.messages_json)


def refused(call: Any, *args: Any, **fields: Any) -> ArgosyError:
    with pytest.raises(ArgosyError) as caught:
        call(*args, **fields)
    assert caught.value.reason is Reason.BAD_REQUEST
    return caught.value


def refusal(call: Any, *args: Any, **fields: Any) -> str:
    return refused(call, *args, **fields).message


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
    says = refusal(chat, **{name: ["something"]})
    assert f"{name} is not supported: {INSTEAD.get(name, 'leave it out')}" in says


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in UNSUPPORTED.items() for value in values]
)
def test_a_field_that_cannot_be_honoured_may_say_its_default(name: str, value: Any) -> None:
    assert messages_of(chat(**{name: value})) == HELLO


@pytest.mark.parametrize("name", sorted(NO_EFFECT))
def test_an_option_that_changes_no_answer_may_say_anything(name: str) -> None:
    assert messages_of(chat(**{name: {"any": "thing"}})) == HELLO


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("max_token", "max_tokens"),
        ("Temperature", "temperature"),
        ("guided_jason", "guided_json"),
        ("bestof", "best_of"),
    ],
)
def test_an_option_nobody_knows_is_refused_with_the_nearest_known_one(name: str, near: str) -> None:
    error = refused(chat, **{name: 1})
    assert error.message == f"there is no option {name}: did you mean {near}?"
    assert error.param == name


def test_an_option_like_no_other_is_refused_by_its_name() -> None:
    assert refusal(chat, xyzzy=1) == "there is no option xyzzy: leave it out"


@pytest.mark.parametrize(
    "name", sorted({*ChatRequest.__struct_fields__, *UNSUPPORTED} - {"model", "messages"})
)
def test_null_is_the_same_as_absent_for_every_optional_field(name: str) -> None:
    assert chat(**{name: None}) == chat()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"include_usage": None}, ""),
        ({"include_obfuscation": False}, ""),
        ({"include_usages": True}, "no option stream_options.include_usages: did you mean include"),
        ({"include_usage": "yes"}, "Expected `bool`"),
    ],
)
def test_stream_options_are_checked_as_all_options_are(option: dict[str, Any], says: str) -> None:
    if says:
        error = refused(chat, stream_options=option)
        assert says in error.message
        assert error.param.startswith("stream_options.")
    else:
        assert chat(stream_options=option) == chat()


@pytest.mark.parametrize(
    ("name", "value"), [("max_tokens", b"4.0"), ("max_tokens", b"1e1"), ("seed", b"7.0")]
)
def test_a_whole_number_may_be_written_with_a_point_or_an_exponent(name: str, value: bytes) -> None:
    encoded = b'{"model": "m", "prompt": "a", "n": 1.0, "%s": %s}' % (name.encode(), value)
    (wire,) = completion_to_wire(parse(encoded, CompletionRequest), "")
    assert getattr(wire.sampling, name) == int(float(value))


def test_token_ids_may_be_written_with_a_point() -> None:
    assert list(complete(prompt=[1.0, 2])[0].tokens.ids) == [1, 2]


def test_a_fields_own_content_is_left_as_it_came() -> None:
    encoded = chat(guided_json={"const": 1.0, "default": None}).sampling.json_schema
    assert encoded == '{"const": 1.0, "default": null}'


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ({"top_k": 5}, "top_k", 5),
        ({"top_k": -1}, "top_k", 0),
        ({"min_p": 0.25}, "min_p", 0.25),
        ({"repetition_penalty": 1.5}, "repetition_penalty", 1.5),
        ({"min_tokens": 3}, "min_tokens", 3),
        ({"stop_token_ids": [7, 8]}, "stop_token_ids", [7, 8]),
        ({"logit_bias": {"7": -100}}, "logit_bias", {7: -100.0}),
        ({"include_stop_str_in_output": True}, "include_stop_str_in_output", True),
        ({"skip_special_tokens": False}, "skip_special_tokens", False),
        ({"guided_json": {"a": 1}}, "json_schema", '{"a": 1}'),
        ({"guided_json": '{"a": 1}'}, "json_schema", '{"a": 1}'),
        ({"guided_regex": "a+"}, "regex", "a+"),
        ({"guided_choice": ["a", "b"]}, "choice", ["a", "b"]),
        ({"guided_grammar": "root ::= x"}, "grammar", "root ::= x"),
        ({"structured_outputs": {"json": {"a": 1}}}, "json_schema", '{"a": 1}'),
        ({"structured_outputs": {"json_object": True}}, "json_schema", '{"type": "object"}'),
        ({"structured_outputs": {"regex": "a+", "json": None}}, "regex", "a+"),
        ({"structured_outputs": {"choice": ["a"]}}, "choice", ["a"]),
        ({"structured_outputs": {"grammar": "g"}}, "grammar", "g"),
    ],
)
def test_an_option_of_vllms_is_carried_over(option: Any, name: str, value: Any) -> None:
    for sampling in (chat(**option).sampling, complete(**option)[0].sampling):
        assert getattr(sampling, name) == value
        assert [field.name for field, _ in sampling.ListFields() if field.name != "max_tokens"] in (
            [name],
            [],
        )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"top_k": -2}, "top_k must be in [1, 4294967295]"),
        ({"top_k": 2**32}, "top_k must be in [1, 4294967295]"),
        ({"logit_bias": {"x": 1}}, "'x' is no token id"),
        ({"logit_bias": {str(2**32): 1}}, "is no token id"),
        ({"structured_outputs": {"jsn": {}}}, "did you mean json?"),
        ({"structured_outputs": {"choice": "a"}}, "must be a list of texts"),
        ({"structured_outputs": {"structural_tag": "x"}}, "is not supported"),
        ({"guided_choice": []}, "at least one text"),
        ({"guided_choice": ["a"], "guided_regex": "a"}, "leave out all but one"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "all but one"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], says: str) -> None:
    assert says in refusal(chat, **options)


def test_a_chat_templates_options_are_carried_over() -> None:
    wire = chat(
        chat_template_kwargs={"enable_thinking": False},
        reasoning_effort="low",
        add_generation_prompt=False,
        continue_final_message=True,
        chat_template="tool_use",
        documents=[{"text": "a"}],
    ).chat
    variables = {"reasoning_effort": "low", "enable_thinking": False}
    assert json.loads(wire.template_kwargs_json) == variables
    assert (wire.add_generation_prompt, wire.continue_final_message) == (False, True)
    assert wire.HasField("add_generation_prompt")
    assert (wire.template_name, wire.documents_json) == ("tool_use", '[{"text": "a"}]')


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
def test_a_field_of_the_wrong_kind_or_size_is_refused_by_its_name(fields: dict[str, Any]) -> None:
    (name,) = fields
    for call in (chat, complete):
        assert refused(call, **fields).param.startswith(name)


@pytest.mark.parametrize("n", [0, -1, CHOICES_MAX + 1])
def test_the_number_of_answers_has_bounds(n: int) -> None:
    assert f"n must be in [1, {CHOICES_MAX}]" in refusal(chat, n=n)


@pytest.mark.parametrize("n", [1, 128, CHOICES_MAX, None])
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
        {"role": "assistant", "audio": {"id": "a"}},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        "hi",
    ],
)
def test_a_message_that_is_not_text_is_refused_by_its_place(message: Any) -> None:
    assert refused(chat, messages=[*HELLO, message]).param.startswith("messages[1]")


def test_a_picture_is_refused_with_the_part_that_it_is() -> None:
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "x"}}]
    says = refusal(chat, messages=[{"role": "user", "content": parts}])
    assert "messages[0].content[1] is of type 'image_url'" in says


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "assistant", "content": None, "refusal": "no"},
    ],
)
def test_a_refusal_is_text_of_the_history(message: Any) -> None:
    assert messages_of(chat(messages=[message])) == [{"role": "assistant", "content": "no"}]


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
        ["a"] * (ANSWERS_MAX + 1),
    ],
)
def test_a_prompt_that_is_neither_text_nor_tokens_is_refused(prompt: Any) -> None:
    assert refusal(complete, prompt=prompt)


def test_the_prompts_of_a_request_are_bounded_together_with_their_answers() -> None:
    assert len(complete(prompt=["a"] * 128)) == 128
    assert len(complete(prompt=["a"] * (ANSWERS_MAX // 64), n=64)) == ANSWERS_MAX // 64
    says = refusal(complete, prompt=["a"] * (ANSWERS_MAX // 64 + 1), n=64)
    assert f"1 to {ANSWERS_MAX // 64} prompts with n = 64" in says


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


OTHER = {"type": "function", "function": {"name": "row"}}


@pytest.mark.parametrize(("mode", "forced"), [("auto", False), ("required", True)])
def test_only_allowed_tools_are_told_and_called(mode: str, forced: bool) -> None:
    allowed = {"mode": mode, "tools": [{"type": "function", "function": {"name": "row"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    wire = chat(tools=[TOOL, OTHER], tool_choice=choice)
    assert json.loads(wire.chat.tools_json) == [OTHER]
    assert wire.sampling.HasField("json_schema") == forced
    assert "sail" not in wire.sampling.json_schema


@pytest.mark.parametrize(
    "choice",
    [
        "sometimes",
        {"type": "custom", "custom": {"name": "sail"}},
        {"type": "function", "function": {"name": "fly"}},
        {"type": "allowed_tools"},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "any", "tools": [OTHER]}},
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"function": {"name": "fly"}}]},
        },
    ],
)
def test_a_tool_choice_that_cannot_be_followed_is_refused(choice: Any) -> None:
    assert refused(chat, tools=[TOOL, OTHER], tool_choice=choice).param == "tool_choice"


def test_a_tool_that_is_no_function_is_refused() -> None:
    tool = {"type": "custom", "custom": {"name": "sail"}}
    assert "tools[1]: only tools of type function" in refusal(chat, tools=[TOOL, tool])


def test_a_forced_call_beside_another_form_is_refused() -> None:
    says = refusal(chat, tools=[TOOL], tool_choice="required", guided_regex="a")
    assert "guided_regex and tool_choice" in says
