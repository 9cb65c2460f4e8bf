"""Validates requests, of gRPC and of HTTP alike, and makes RequestContexts of them."""

import math
from collections.abc import Mapping
from dataclasses import replace

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh import telemetry
from argosy.mesh.service import Mesh
from argosy.router.settings import RouterSettings
from argosy.router.shell.relay import Relay
from argosy.router.shell.request_context import RequestContext, new_request_id
from argosy.router.shell.tokenizing import TokenizedPrompt, TokenizerJob
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.router.v1 import router_pb2

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
REQUEST_ID_CHARS_MAX = 128
BANDS = {
    router_pb2.PRIORITY_UNSPECIFIED: 0,
    router_pb2.PRIORITY_BACKGROUND: -1,
    router_pb2.PRIORITY_INTERACTIVE: 0,
    router_pb2.PRIORITY_URGENT: 1,
}
"""The core's priority bands."""


class RequestValidator:
    """Turns GenerateRequests into RequestContexts. Raises ArgosyError for those it refuses."""

    def __init__(
        self, mesh: Mesh[RouterSettings], relay: Relay, contexts: Mapping[str, int]
    ) -> None:
        self.mesh = mesh
        self.relay = relay
        self._contexts = contexts

    async def validate(
        self,
        request: router_pb2.GenerateRequest,
        deadline_s: float | None,
        *,
        fill_max_tokens: bool = False,
    ) -> RequestContext:
        """Check, tokenize and hash. `deadline_s`: what the caller gives us, if anything.

        fill_max_tokens: a max_tokens of 0 means all the context allows.
        """
        sampling = request.sampling
        fill = fill_max_tokens and sampling.max_tokens == 0
        check_sampling(sampling, fill_max_tokens=fill)
        self._check_tokens(sampling)
        if len(request.request_id) > REQUEST_ID_CHARS_MAX:
            raise refused("request_id", f"is over {REQUEST_ID_CHARS_MAX} characters")
        self._check_model(request.model)
        if request.priority not in BANDS:
            raise ArgosyError(Reason.BAD_REQUEST, f"no priority {request.priority}: see Priority")
        context_tokens = self._contexts.get(request.model, 0)
        job = replace(job_of(request), context_tokens=context_tokens)
        with telemetry.span(self.mesh.tracer, "router.tokenize") as span:
            tokenized = await self._tokenize(job)
            span.set_attribute("prompt_tokens", len(tokenized.token_ids))
        if fill:
            sampling.max_tokens = max(1, context_tokens - len(tokenized.token_ids))
            sampling.min_tokens = min(sampling.min_tokens, sampling.max_tokens)
        limit_s = self.mesh.settings.request_timeout_s
        deadline_us = self.mesh.clock.now_us() + round(min(limit_s, deadline_s or limit_s) * 1e6)
        return RequestContext(
            request.request_id or new_request_id(),
            request.model,
            sampling,
            tokenized.token_ids,
            tokenized.blocks,
            request.tenant,
            deadline_us,
            request.tenant,
            BANDS[request.priority],
        )

    async def _tokenize(self, job: TokenizerJob) -> TokenizedPrompt:
        """The prompt's tokens: at least one, and no more than the context takes, if it is known."""
        param = "messages" if job.messages_json else "prompt"
        try:
            tokenized = await self.relay.pool.tokenize(job)
        except ArgosyError as error:
            if error.reason in (Reason.BAD_REQUEST, Reason.PROMPT_TOO_LONG):
                error.param = error.param or param
            raise
        tokens = len(tokenized.token_ids)
        if not tokens:
            message = "the prompt is empty: send at least one token"
            raise ArgosyError(Reason.BAD_REQUEST, message, param=param)
        if job.context_tokens and tokens >= job.context_tokens:
            raise ArgosyError(
                Reason.PROMPT_TOO_LONG,
                f"This model's maximum context length is {job.context_tokens} tokens, the answer "
                f"included. However, the prompt has {tokens} tokens: shorten it",
                param=param,
            )
        return tokenized

    def _check_model(self, model: str) -> None:
        # The core refuses models it has never seen; this one's tokenizer we do not have.
        known = self.mesh.settings.model
        if model != known:
            raise ArgosyError(
                Reason.MODEL_NOT_FOUND,
                f"no model '{model}' here; there are: {known}",
                param="model",
            )

    def _check_tokens(self, sampling: inference_pb2.Sampling) -> None:
        """Raise BAD_REQUEST for options that name a token the vocabulary does not have."""
        for name in ("stop_token_ids", "logit_bias"):
            largest = max(getattr(sampling, name), default=0)
            if largest >= (vocabulary := self.relay.pool.vocabulary):
                message = f"names token {largest}, which the vocabulary of {vocabulary} has not"
                raise refused(name, message)


def job_of(request: router_pb2.GenerateRequest) -> TokenizerJob:
    """What to tokenize. Raises BAD_REQUEST when there is no input."""
    match request.WhichOneof("input"):
        case "text":
            return TokenizerJob(text=request.text, salt=request.tenant)
        case "tokens" if request.tokens.ids:
            return TokenizerJob(token_ids=request.tokens.ids, salt=request.tenant)
        case "chat":
            chat = request.chat
            return TokenizerJob(
                messages_json=chat.messages_json, tools_json=chat.tools_json, salt=request.tenant
            )
    raise ArgosyError(Reason.BAD_REQUEST, "no input: set text, tokens or chat, not empty")


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
