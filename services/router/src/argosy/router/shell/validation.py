"""Validates requests, of gRPC and of HTTP alike, and makes RequestContexts of them."""

import math
from collections.abc import Mapping

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh import telemetry
from argosy.mesh.service import Mesh
from argosy.router.settings import RouterSettings
from argosy.router.shell.relay import Relay
from argosy.router.shell.request_context import RequestContext, new_request_id
from argosy.router.shell.tokenizing import TokenizerJob
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.router.v1 import router_pb2

STOP_STRINGS_MAX = 16
TOP_LOGPROBS_MAX = 20
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
        fill = fill_max_tokens and request.sampling.max_tokens == 0
        if fill:
            request.sampling.max_tokens = 1
        check_sampling(request.sampling)
        if len(request.request_id) > REQUEST_ID_CHARS_MAX:
            raise ArgosyError(
                Reason.BAD_REQUEST, f"request_id is over {REQUEST_ID_CHARS_MAX} characters"
            )
        self._check_model(request.model)
        if request.priority not in BANDS:
            raise ArgosyError(Reason.BAD_REQUEST, f"no priority {request.priority}: see Priority")
        job = job_of(request)
        with telemetry.span(self.mesh.tracer, "router.tokenize") as span:
            tokenized = await self.relay.pool.tokenize(job)
            span.set_attribute("prompt_tokens", len(tokenized.token_ids))
        if not tokenized.token_ids:
            raise ArgosyError(Reason.BAD_REQUEST, "the prompt is empty: send at least one token")
        if fill:
            room = self._contexts.get(request.model, 0) - len(tokenized.token_ids)
            request.sampling.max_tokens = max(1, room)
        limit_s = self.mesh.settings.request_timeout_s
        deadline_us = self.mesh.clock.now_us() + round(min(limit_s, deadline_s or limit_s) * 1e6)
        return RequestContext(
            request.request_id or new_request_id(),
            request.model,
            request.sampling,
            tokenized.token_ids,
            tokenized.blocks,
            request.tenant,
            deadline_us,
            request.tenant,
            BANDS[request.priority],
        )

    def _check_model(self, model: str) -> None:
        # The core refuses models it has never seen; this one's tokenizer we do not have.
        known = self.mesh.settings.model
        if model != known:
            raise ArgosyError(
                Reason.MODEL_NOT_FOUND, f"no model '{model}' here; there are: {known}"
            )


def job_of(request: router_pb2.GenerateRequest) -> TokenizerJob:
    """What to tokenize. Raises BAD_REQUEST when there is no input."""
    match request.WhichOneof("input"):
        case "text":
            return TokenizerJob(text=request.text, salt=request.tenant)
        case "tokens" if request.tokens.ids:
            return TokenizerJob(token_ids=request.tokens.ids, salt=request.tenant)
        case "chat":
            return chat_job(request.chat, request.tenant)
    raise ArgosyError(Reason.BAD_REQUEST, "no input: set text, tokens or chat, not empty")


def chat_job(chat: router_pb2.Chat, tenant: str) -> TokenizerJob:
    """A chat to tokenize."""
    says = chat.HasField("add_generation_prompt")
    return TokenizerJob(
        messages_json=chat.messages_json,
        tools_json=chat.tools_json,
        template_kwargs_json=chat.template_kwargs_json,
        add_generation_prompt=chat.add_generation_prompt if says else None,
        continue_final_message=chat.continue_final_message,
        template_name=chat.template_name,
        documents_json=chat.documents_json,
        salt=tenant,
    )


def check_sampling(sampling: inference_pb2.Sampling) -> None:
    """Raise BAD_REQUEST for the first field out of range."""
    ranges = (
        ("temperature", 0.0, 2.0),
        ("top_p", 0.0, 1.0),
        ("presence_penalty", -2.0, 2.0),
        ("frequency_penalty", -2.0, 2.0),
        ("top_logprobs", 0, TOP_LOGPROBS_MAX),
    )
    if sampling.max_tokens < 1:
        raise ArgosyError(Reason.BAD_REQUEST, "max_tokens must be at least 1")
    for name, low, high in ranges:
        value = getattr(sampling, name)
        if sampling.HasField(name) and not (math.isfinite(value) and low <= value <= high):
            raise ArgosyError(Reason.BAD_REQUEST, f"{name} must be in [{low}, {high}], not {value}")
    if sampling.HasField("top_p") and sampling.top_p == 0:
        raise ArgosyError(Reason.BAD_REQUEST, "top_p must be above 0")
    if len(sampling.stop) > STOP_STRINGS_MAX or "" in sampling.stop:
        raise ArgosyError(
            Reason.BAD_REQUEST, f"stop takes up to {STOP_STRINGS_MAX} strings, none empty"
        )
