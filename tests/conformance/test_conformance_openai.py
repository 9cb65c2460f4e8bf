"""The real OpenAI library gets what it expects."""

import json
import re
from typing import Any

import openai
import pytest

from argosy.engine.text import sim_tokenizer

MESSAGES: Any = [{"role": "user", "content": "Which way to the harbor?"}]
LONG: Any = [{"role": "user", "content": "Tell me of the voyage, day by day. " * 10}]
BRIEF: Any = [{"role": "user", "content": "Be brief, number 18."}]
"""The sim engine's answer to this ends by itself after ten tokens."""
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "sound_depth", "parameters": {"type": "object", "properties": {}}},
    }
]
SIM = {"model": "sim", "temperature": 0, "max_tokens": 12}
ALL = {"extra_body": {"ignore_eos": True}}
"""The answer does not end before max_tokens."""


async def chat(fleet: Any, **options: Any) -> Any:
    async with fleet.openai() as client:
        return await client.chat.completions.create(**{**SIM, "messages": MESSAGES, **options})


async def chat_chunks(fleet: Any, **options: Any) -> list[Any]:
    async with fleet.openai() as client:
        options = {**SIM, "messages": MESSAGES, "stream": True, **options}
        return [chunk async for chunk in await client.chat.completions.create(**options)]


async def complete(fleet: Any, **options: Any) -> Any:
    async with fleet.openai() as client:
        return await client.completions.create(**{**SIM, "prompt": "hello", **options})


def text_of(chunks: list[Any], index: int = 0) -> str:
    choices = [c for chunk in chunks for c in chunk.choices if c.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def finishes(chunks: list[Any]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for choice in (c for chunk in chunks for c in chunk.choices):
        if choice.finish_reason:
            found.setdefault(choice.index, []).append(choice.finish_reason)
    return found


async def test_models_are_listed_and_found_by_name(fleet: Any) -> None:
    async with fleet.openai() as client:
        listed = [model.id async for model in client.models.list()]
        model = await client.models.retrieve("sim")

    assert listed == ["sim"]
    assert (model.id, model.object) == ("sim", "model")


@pytest.mark.parametrize("messages", [MESSAGES, LONG], ids=["local", "disaggregated"])
async def test_a_streamed_chat_is_the_whole_chat_in_pieces(fleet: Any, messages: Any) -> None:
    whole = await chat(fleet, messages=messages)
    chunks = await chat_chunks(fleet, messages=messages)

    assert len(chunks) > 2
    assert text_of(chunks) == whole.choices[0].message.content != ""
    assert chunks[0].choices[0].delta.role == "assistant"
    assert finishes(chunks) == {0: [whole.choices[0].finish_reason]}
    assert len({chunk.id for chunk in chunks}) == 1


async def test_a_chat_is_what_grpc_answers_to_the_same_messages(fleet: Any) -> None:
    async with fleet.client() as client:
        answer = await client.answer("sim", messages=MESSAGES, max_tokens=12, temperature=0)

    assert (await chat(fleet)).choices[0].message.content == answer.text


async def test_an_answer_cut_by_max_tokens_says_length_and_one_that_ended_says_stop(
    fleet: Any,
) -> None:
    cut = await chat(fleet, messages=BRIEF, max_tokens=2)
    ended = await chat(fleet, messages=BRIEF, max_tokens=100)

    assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 2)
    assert ended.choices[0].finish_reason == "stop"
    assert ended.usage.completion_tokens < 100


async def test_max_completion_tokens_is_max_tokens(fleet: Any) -> None:
    options = {"max_tokens": openai.omit, "max_completion_tokens": 3, **ALL}

    assert (await chat(fleet, **options)).usage.completion_tokens == 3


async def test_without_max_tokens_an_answer_goes_on_until_it_ends(fleet: Any) -> None:
    ended = await chat(fleet, messages=BRIEF, max_tokens=100)
    reply = await chat(fleet, messages=BRIEF, max_tokens=openai.omit)

    assert reply.choices[0].finish_reason == "stop"
    assert reply.choices[0].message.content == ended.choices[0].message.content


async def test_usage_counts_prompt_completion_and_cached_tokens(fleet: Any) -> None:
    messages = [{"role": "user", "content": "Count these words for me. " * 12}]
    first = await chat(fleet, messages=messages, **ALL)
    again = await chat(fleet, messages=messages, **ALL)

    assert first.usage.completion_tokens == 12
    assert first.usage.total_tokens == first.usage.prompt_tokens + 12
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert again.usage.prompt_tokens_details.cached_tokens > 0
    assert again.usage.prompt_tokens == first.usage.prompt_tokens


async def test_include_usage_adds_one_last_chunk_with_the_usage_of_the_whole(fleet: Any) -> None:
    whole = await chat(fleet)
    with_usage = await chat_chunks(fleet, stream_options={"include_usage": True})
    without = await chat_chunks(fleet)

    assert with_usage[-1].choices == []
    assert with_usage[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert with_usage[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert [c.usage for c in with_usage[:-1]] == [None] * (len(with_usage) - 1)
    assert all(chunk.usage is None for chunk in without)


@pytest.mark.parametrize("stop", ["text", "list"])
async def test_stop_ends_the_answer_before_it_whole_and_streamed(fleet: Any, stop: str) -> None:
    whole = (await chat(fleet, **ALL)).choices[0].message.content
    word = whole.split()[4]
    given = word if stop == "text" else ["never said", word]
    stopped = await chat(fleet, stop=given, **ALL)
    chunks = await chat_chunks(fleet, stop=given, **ALL)

    assert stopped.choices[0].message.content == whole[: whole.index(word)]
    assert stopped.choices[0].finish_reason == "stop"
    assert text_of(chunks) == stopped.choices[0].message.content
    assert finishes(chunks) == {0: ["stop"]}


async def test_a_seed_repeats_its_answer_and_n_answers_differ_by_seed(fleet: Any) -> None:
    options = {"temperature": 1, "seed": 7, "n": 3, **ALL}
    first, again = await chat(fleet, **options), await chat(fleet, **options)
    texts = [choice.message.content for choice in first.choices]

    assert texts == [choice.message.content for choice in again.choices]
    assert len(set(texts)) == 3
    assert [choice.index for choice in first.choices] == [0, 1, 2]


async def test_n_answers_count_the_prompt_once(fleet: Any) -> None:
    one, three = await chat(fleet, **ALL), await chat(fleet, n=3, **ALL)

    assert three.usage.prompt_tokens == one.usage.prompt_tokens
    assert three.usage.completion_tokens == 3 * one.usage.completion_tokens


async def test_n_answers_stream_side_by_side(fleet: Any) -> None:
    options = {"temperature": 1, "seed": 7, "n": 3, "messages": LONG}
    whole = await chat(fleet, **options)
    chunks = await chat_chunks(fleet, **options)

    for choice in whole.choices:
        assert text_of(chunks, choice.index) == choice.message.content
        assert finishes(chunks)[choice.index] == [choice.finish_reason]


async def test_chat_logprobs_name_every_token_of_the_answer(fleet: Any) -> None:
    reply = await chat(fleet, logprobs=True, top_logprobs=1, **ALL)
    content = reply.choices[0].logprobs.content

    assert "".join(token.token for token in content) == reply.choices[0].message.content
    spelt = b"".join(bytes(token.bytes) for token in content)
    assert spelt.decode() == reply.choices[0].message.content
    assert [token.top_logprobs[0].token for token in content] == [t.token for t in content]
    assert all(token.logprob <= 0 for token in content)
    assert (await chat(fleet)).choices[0].logprobs is None


async def test_streamed_logprobs_are_those_of_the_whole(fleet: Any) -> None:
    options = {"logprobs": True, "top_logprobs": 1, **ALL}
    whole = await chat(fleet, **options)
    chunks = await chat_chunks(fleet, **options)

    streamed = [
        token for c in chunks if c.choices[0].logprobs for token in c.choices[0].logprobs.content
    ]
    assert streamed == whole.choices[0].logprobs.content


async def test_completions_answer_every_prompt_of_a_list_in_order(fleet: Any) -> None:
    prompts = ["north", "south " * 30, "east"]
    together = await complete(fleet, prompt=prompts)
    alone = [await complete(fleet, prompt=prompt) for prompt in prompts]

    assert [c.text for c in together.choices] == [reply.choices[0].text for reply in alone]
    assert [c.index for c in together.choices] == [0, 1, 2]
    assert together.usage.prompt_tokens == sum(reply.usage.prompt_tokens for reply in alone)


async def test_completions_take_n_answers_per_prompt(fleet: Any) -> None:
    options = {"temperature": 1, "seed": 3, **ALL}
    together = await complete(fleet, prompt=["a", "b"], n=2, **options)
    alone = [
        choice for p in "ab" for choice in (await complete(fleet, prompt=p, n=2, **options)).choices
    ]

    assert [choice.text for choice in together.choices] == [choice.text for choice in alone]
    assert [choice.index for choice in together.choices] == [0, 1, 2, 3]


async def test_completions_take_token_ids_as_prompts(fleet: Any) -> None:
    text = await complete(fleet, prompt="hi")
    ids = sim_tokenizer().encode("hi")

    assert (await complete(fleet, prompt=ids)).choices[0].text == text.choices[0].text
    both = await complete(fleet, prompt=[ids, ids])
    assert [choice.text for choice in both.choices] == [text.choices[0].text] * 2


async def test_completions_say_16_tokens_unless_told_otherwise(fleet: Any) -> None:
    reply = await complete(fleet, max_tokens=openai.omit, **ALL)

    assert reply.usage.completion_tokens == 16


async def test_streamed_completions_are_the_whole_in_pieces(fleet: Any) -> None:
    whole = await complete(fleet)
    async with fleet.openai() as client:
        stream = await client.completions.create(**SIM, prompt="hello", stream=True)
        chunks = [chunk async for chunk in stream]

    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == [
        whole.choices[0].finish_reason
    ]


async def test_completion_logprobs_are_parallel_lists(fleet: Any) -> None:
    reply = await complete(fleet, logprobs=1, **ALL)
    logprobs = reply.choices[0].logprobs

    assert "".join(logprobs.tokens) == reply.choices[0].text
    assert len(logprobs.token_logprobs) == len(logprobs.text_offset) == 12
    first, second = logprobs.text_offset[:2]
    assert (first, second) == (0, len(logprobs.tokens[0]))


async def test_offsets_of_a_streamed_completion_count_from_the_start_of_the_answer(
    fleet: Any,
) -> None:
    whole = await complete(fleet, logprobs=1, **ALL)
    async with fleet.openai() as client:
        stream = await client.completions.create(
            **SIM, **ALL, prompt="hello", logprobs=1, stream=True
        )
        choices = [chunk.choices[0] async for chunk in stream if chunk.choices]

    offsets = [offset for c in choices if c.logprobs for offset in c.logprobs.text_offset]
    assert offsets == whole.choices[0].logprobs.text_offset


@pytest.mark.parametrize("choice", ["auto", "none", None])
async def test_tools_a_model_does_not_call_leave_a_plain_answer(fleet: Any, choice: Any) -> None:
    given = {} if choice is None else {"tool_choice": choice}
    reply = await chat(fleet, tools=TOOLS, **given)
    chunks = await chat_chunks(fleet, tools=TOOLS, **given)

    assert reply.choices[0].message.tool_calls is None
    assert reply.choices[0].finish_reason in ("stop", "length")
    assert text_of(chunks) == reply.choices[0].message.content != ""


FORM = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "knots": {"type": "integer", "minimum": 3}},
    "required": ["name", "knots"],
    "additionalProperties": False,
}
LONG_ENOUGH = {"max_tokens": 200}


async def test_a_json_schema_is_kept_by_the_sim_engine(fleet: Any) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "ship", "schema": FORM}}
    reply = await chat(fleet, response_format=wanted, **LONG_ENOUGH)

    ship = json.loads(reply.choices[0].message.content)
    assert isinstance(ship["name"], str)
    assert ship["knots"] >= 3
    assert reply.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ({"structured_outputs": {"choice": ["yes", "no"]}}, "yes|no"),
        ({"guided_choice": ["yes", "no"]}, "yes|no"),
        ({"guided_regex": "[a-c]{3}-[0-9]+"}, "[a-c]{3}-[0-9]+"),
        ({"guided_json": {"enum": [1, 2]}}, "[12]"),
        ({"response_format": {"type": "json_object"}}, "{.*}"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_each_form_of_an_answer_is_kept_by_the_sim_engine(
    fleet: Any, form: dict[str, Any], pattern: str
) -> None:
    reply = await chat(fleet, extra_body=form, **LONG_ENOUGH)
    assert re.fullmatch(pattern, reply.choices[0].message.content)
    plain = await complete(fleet, extra_body=form, **LONG_ENOUGH)
    assert re.fullmatch(pattern, plain.choices[0].text)


NAME = TOOLS[0]["function"]["name"]
ALLOWED = {
    "type": "allowed_tools",
    "allowed_tools": {
        "mode": "required",
        "tools": [{"type": "function", "function": {"name": NAME}}],
    },
}


@pytest.mark.parametrize(
    "choice",
    ["required", {"type": "function", "function": {"name": NAME}}, ALLOWED],
    ids=["required", "named", "allowed"],
)
async def test_a_forced_call_is_made_by_the_sim_engine(fleet: Any, choice: Any) -> None:
    reply = await chat(fleet, tools=TOOLS, tool_choice=choice, **LONG_ENOUGH)

    (call,) = reply.choices[0].message.tool_calls
    assert call.function.name == NAME
    assert isinstance(json.loads(call.function.arguments), dict)
    assert reply.choices[0].finish_reason == "tool_calls"


async def test_vllms_options_shape_an_answer_of_the_sim_engine(fleet: Any) -> None:
    biased = await complete(fleet, logit_bias={"65": 100}, **ALL)
    plain = await complete(fleet, logprobs=0, **ALL)
    assert len(set(biased.choices[0].text)) == 1
    extra = {"top_k": 1, "min_p": 0.1, "repetition_penalty": 1.1, "min_tokens": 2}
    shaped = await complete(fleet, extra_body={**ALL["extra_body"], **extra})
    assert shaped.choices[0].text == plain.choices[0].text


async def test_content_in_parts_is_the_text_joined(fleet: Any) -> None:
    parts: Any = [{"type": "text", "text": t} for t in ("Which way ", "to the harbor?")]
    in_parts = await chat(fleet, messages=[{"role": "user", "content": parts}])

    assert in_parts.choices[0].message.content == (await chat(fleet)).choices[0].message.content


@pytest.mark.parametrize(
    ("options", "error", "code"),
    [
        ({"model": "no-such"}, openai.NotFoundError, "model_not_found"),
        ({"temperature": 5}, openai.BadRequestError, None),
        ({"max_tokens": 0}, openai.BadRequestError, None),
        ({"messages": []}, openai.BadRequestError, None),
        (
            {"messages": [{"role": "user", "content": "x" * 9000}]},
            openai.BadRequestError,
            "context_length_exceeded",
        ),
        ({"response_format": {"type": "xml"}}, openai.BadRequestError, None),
    ],
    ids=["model", "temperature", "max_tokens", "messages", "prompt", "response_format"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_errors_are_the_library_s_own_exceptions(
    fleet: Any, options: Any, error: type[openai.APIStatusError], code: str | None, stream: bool
) -> None:
    with pytest.raises(error) as caught:
        await chat(fleet, stream=stream, **options)

    assert caught.value.code == code
    assert caught.value.type == "invalid_request_error"


async def test_an_unknown_model_s_name_is_a_not_found_error(fleet: Any) -> None:
    async with fleet.openai() as client:
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("no-such")
