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
    [{}, {"temperature": 0}, {"temperature": 0, "seed": 1}, {"temperature": 0.7}],
    ids=["plain", "greedy", "greedy with a seed", "sampled"],
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
    ],
    ids=["seed", "seed and temperature", "presence", "frequency", "schema"],
)
def test_an_answer_that_depends_on_all_its_tokens_is_made_anew(sampling: dict[str, Any]) -> None:
    prompt = request_context(**sampling).prompt(1)
    assert list(prompt.token_ids) == [1, 2, 3]
    assert list(prompt.sent_token_ids) == [4, 5]
    assert (prompt.resumed_tokens, prompt.sampling.max_tokens) == (0, 8)
