"""A request's sampling options in the contract's words."""

from typing import Any

from argosy.domain.errors import ArgosyError, Reason
from argosy.router.shell.openai.options import bad_option
from argosy.wire.inference.v1 import inference_pb2

SAME = (
    "temperature",
    "top_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "min_p",
    "repetition_penalty",
    "skip_special_tokens",
    "ignore_eos",
    "include_stop_str_in_output",
    "min_tokens",
    "stop_token_ids",
)
"""Options that mean the same under the same name in the contract."""


def sampling_of(request: Any, max_tokens: int | None) -> inference_pb2.Sampling:
    """The common fields; max_tokens None leaves it to the validator. Raises BAD_REQUEST."""
    if max_tokens is not None and max_tokens < 1:
        raise bad_option("max_tokens", f"max_tokens must be at least 1, not {max_tokens}")
    given = {name: value for name in SAME if (value := getattr(request, name)) is not None}
    if request.top_k is not None and not -1 <= request.top_k < 2**32:
        message = f"top_k must be in [1, {2**32 - 1}], or 0 or -1 for all, not {request.top_k}"
        raise bad_option("top_k", message)
    try:
        sampling = inference_pb2.Sampling(
            max_tokens=max_tokens or 0,
            stop=[request.stop] if isinstance(request.stop, str) else request.stop,
            **given,
        )
        if request.top_k is not None:
            sampling.top_k = max(0, request.top_k)
    except (ValueError, UnicodeError) as error:
        raise ArgosyError(Reason.BAD_REQUEST, f"a field is out of range: {error}") from error
    for token_id, bias in (request.logit_bias or {}).items():
        if not (token_id.isascii() and token_id.isdecimal() and int(token_id[:11]) < 2**32):
            raise bad_option("logit_bias", f"logit_bias: '{token_id[:100]}' is no token id")
        sampling.logit_bias[int(token_id)] = bias
    return sampling


def set_top_logprobs(sampling: inference_pb2.Sampling, name: str, top: int) -> None:
    """Set the field, or BAD_REQUEST naming the option for what it cannot hold."""
    try:
        sampling.top_logprobs = top
    except ValueError as error:
        raise bad_option(name, f"{name} is out of range: {error}") from error
