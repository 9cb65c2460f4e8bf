"""Validates requests, of gRPC and of HTTP alike, and makes RequestContexts of them."""

from collections.abc import Mapping
from dataclasses import replace

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh import telemetry
from argosy.mesh.service import Mesh
from argosy.router.settings import RouterSettings
from argosy.router.shell.relay import Relay
from argosy.router.shell.request_context import RequestContext, new_request_id
from argosy.router.shell.sampling_limits import check_sampling, refused
from argosy.router.shell.tokenizing import TokenizedPrompt, TokenizerJob
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.router.v1 import router_pb2

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
            if not (named := getattr(sampling, name)):
                continue
            if (largest := max(named)) >= (vocabulary := self.relay.pool.vocabulary):
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
