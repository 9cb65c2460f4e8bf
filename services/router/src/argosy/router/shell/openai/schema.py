"""What OpenAI clients send, checked and turned into the contract's words.

Bounds: CHOICES_MAX answers to a prompt, and ANSWERS_MAX to a request, prompts x n.
"""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

from argosy.domain.errors import ArgosyError, Reason
from argosy.router.shell.openai.messages import plain
from argosy.router.shell.openai.options import (
    VERBATIM,
    bad_option,
    known_options,
    unknown,
    whole_numbers,
)
from argosy.router.shell.openai.sampling import sampling_of, set_top_logprobs
from argosy.router.shell.openai.structured import put_form
from argosy.router.shell.openai.tools import forced_schema, permitted
from argosy.wire.router.v1 import router_pb2

CHOICES_MAX = 128
"""As OpenAI's."""
ANSWERS_MAX = 1024
"""Of one request. LangChain sends 20 prompts at once, lm-eval as many as its batch size."""
COMPLETION_TOKENS_DEFAULT = 16
TIERS = {
    "flex": router_pb2.PRIORITY_BACKGROUND,
    "priority": router_pb2.PRIORITY_URGENT,
    "fast": router_pb2.PRIORITY_URGENT,
}

Count = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Limit = Annotated[int, msgspec.Meta(le=2**32 - 1)]
Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class StreamOptions(msgspec.Struct):
    """stream_options"""

    include_usage: bool = False
    include_obfuscation: bool = False
    """Whether padding is added against listeners that measure chunks. There is none here."""


class OpenAiRequest(msgspec.Struct, kw_only=True):
    """What chat and plain completions have in common; as vLLM has it where OpenAI has nothing."""

    model: str
    max_tokens: Limit | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: Seed | None = None
    stop: str | list[str] = []
    n: int = 1
    stream: bool = False
    stream_options: dict[str, Any] = {}
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] = "auto"
    """flex: background work; priority, fast: before interactive requests."""
    response_format: dict[str, Any] | None = None
    ignore_eos: bool | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: Count | None = None
    stop_token_ids: list[Count] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None

    @property
    def choices(self) -> int:
        """How many answers are wanted to each prompt."""
        return self.n

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with usage figures."""
        return bool(self.stream_options.get("include_usage"))

    @property
    def priority(self) -> router_pb2.Priority:
        """OpenAI's service tiers as bands."""
        return TIERS.get(self.service_tier, router_pb2.PRIORITY_UNSPECIFIED)


class ChatRequest(OpenAiRequest):
    """POST /v1/chat/completions"""

    messages: list[dict[str, Any]]
    max_completion_tokens: Limit | None = None
    logprobs: bool = False
    top_logprobs: Limit | None = None
    tools: list[dict[str, Any]] = []
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool = True
    chat_template: str = ""
    chat_template_kwargs: dict[str, Any] = {}
    reasoning_effort: str | None = None
    """A variable of the chat template, as vLLM passes it on."""
    add_generation_prompt: bool | None = None
    continue_final_message: bool = False
    documents: list[dict[str, Any]] = []


class CompletionRequest(OpenAiRequest):
    """POST /v1/completions"""

    prompt: str | list[int | str | list[int]]
    """One prompt as text or tokens, or a list of prompts, each as text or tokens."""
    logprobs: Limit | None = None


def parse(body: bytes, kind: type[Any]) -> Any:
    """A request of that kind. Raises BAD_REQUEST naming what is wrong."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArgosyError(
            Reason.BAD_REQUEST, f"the body is not a valid request: {error}"
        ) from error
    if not isinstance(fields, dict):
        raise ArgosyError(Reason.BAD_REQUEST, "the body must be a JSON object")
    options = known_options(fields, kind.__struct_fields__)
    try:
        request = msgspec.convert(options, kind)
    except msgspec.ValidationError:
        # Some clients write 4.0 for 4. Most do not, and long prompts are costly to look through.
        whole = {
            name: value if name in VERBATIM else whole_numbers(value)
            for name, value in options.items()
        }
        request = converted(whole, kind)
    if request.stream_options:
        check_stream_options(request.stream_options)
    if not 1 <= request.n <= CHOICES_MAX:
        raise bad_option("n", f"n must be in [1, {CHOICES_MAX}], not {request.n}")
    if kind is ChatRequest:
        request.tools, request.tool_choice = permitted(request.tools, request.tool_choice)
    return request


def check_stream_options(given: dict[str, Any]) -> None:
    """Raise BAD_REQUEST for a stream option that is unknown or of the wrong type."""
    options = {name: item for name, item in given.items() if item is not None}
    known = StreamOptions.__struct_fields__
    for name in options:
        if name not in known:
            raise unknown(name, known, "stream_options.")
    converted(options, StreamOptions, "stream_options")


def converted(fields: dict[str, Any], kind: type[Any], within: str = "") -> Any:
    """The fields as a struct. Raises BAD_REQUEST naming the one of the wrong type."""
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        message = str(error)
        at = re.search(r"`\$\.?([^`]*)`$", message) or re.search(r"field `([^`]*)`$", message)
        param = ".".join(filter(None, (within, at[1] if at else "")))
        raise bad_option(param, f"the body is not a valid request: {message}") from error


def chat_to_wire(request: ChatRequest, tenant: str) -> router_pb2.GenerateRequest:
    """A chat request in the contract's words."""
    wanted = request.max_completion_tokens
    if wanted is not None and wanted < 1:
        raise bad_option(
            "max_completion_tokens", f"max_completion_tokens must be at least 1, not {wanted}"
        )
    sampling = sampling_of(request, request.max_tokens if wanted is None else wanted)
    if request.top_logprobs is not None and not request.logprobs:
        raise bad_option("top_logprobs", "top_logprobs needs logprobs: true")
    if request.logprobs:
        set_top_logprobs(sampling, "top_logprobs", request.top_logprobs or 0)
    put_form(sampling, request, forced_schema(request.tools, request.tool_choice))
    return router_pb2.GenerateRequest(
        model=request.model,
        chat=chat_of(request),
        sampling=sampling,
        tenant=tenant,
        priority=request.priority,
    )


def chat_of(request: ChatRequest) -> router_pb2.Chat:
    """What the chat template gets."""
    variables = request.chat_template_kwargs
    if request.reasoning_effort is not None:
        variables = {"reasoning_effort": request.reasoning_effort, **variables}
    tools = request.tools if request.tool_choice != "none" else []
    messages = [plain(message, at) for at, message in enumerate(request.messages)]
    return router_pb2.Chat(
        messages_json=json.dumps(messages),
        tools_json=json.dumps(tools) if tools else "",
        template_kwargs_json=json.dumps(variables) if variables else "",
        add_generation_prompt=request.add_generation_prompt,
        continue_final_message=request.continue_final_message,
        template_name=request.chat_template,
        documents_json=json.dumps(request.documents) if request.documents else "",
    )


def completion_to_wire(
    request: CompletionRequest, tenant: str
) -> Iterator[router_pb2.GenerateRequest]:
    """A completion request in the contract's words: one per prompt, made when it is asked for."""
    wanted = COMPLETION_TOKENS_DEFAULT if request.max_tokens is None else request.max_tokens
    sampling = sampling_of(request, wanted)
    if request.logprobs is not None:
        set_top_logprobs(sampling, "logprobs", request.logprobs)
    put_form(sampling, request, None)
    for text_or_ids in prompts_of(request):
        wire = router_pb2.GenerateRequest(
            model=request.model, sampling=sampling, tenant=tenant, priority=request.priority
        )
        if isinstance(text_or_ids, str):
            wire.text = text_or_ids
        else:
            try:
                wire.tokens.ids.extend(text_or_ids)
            except (ValueError, TypeError) as error:
                raise bad_option("prompt", f"prompt: {str(error)[:200]}") from error
        yield wire


def prompts_of(request: CompletionRequest) -> list[Any]:
    """The prompts. Raises BAD_REQUEST when there are too few or too many."""
    prompt: Any = request.prompt
    one = isinstance(prompt, str) or (bool(prompt) and isinstance(prompt[0], int))
    prompts = [prompt] if one else prompt
    most = ANSWERS_MAX // request.n
    if not 1 <= len(prompts) <= most:
        raise bad_option(
            "prompt",
            f"prompt takes 1 to {most} prompts with n = {request.n}, as a request has at most "
            f"{ANSWERS_MAX} answers; here are {len(prompts)}",
        )
    return prompts
