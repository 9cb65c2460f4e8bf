import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.domain.kv_blocks import chained_block_hashes, digest_of, root_hash
from argosy.engine.text import sim_tokenizer
from argosy.mesh.service import Mesh
from argosy.router.settings import RouterSettings
from argosy.router.shell.relay import Relay
from argosy.router.shell.sampling_limits import FORM_CHARS_MAX, check_sampling
from argosy.router.shell.tokenizing import TokenizerJob, TokenizerPool, check_length, encode
from argosy.router.shell.validation import RequestValidator, job_of
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.router.v1 import router_pb2

CONTEXT = 100
LONG_BIAS = dict.fromkeys(range(1025), 1.0)
TEMPLATE_OPTIONS: dict[str, Any] = {
    "template_kwargs_json": "{}",
    "add_generation_prompt": False,
    "continue_final_message": True,
    "template_name": "rag",
    "documents_json": "[3]",
}
HELLO = '[{"role": "user", "content": "hi"}]'


@pytest.fixture(scope="module")
def pool() -> Iterator[TokenizerPool]:
    pool = TokenizerPool("sim", "sim", 32, 1)
    asyncio.run(pool.start())
    yield pool
    pool.stop()


@pytest.fixture
async def validator(pool: TokenizerPool) -> AsyncIterator[RequestValidator]:
    mesh = Mesh(RouterSettings(fleet_secret="s", request_timeout_s=50), "router")
    yield RequestValidator(mesh, Relay(mesh, pool), {"sim": CONTEXT})
    await mesh.close()


def asked(text: str = "ahoy", **fields: Any) -> router_pb2.GenerateRequest:
    sampling = inference_pb2.Sampling(max_tokens=fields.pop("max_tokens", 4))
    return router_pb2.GenerateRequest(model="sim", text=text, sampling=sampling, **fields)


def asked_by_ids(ids: list[int]) -> router_pb2.GenerateRequest:
    sampling = inference_pb2.Sampling(max_tokens=4)
    tokens = router_pb2.TokenIds(ids=ids)
    return router_pb2.GenerateRequest(model="sim", tokens=tokens, sampling=sampling)


# -- one way in


async def test_a_request_is_tokenized_and_hashed_on_its_way_in(validator: RequestValidator) -> None:
    admitted = await validator.validate(asked("ahoy " * 20, request_id="a", tenant="t"), None)
    ids = sim_tokenizer().encode("ahoy " * 20)
    hashes = chained_block_hashes(ids, 32, root_hash("sim", "t"))
    assert (admitted.request_id, admitted.prompt_ids, admitted.salt) == ("a", ids, "t")
    assert (admitted.blocks, admitted.blocks_digest) == (hashes, digest_of(hashes))


async def test_token_ids_are_hashed_as_the_text_they_spell_is(validator: RequestValidator) -> None:
    ids = sim_tokenizer().encode("ahoy " * 20)
    by_text = await validator.validate(asked("ahoy " * 20), None)
    by_ids = await validator.validate(asked_by_ids(ids), None)
    assert (list(by_ids.prompt_ids), by_ids.blocks) == (ids, by_text.blocks)


async def test_a_token_id_outside_the_vocabulary_is_refused(validator: RequestValidator) -> None:
    with pytest.raises(ArgosyError, match="token id 1000000 is outside the vocabulary") as refused:
        await validator.validate(asked_by_ids([1, 10**6]), None)
    assert refused.value.reason is Reason.BAD_REQUEST


async def test_a_request_without_an_id_gets_one_of_its_own(validator: RequestValidator) -> None:
    first, second = [await validator.validate(asked(), None) for _ in range(2)]
    assert first.request_id != second.request_id


@pytest.mark.parametrize(("deadline_s", "allowed_s"), [(None, 50), (20, 20), (90, 50)])
async def test_the_earlier_of_the_callers_deadline_and_ours_holds(
    validator: RequestValidator, deadline_s: float | None, allowed_s: float
) -> None:
    before_us = validator.mesh.clock.now_us()
    admitted = await validator.validate(asked(), deadline_s)
    allowed_us = round(allowed_s * 1e6)
    assert before_us + allowed_us <= admitted.deadline_us
    assert admitted.deadline_us <= validator.mesh.clock.now_us() + allowed_us


async def test_an_answer_without_a_limit_may_fill_the_context(validator: RequestValidator) -> None:
    admitted = await validator.validate(asked("ahoy", max_tokens=0), None, fill_max_tokens=True)
    assert admitted.sampling.max_tokens == CONTEXT - len(admitted.prompt_ids)


@pytest.mark.parametrize(
    ("request_fields", "reason", "says"),
    [
        ({"max_tokens": 0}, Reason.BAD_REQUEST, "max_tokens must be at least 1"),
        ({"text": ""}, Reason.BAD_REQUEST, "the prompt is empty"),
        ({"request_id": "x" * 129}, Reason.BAD_REQUEST, "request_id is over 128 characters"),
    ],
)
async def test_a_request_that_cannot_be_answered_is_refused(
    validator: RequestValidator, request_fields: dict[str, Any], reason: Reason, says: str
) -> None:
    with pytest.raises(ArgosyError, match=says) as refused:
        await validator.validate(asked(**request_fields), None)
    assert refused.value.reason is reason


def chat(*messages: dict[str, str]) -> router_pb2.GenerateRequest:
    return router_pb2.GenerateRequest(
        model="sim",
        chat=router_pb2.Chat(messages_json=json.dumps(messages)),
        sampling=inference_pb2.Sampling(max_tokens=1),
    )


@pytest.mark.parametrize(
    ("request_", "param", "says"),
    [
        (asked("a" * CONTEXT), "prompt", f"the prompt has {CONTEXT} tokens"),
        (asked_by_ids([1] * CONTEXT), "prompt", f"the prompt has {CONTEXT} tokens"),
        (asked("a" * 10**6), "prompt", "the prompt has 1000000 characters"),
        (chat({"role": "user", "content": "a" * 10**6}), "messages", "has 1000000 characters"),
        (chat({"role": "user", "content": "a" * CONTEXT}), "messages", "tokens: shorten it"),
    ],
    ids=["text", "tokens", "long text", "long chat", "chat"],
)
async def test_a_prompt_over_the_context_is_refused_in_the_words_clients_know(
    validator: RequestValidator, request_: router_pb2.GenerateRequest, param: str, says: str
) -> None:
    with pytest.raises(ArgosyError, match=says) as refused:
        await validator.validate(request_, None)
    assert refused.value.message.startswith("This model's maximum context length is 100 tokens")
    assert (refused.value.reason, refused.value.param) == (Reason.PROMPT_TOO_LONG, param)


async def test_a_prompt_that_fills_the_context_but_for_one_token_is_taken(
    validator: RequestValidator,
) -> None:
    assert len((await validator.validate(asked("a" * (CONTEXT - 1)), None)).prompt_ids) == 99


def test_a_text_that_long_tokens_could_make_fit_is_not_refused_by_its_length() -> None:
    check_length(TokenizerJob(text="a" * 120, context_tokens=10), 12)
    with pytest.raises(ArgosyError):
        check_length(TokenizerJob(text="a" * 121, context_tokens=10), 12)


async def test_a_model_that_is_not_served_is_refused_with_the_one_that_is(
    validator: RequestValidator,
) -> None:
    request = asked()
    request.model = "other"
    with pytest.raises(ArgosyError, match="no model 'other' here; there are: sim") as refused:
        await validator.validate(request, None)
    assert refused.value.reason is Reason.MODEL_NOT_FOUND


# -- sampling


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("temperature", [0, 2], [-0.1, 2.1, math.nan, math.inf]),
        ("top_p", [0.01, 1], [0, -0.1, 1.1, math.nan]),
        ("presence_penalty", [-2, 2], [-2.1, 2.1, math.nan]),
        ("frequency_penalty", [-2, 2], [-2.1, 2.1, -math.inf]),
        ("top_logprobs", [0, 20], [21]),
        ("max_tokens", [1, 2**32 - 1], [0]),
        ("stop", [[], ["a" * 1024] * 16], [["a"] * 17, ["a", ""], ["a" * 1025]]),
        ("min_p", [0, 1], [-0.1, 1.1, math.nan]),
        ("repetition_penalty", [0.1, 100], [0, -1, 101, math.nan]),
        ("top_k", [0, 2**32 - 1], []),
        ("min_tokens", [0, 1], [2]),
        ("stop_token_ids", [[], [1] * 128], [[1] * 129]),
        ("logit_bias", [{}, {1: -100, 2: 100}], [{1: 100.1}, {1: math.nan}, LONG_BIAS]),
        ("json_schema", ["{}", "x" * FORM_CHARS_MAX], ["x" * (FORM_CHARS_MAX + 1)]),
        ("choice", [["a", "b"]], [["a", ""], ["x" * FORM_CHARS_MAX]]),
    ],
)
def test_sampling_is_checked_at_both_ends_of_each_range(
    field: str, good: list[Any], bad: list[Any]
) -> None:
    for value in good:
        check_sampling(inference_pb2.Sampling(**({"max_tokens": 1} | {field: value})))
    for value in bad:
        with pytest.raises(ArgosyError, match=field) as refused:
            check_sampling(inference_pb2.Sampling(**({"max_tokens": 1} | {field: value})))
        assert (refused.value.reason, refused.value.param) == (Reason.BAD_REQUEST, field)


def test_a_refusal_says_the_accepted_range() -> None:
    with pytest.raises(ArgosyError, match=r"^temperature must be in \[0.0, 2.0\], not 3.0$"):
        check_sampling(inference_pb2.Sampling(max_tokens=1, temperature=3))


def test_an_answer_has_one_form() -> None:
    with pytest.raises(ArgosyError, match="choice is a second form beside regex"):
        check_sampling(inference_pb2.Sampling(max_tokens=1, regex="a", choice=["a"]))


@pytest.mark.parametrize("options", [{"stop_token_ids": [5, 10**6]}, {"logit_bias": {10**6: 1.0}}])
async def test_an_option_that_names_a_token_outside_the_vocabulary_is_refused(
    validator: RequestValidator, options: dict[str, Any]
) -> None:
    request = asked()
    request.sampling.MergeFrom(inference_pb2.Sampling(**options))
    with pytest.raises(ArgosyError, match="names token 1000000") as refused:
        await validator.validate(request, None)
    assert refused.value.param in options


def test_sampling_that_says_nothing_is_good() -> None:
    check_sampling(inference_pb2.Sampling(max_tokens=1))


# -- input


@pytest.mark.parametrize(
    ("fields", "job"),
    [
        ({"text": "ahoy"}, TokenizerJob(text="ahoy", salt="t")),
        ({"tokens": router_pb2.TokenIds(ids=[1, 2])}, TokenizerJob(token_ids=[1, 2], salt="t")),
        (
            {"chat": router_pb2.Chat(messages_json="[1]", tools_json="[2]")},
            TokenizerJob(messages_json="[1]", tools_json="[2]", salt="t"),
        ),
        (
            {"chat": router_pb2.Chat(messages_json="[1]", **TEMPLATE_OPTIONS)},
            TokenizerJob(messages_json="[1]", **TEMPLATE_OPTIONS, salt="t"),
        ),
    ],
)
def test_each_kind_of_input_becomes_a_job(fields: dict[str, Any], job: TokenizerJob) -> None:
    assert job_of(router_pb2.GenerateRequest(tenant="t", **fields)) == job


@pytest.mark.parametrize("fields", [{}, {"tokens": router_pb2.TokenIds()}])
def test_a_request_without_input_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ArgosyError, match="no input") as refused:
        job_of(router_pb2.GenerateRequest(**fields))
    assert refused.value.reason is Reason.BAD_REQUEST


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (TokenizerJob(messages_json="["), "messages is not a JSON array"),
        (TokenizerJob(messages_json="{}"), "messages is not a JSON array"),
        (TokenizerJob(messages_json="[]"), "messages is empty"),
        (TokenizerJob(messages_json='["ahoy"]'), "messages is not a JSON array of objects"),
        (TokenizerJob(messages_json='[{"content": "x"}]'), "every message needs a role"),
        (
            TokenizerJob(messages_json='[{"role": "user", "content": "x"}]', tools_json="7"),
            "tools is not",
        ),
        (TokenizerJob(text="\ud800"), "not Unicode"),
        (TokenizerJob(messages_json=HELLO, template_kwargs_json="[]"), "chat_template_kwargs is"),
        (TokenizerJob(messages_json=HELLO, documents_json="{}"), "documents is not"),
        (TokenizerJob(messages_json=HELLO, template_name="rag"), "no template 'rag'"),
        (
            TokenizerJob(messages_json=HELLO, template_kwargs_json='{"enable_thinking": false}'),
            "does not use enable_thinking: leave it out. It uses",
        ),
        (TokenizerJob(messages_json=HELLO, documents_json='[{"a": 1}]'), "does not use documents"),
    ],
)
def test_input_that_cannot_be_made_tokens_of_is_refused(job: TokenizerJob, says: str) -> None:
    with pytest.raises(ArgosyError, match=says) as refused:
        encode(job, sim_tokenizer())
    assert refused.value.reason is Reason.BAD_REQUEST


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({}, "hi<|im_end|>\n<|im_start|>assistant\n"),
        ({"add_generation_prompt": False}, "hi<|im_end|>\n"),
        ({"continue_final_message": True}, "hi"),
        ({"template_kwargs_json": '{"add_generation_prompt": false}'}, "hi<|im_end|>\n"),
    ],
)
def test_the_options_of_a_chat_reach_its_template(options: dict[str, Any], ends: str) -> None:
    tokenizer = sim_tokenizer()
    ids = encode(TokenizerJob(messages_json=HELLO, **options), tokenizer)
    assert tokenizer.decode(ids) == f"<|im_start|>user\n{ends}"
