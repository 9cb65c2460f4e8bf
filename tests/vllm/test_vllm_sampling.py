"""Sampling options in vLLM's own words, without an engine: nothing is lost on the way."""

from typing import Any

import pytest

from argosy.engine.api import SamplingSpec
from argosy.engine.vllm.sampling import sampling_params

pytestmark = pytest.mark.vllm
exceptions = pytest.importorskip("vllm.exceptions")

EVERY_OPTION = {
    "max_tokens": 9,
    "temperature": 0.5,
    "top_p": 0.75,
    "seed": 3,
    "ignore_eos": True,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "top_k": 4,
    "min_p": 0.25,
    "repetition_penalty": 1.5,
    "min_tokens": 2,
    "stop_token_ids": (7, 8),
    "logit_bias": {5: -100.0},
}


def test_every_option_has_its_place_in_vllms_words() -> None:
    words = sampling_params(SamplingSpec(**EVERY_OPTION, top_logprobs=2), None, produce=False)
    got = {name: getattr(words, name) for name in EVERY_OPTION}
    assert got == {**EVERY_OPTION, "stop_token_ids": [7, 8]}
    assert (words.logprobs, words.structured_outputs) == (2, None)


@pytest.mark.parametrize(
    ("form", "word", "value"),
    [
        ({"json_schema": "{}"}, "json", "{}"),
        ({"regex": "a+"}, "regex", "a+"),
        ({"choice": ("a", "b")}, "choice", ["a", "b"]),
        ({"grammar": 'root ::= "a"'}, "grammar", 'root ::= "a"'),
    ],
)
def test_every_form_of_an_answer_has_its_place(form: Any, word: str, value: Any) -> None:
    words = sampling_params(SamplingSpec(4, **form), None, produce=False)
    assert getattr(words.structured_outputs, word) == value


def test_a_prompt_to_prefill_only_has_no_options() -> None:
    words = sampling_params(SamplingSpec(**EVERY_OPTION), None, produce=True)
    assert (words.max_tokens, words.temperature, words.top_k) == (1, 0, 0)
    assert (words.logit_bias, words.min_tokens, words.structured_outputs) == (None, 0, None)


def test_two_forms_are_the_callers_fault() -> None:
    with pytest.raises(exceptions.VLLMClientError):
        sampling_params(SamplingSpec(4, regex="a", choice=("a",)), None, produce=False)
