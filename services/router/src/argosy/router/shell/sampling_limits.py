"""The limits of sampling options, for gRPC and HTTP alike."""

import math

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
RANGES = (
    ("temperature", 0.0, 2.0),
    ("top_p", 0.0, 1.0),
    ("min_p", 0.0, 1.0),
    ("presence_penalty", -2.0, 2.0),
    ("frequency_penalty", -2.0, 2.0),
    ("repetition_penalty", 0.0, 100.0),
    ("top_logprobs", 0, TOP_LOGPROBS_MAX),
)


def check_sampling(sampling: inference_pb2.Sampling, *, fill_max_tokens: bool = False) -> None:
    """Raise BAD_REQUEST for the first field out of range."""
    if sampling.max_tokens < 1 and not fill_max_tokens:
        raise refused("max_tokens", "must be at least 1")
    for name, low, high in RANGES:
        value = getattr(sampling, name)
        if sampling.HasField(name) and not (math.isfinite(value) and low <= value <= high):
            raise refused(name, f"must be in [{low}, {high}], not {value}")
    for name in ("top_p", "repetition_penalty"):
        if sampling.HasField(name) and getattr(sampling, name) == 0:
            raise refused(name, "must be above 0")
    if sampling.min_tokens > sampling.max_tokens and not fill_max_tokens:
        raise refused("min_tokens", f"must be in [0, {sampling.max_tokens}], up to max_tokens")
    check_ends(sampling)
    for token_id, bias in sampling.logit_bias.items():
        if not abs(bias) <= LOGIT_BIAS_MAX:
            message = f"must be in [-{LOGIT_BIAS_MAX}, {LOGIT_BIAS_MAX}], not {bias} ({token_id})"
            raise refused("logit_bias", message)
    if len(sampling.logit_bias) > LOGIT_BIASES_MAX:
        raise refused("logit_bias", f"takes up to {LOGIT_BIASES_MAX} tokens")
    check_form(sampling)


def check_ends(sampling: inference_pb2.Sampling) -> None:
    """Raise BAD_REQUEST for texts and tokens to stop at that are too many or too long."""
    if len(sampling.stop) > STOP_STRINGS_MAX or "" in sampling.stop:
        raise refused("stop", f"takes up to {STOP_STRINGS_MAX} strings, none empty")
    if any(len(text) > STOP_CHARS_MAX for text in sampling.stop):
        raise refused("stop", f"takes strings of 1 to {STOP_CHARS_MAX} characters")
    if len(sampling.stop_token_ids) > STOP_TOKENS_MAX:
        raise refused("stop_token_ids", f"takes up to {STOP_TOKENS_MAX} tokens")


def check_form(sampling: inference_pb2.Sampling) -> None:
    """Raise BAD_REQUEST for more than one form of the answer, or one that is too long."""
    asked = [name for name in ("json_schema", "regex", "grammar") if sampling.HasField(name)]
    sizes = [len(getattr(sampling, name)) for name in asked]
    if sampling.choice:
        asked.append("choice")
        sizes.append(sum(map(len, sampling.choice)) + len(sampling.choice))
        if "" in sampling.choice:
            raise refused("choice", "takes texts of at least 1 character")
    if len(asked) > 1:
        raise refused(asked[1], f"is a second form beside {asked[0]}: an answer has one")
    if asked and sizes[0] > FORM_CHARS_MAX:
        raise refused(asked[0], f"takes up to {FORM_CHARS_MAX} characters, not {sizes[0]}")


def refused(name: str, what: str) -> ArgosyError:
    """A BAD_REQUEST for one field of the request."""
    return ArgosyError(Reason.BAD_REQUEST, f"{name} {what}", param=name)
