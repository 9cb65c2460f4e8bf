"""The limits of sampling options, for gRPC and HTTP alike."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from argosy.domain.errors import ArgosyError, Reason
from argosy.wire.inference.v1 import inference_pb2

STOP_STRINGS_MAX = 16
STOP_CHARS_MAX = 1024
STOP_TOKENS_MAX = 128
LOGIT_BIAS_MAX = 100
LOGIT_BIASES_MAX = 1024
FORM_CHARS_MAX = 128 << 10
"""Of a schema, regular expression, grammar, or all choices: every answer of a request carries it
to its instance. OpenAI takes schemas of 120,000 characters."""
TOP_LOGPROBS_MAX = 20
RANGES = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "repetition_penalty": (0.0, 100.0),
    "top_logprobs": (0, TOP_LOGPROBS_MAX),
}
ABOVE_ZERO = frozenset({"top_p", "repetition_penalty"})
FORMS = ("json_schema", "regex", "choice", "grammar")
COSTLY = frozenset({"stop", "stop_token_ids", "logit_bias", *FORMS})
"""Fields that hold many things, or long ones."""


def check_sampling(sampling: inference_pb2.Sampling, *, fill_max_tokens: bool = False) -> None:
    """Raise BAD_REQUEST for the first field out of range."""
    # Most fields are not set, and asking for each would take longer than all the rest.
    given: dict[str, Any] = {field.name: value for field, value in sampling.ListFields()}
    max_tokens = given.get("max_tokens", 0)
    if max_tokens < 1 and not fill_max_tokens:
        raise refused("max_tokens", "must be at least 1")
    for name, value in given.items():
        if name in RANGES:
            low, high = RANGES[name]
            if not (math.isfinite(value) and low <= value <= high):
                raise refused(name, f"must be in [{low}, {high}], not {value}")
            if name in ABOVE_ZERO and value == 0:
                raise refused(name, "must be above 0")
    if given.get("min_tokens", 0) > max_tokens and not fill_max_tokens:
        raise refused("min_tokens", f"must be in [0, {max_tokens}], up to max_tokens")
    if not COSTLY.isdisjoint(given):
        check_ends(given.get("stop", ()), given.get("stop_token_ids", ()))
        check_biases(given.get("logit_bias", {}))
        check_form({name: given[name] for name in FORMS if name in given})


def check_ends(stop: Sequence[str], stop_token_ids: Sequence[int]) -> None:
    """Raise BAD_REQUEST for texts and tokens to stop at that are too many or too long."""
    if len(stop) > STOP_STRINGS_MAX or "" in stop:
        raise refused("stop", f"takes up to {STOP_STRINGS_MAX} strings, none empty")
    if any(len(text) > STOP_CHARS_MAX for text in stop):
        raise refused("stop", f"takes strings of 1 to {STOP_CHARS_MAX} characters")
    if len(stop_token_ids) > STOP_TOKENS_MAX:
        raise refused("stop_token_ids", f"takes up to {STOP_TOKENS_MAX} tokens")


def check_biases(logit_bias: Mapping[int, float]) -> None:
    """Raise BAD_REQUEST for biases that are too many or out of range."""
    if len(logit_bias) > LOGIT_BIASES_MAX:
        raise refused("logit_bias", f"takes up to {LOGIT_BIASES_MAX} tokens")
    for token_id, bias in logit_bias.items():
        if not abs(bias) <= LOGIT_BIAS_MAX:
            message = f"must be in [-{LOGIT_BIAS_MAX}, {LOGIT_BIAS_MAX}], not {bias} ({token_id})"
            raise refused("logit_bias", message)


def check_form(forms: Mapping[str, Any]) -> None:
    """Raise BAD_REQUEST for more than one form of the answer, or one that is too long."""
    if len(forms) > 1:
        first, second, *_ = forms
        raise refused(second, f"is a second form beside {first}: an answer has one")
    for name, form in forms.items():
        if name == "choice" and "" in form:
            raise refused(name, "takes texts of at least 1 character")
        size = len(form) if isinstance(form, str) else sum(len(text) + 1 for text in form)
        if size > FORM_CHARS_MAX:
            raise refused(name, f"takes up to {FORM_CHARS_MAX} characters, not {size}")


def refused(name: str, what: str) -> ArgosyError:
    """A BAD_REQUEST for one field of the request."""
    return ArgosyError(Reason.BAD_REQUEST, f"{name} {what}", param=name)
