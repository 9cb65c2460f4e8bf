"""What OpenAI clients send, checked and turned into the contract's words.

Fields we honour are fields here; fields we know and cannot honour are refused when
they are set to anything but their default, rather than ignored.
"""

import json
from typing import Annotated, Any, Literal

import msgspec

from argosy.domain.errors import ArgosyError, Reason
from argosy.router.shell.openai.tools import forced_schema, mapping
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.router.v1 import router_pb2

CHOICES_MAX = 16
COMPLETION_TOKENS_DEFAULT = 16
UNSUPPORTED = {
    "logit_bias": ({}, None),
    "best_of": (1, None),
    "echo": (False, None),
    "suffix": ("", None),
    "audio": (None,),
    "modalities": (["text"], None),
    "functions": (None, []),
    "prediction": (None,),
    "web_search_options": (None,),
}

Count = Annotated[int, msgspec.Meta(le=2**32 - 1)]
Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class StreamOptions(msgspec.Struct):
    """stream_options"""

    include_usage: bool = False


class OpenAiRequest(msgspec.Struct, kw_only=True):
    """What chat and plain completions have in common."""

    model: str
    max_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: Seed | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    ignore_eos: bool = False
    """An extension, as other servers have it."""
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    """flex: background work; priority: before interactive requests."""

    @property
    def choices(self) -> int:
        """How many answers are wanted."""
        return 1 if self.n is None else self.n

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with usage figures."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(OpenAiRequest):
    """POST /v1/chat/completions"""

    messages: list[dict[str, Any]]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = False
    top_logprobs: Count | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None


class CompletionRequest(OpenAiRequest):
    """POST /v1/completions"""

    prompt: str | list[int | str | list[int]]
    """One prompt as text or tokens, or a list of prompts, each as text or tokens."""
    logprobs: Count | None = None
    response_format: dict[str, Any] | None = None


def parse(body: bytes, kind: type[Any]) -> Any:
    """A request of that kind. Raises BAD_REQUEST naming what is wrong."""
    try:
        fields = msgspec.json.decode(body)
        if not isinstance(fields, dict):
            raise ArgosyError(Reason.BAD_REQUEST, "the body must be a JSON object")
        for name, accepted in UNSUPPORTED.items():
            if name in fields and fields[name] not in accepted:
                raise ArgosyError(Reason.BAD_REQUEST, f"{name} is not supported: leave it out")
        request = msgspec.convert(fields, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArgosyError(
            Reason.BAD_REQUEST, f"the body is not a valid request: {error}"
        ) from error
    if not 1 <= request.choices <= CHOICES_MAX:
        raise ArgosyError(Reason.BAD_REQUEST, f"n must be in [1, {CHOICES_MAX}]")
    return request


def sampling_of(request: OpenAiRequest, max_tokens: int | None) -> inference_pb2.Sampling:
    """The common fields; max_tokens None leaves it to the validator."""
    if max_tokens is not None and max_tokens < 1:
        raise ArgosyError(Reason.BAD_REQUEST, "max_tokens must be at least 1")
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    try:
        return inference_pb2.Sampling(
            max_tokens=max_tokens or 0,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            stop=stop,
            ignore_eos=request.ignore_eos,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
        )
    except (ValueError, UnicodeError) as error:
        raise ArgosyError(Reason.BAD_REQUEST, f"a field is out of range: {error}") from error


def priority_of(request: OpenAiRequest) -> router_pb2.Priority:
    """OpenAI's service tiers as bands."""
    tiers = {"flex": router_pb2.PRIORITY_BACKGROUND, "priority": router_pb2.PRIORITY_URGENT}
    return tiers.get(request.service_tier or "", router_pb2.PRIORITY_UNSPECIFIED)


def chat_to_wire(request: ChatRequest, tenant: str) -> router_pb2.GenerateRequest:
    """A chat request in the contract's words."""
    sampling = sampling_of(request, request.max_completion_tokens or request.max_tokens)
    if request.max_completion_tokens is not None and request.max_completion_tokens < 1:
        raise ArgosyError(Reason.BAD_REQUEST, "max_completion_tokens must be at least 1")
    if request.top_logprobs is not None and not request.logprobs:
        raise ArgosyError(Reason.BAD_REQUEST, "top_logprobs needs logprobs: true")
    if request.logprobs:
        set_top_logprobs(sampling, request.top_logprobs or 0)
    schema = forced_schema(request.tools or [], request.tool_choice)
    schema = schema or response_schema(request.response_format)
    if schema is not None:
        sampling.json_schema = schema
    tools = request.tools if request.tool_choice != "none" else None
    chat = router_pb2.Chat(
        messages_json=json.dumps([plain(message) for message in request.messages]),
        tools_json=json.dumps(tools) if tools else "",
    )
    return router_pb2.GenerateRequest(
        model=request.model,
        chat=chat,
        sampling=sampling,
        tenant=tenant,
        priority=priority_of(request),
    )


def completion_to_wire(request: CompletionRequest, tenant: str) -> list[router_pb2.GenerateRequest]:
    """A completion request in the contract's words: one per prompt."""
    wanted = COMPLETION_TOKENS_DEFAULT if request.max_tokens is None else request.max_tokens
    sampling = sampling_of(request, wanted)
    if request.logprobs is not None:
        set_top_logprobs(sampling, request.logprobs)
    schema = response_schema(request.response_format)
    if schema is not None:
        sampling.json_schema = schema
    prompt: Any = request.prompt
    one = isinstance(prompt, str) or (bool(prompt) and isinstance(prompt[0], int))
    prompts = [prompt] if one else prompt
    if not 1 <= len(prompts) <= CHOICES_MAX:
        raise ArgosyError(Reason.BAD_REQUEST, f"prompt takes 1 to {CHOICES_MAX} prompts")
    found = []
    for text_or_ids in prompts:
        wire = router_pb2.GenerateRequest(
            model=request.model, sampling=sampling, tenant=tenant, priority=priority_of(request)
        )
        if isinstance(text_or_ids, str):
            wire.text = text_or_ids
        else:
            try:
                wire.tokens.ids.extend(text_or_ids)
            except (ValueError, TypeError) as error:
                raise ArgosyError(Reason.BAD_REQUEST, f"prompt: {error}") from error
        found.append(wire)
    return found


def set_top_logprobs(sampling: inference_pb2.Sampling, top: int) -> None:
    """Set the field, or BAD_REQUEST for what it cannot hold."""
    try:
        sampling.top_logprobs = top
    except ValueError as error:
        raise ArgosyError(Reason.BAD_REQUEST, f"logprobs is out of range: {error}") from error


def plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message with its text parts joined. Raises BAD_REQUEST for what is not text."""
    role = message.get("role")
    if not isinstance(role, str):
        raise ArgosyError(Reason.BAD_REQUEST, "every message needs a role")
    content = message.get("content")
    if isinstance(content, list):
        parts = []
        for part in content:
            is_text = isinstance(part, dict) and part.get("type") == "text"
            if not is_text or not isinstance(part.get("text"), str):
                raise ArgosyError(Reason.BAD_REQUEST, "content parts must be text here")
            parts.append(part["text"])
        content = "".join(parts)
    elif content is not None and not isinstance(content, str):
        raise ArgosyError(Reason.BAD_REQUEST, "content must be text or a list of text parts")
    return {**message, "content": content or ""}


def response_schema(response_format: dict[str, Any] | None) -> str | None:
    """The JSON schema a response_format asks for; None for free text."""
    kind = "text" if response_format is None else response_format.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return json.dumps({"type": "object"})
    if kind == "json_schema" and response_format is not None:
        schema = mapping(response_format, "json_schema").get("schema")
        if isinstance(schema, dict):
            return json.dumps(schema)
    raise ArgosyError(
        Reason.BAD_REQUEST,
        "response_format must be text, json_object, or json_schema with json_schema.schema",
    )
