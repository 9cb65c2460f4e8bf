"""How an answer goes on after a failure: from what was produced, or made anew."""

from typing import Any

import pytest

from argosy.router.shell.request_context import RequestContext
from argosy.wire.inference.v1 import inference_pb2


def request_context(**sampling: Any) -> RequestContext:
    wanted = inference_pb2.Sampling(max_tokens=8, **sampling)
    return RequestContext("r", "m", wanted, [1, 2, 3], [], "", 0, produced=[4, 5])


@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"temperature": 0},
        {"temperature": 0, "seed": 1},
        {"temperature": 0.7, "top_k": 4, "min_p": 0.1},
        {"repetition_penalty": 1.5},
        {"min_tokens": 5, "stop_token_ids": [7], "logit_bias": {7: 1.0}},
    ],
    ids=lambda sampling: " and ".join(sampling) or "plain",
)
def test_an_answer_goes_on_from_what_was_produced(sampling: dict[str, Any]) -> None:
    prompt = request_context(**sampling).prompt(1)
    assert list(prompt.token_ids) == [1, 2, 3, 4, 5]
    assert (prompt.resumed_tokens, prompt.sampling.max_tokens) == (2, 6)
    assert not prompt.sent_token_ids


@pytest.mark.parametrize(
    "sampling",
    [
        {"seed": 1},
        {"seed": 1, "temperature": 0.7},
        {"temperature": 0, "presence_penalty": 0.5},
        {"temperature": 0, "frequency_penalty": -0.5},
        {"temperature": 0, "json_schema": "{}"},
        {"temperature": 0, "regex": "a+"},
        {"temperature": 0, "choice": ["a"]},
        {"temperature": 0, "grammar": "root ::= 'a'"},
    ],
    ids=" and ".join,
)
def test_an_answer_that_depends_on_all_its_tokens_is_made_anew(sampling: dict[str, Any]) -> None:
    prompt = request_context(**sampling).prompt(1)
    assert list(prompt.token_ids) == [1, 2, 3]
    assert list(prompt.sent_token_ids) == [4, 5]
    assert (prompt.resumed_tokens, prompt.sampling.max_tokens) == (0, 8)


def test_an_answer_that_goes_on_says_how_many_of_its_fewest_tokens_there_are() -> None:
    prompt = request_context(min_tokens=5).prompt(1)
    assert (prompt.sampling.min_tokens, prompt.resumed_tokens) == (5, 2)


def test_answers_to_one_prompt_share_what_does_not_change() -> None:
    first = request_context(stop=["a long stop string"])
    second = first.sibling(1)
    assert second.sampling is first.sampling
    assert second.prompt_ids is first.prompt_ids
    assert second.request_id != first.request_id
    assert second.instance_request_id != first.instance_request_id
    assert (second.produced, first.produced) == ([], [4, 5])


def test_answers_to_one_prompt_have_a_seed_of_their_own() -> None:
    first = request_context(seed=6)
    seeds = {first.sampling.seed, *(first.sibling(n).sampling.seed for n in range(1, 128))}
    assert len(seeds) == 128
