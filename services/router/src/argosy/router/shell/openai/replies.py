"""What OpenAI clients get: chat and plain completions, whole and in chunks."""

from dataclasses import dataclass, field
from typing import Any

from argosy.domain.errors import ArgosyError
from argosy.router.shell.openai.tools import ToolSplitter
from argosy.wire.inference.v1 import inference_pb2

RETRY_AFTER_S = 1
"""For errors that pass but do not say when."""
FINISH = {inference_pb2.FINISH_REASON_STOP: "stop", inference_pb2.FINISH_REASON_LENGTH: "length"}


@dataclass
class ChoiceReply:
    """One answer as it grows. tools: None when the caller gave none."""

    index: int
    chat: bool
    tools: ToolSplitter | None = None
    text: str = ""
    logprobs: list[inference_pb2.PositionLogprobs] = field(default_factory=list)
    finish: str | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    usage: inference_pb2.Usage | None = None

    def add(self, chunk: inference_pb2.TokenChunk) -> dict[str, Any] | None:
        """Take in a chunk; returns the choice of a stream chunk, None for nothing to say."""
        said = self.tools.push(chunk.text) if self.tools else chunk.text
        fresh_calls: list[dict[str, Any]] = []
        if chunk.finish_reason:
            self.finish = FINISH[chunk.finish_reason]
            self.usage = chunk.usage
            if self.tools:
                rest, fresh_calls = self.tools.finish()
                said += rest
                self.calls = fresh_calls
                self.finish = "tool_calls" if fresh_calls else self.finish
        self.text += said
        self.logprobs.extend(chunk.logprobs)
        if not (said or chunk.logprobs or self.finish):
            return None
        logprobs = self._logprobs(list(chunk.logprobs))
        if not self.chat:
            return {
                "index": self.index,
                "text": said,
                "logprobs": logprobs,
                "finish_reason": self.finish,
            }
        delta: dict[str, Any] = {"content": said} if said else {}
        if fresh_calls:
            delta["tool_calls"] = [{"index": i, **call} for i, call in enumerate(fresh_calls)]
        return {
            "index": self.index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": self.finish,
        }

    def whole(self) -> dict[str, Any]:
        """The choice of a reply that is not streamed."""
        common = {
            "index": self.index,
            "logprobs": self._logprobs(self.logprobs),
            "finish_reason": self.finish,
        }
        if not self.chat:
            return {**common, "text": self.text}
        content = self.text if self.text or not self.calls else None
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if self.calls:
            message["tool_calls"] = self.calls
        return {**common, "message": message}

    def _logprobs(self, positions: list[inference_pb2.PositionLogprobs]) -> Any:
        if not positions:
            return None
        return chat_logprobs(positions) if self.chat else completion_logprobs(positions)


def chat_logprobs(positions: list[inference_pb2.PositionLogprobs]) -> dict[str, Any]:
    """As in chat completions."""

    def one(token: inference_pb2.TokenLogprob) -> dict[str, Any]:
        return {"token": token.token, "logprob": token.logprob, "bytes": list(token.bytes)}

    content = [{**one(p.chosen), "top_logprobs": [one(t) for t in p.top]} for p in positions]
    return {"content": content, "refusal": None}


def completion_logprobs(positions: list[inference_pb2.PositionLogprobs]) -> dict[str, Any]:
    """As in plain completions; offsets count characters from the start of the answer."""
    return {
        "tokens": [token_name(p.chosen) for p in positions],
        "token_logprobs": [p.chosen.logprob for p in positions],
        "top_logprobs": [{token_name(t): t.logprob for t in p.top} for p in positions],
        "text_offset": [p.text_offset for p in positions],
    }


def token_name(token: inference_pb2.TokenLogprob) -> str:
    """A token as plain completions name it: its text, or its bytes where they are no text.

    Tokens that are parts of characters would have one name otherwise, and only one of them
    would be left in top_logprobs.
    """
    if token.token.encode() == token.bytes:
        return token.token
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes)


def usage_of(choices: list[ChoiceReply], prompts: int) -> dict[str, Any]:
    """Token counts; each prompt counts once, however many answers it got."""
    used = [choice.usage for choice in choices if choice.usage is not None]
    per_prompt = max(1, len(choices) // max(1, prompts))
    prompt_tokens = sum(u.prompt_tokens for u in used[::per_prompt])
    cached_tokens = sum(u.cached_tokens for u in used[::per_prompt])
    completion_tokens = sum(u.completion_tokens for u in used)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


def retry_after_s(error: ArgosyError) -> int:
    """When to try again, for the header of that name; 0: trying again is of no use."""
    busy = error.reason.value.http in (429, 503)
    return -(-error.retry_after_ms // 1000) or (RETRY_AFTER_S if busy else 0)


def error_body(error: ArgosyError) -> dict[str, Any]:
    """An error as OpenAI clients read it, with Argosy's own reason beside its code."""
    return {
        "error": {
            "message": error.message,
            "type": error.reason.value.openai_type,
            "param": error.param or None,
            "code": error.reason.value.openai_code or None,
            "reason": error.reason.name,
        }
    }
