"""From an engine's outputs to the chunks of an answer: text, stop strings, resumption."""

from dataclasses import dataclass

from argosy.domain.errors import ArgosyError, Reason
from argosy.engine.api import EngineOutput
from argosy.engine.text import TextStream, Tokenizer
from argosy.instance.convert import FINISH, position_logprobs
from argosy.wire.inference.v1 import inference_pb2


@dataclass
class AnswerStream:
    """One answer as it grows.

    A resumed answer's prompt ends in tokens an earlier attempt produced: they shape the
    text that follows and count as completion tokens, but are not sent again. A
    structured answer is made anew from its beginning, because its grammar has to see
    it all; its first tokens must then be the ones sent before, and are not sent again.
    """

    prompt: inference_pb2.Prompt
    tokenizer: Tokenizer
    produced: int = 0
    finished: bool = False
    cached_tokens: int = 0
    transferred_bytes: int = 0

    def __post_init__(self) -> None:
        ids, resumed = list(self.prompt.token_ids), self.prompt.resumed_tokens
        own, before = ids[: len(ids) - resumed], ids[len(ids) - resumed :]
        self.prompt_tokens = len(own)
        sampling = self.prompt.sampling
        keep_stop = sampling.include_stop_str_in_output
        self._text = TextStream(
            self.tokenizer,
            own,
            sampling.stop,
            keep_stop=keep_stop,
            skip_special=sampling.skip_special_tokens
            or not sampling.HasField("skip_special_tokens"),
            min_tokens=sampling.min_tokens,
        )
        ends = () if keep_stop else (*self.tokenizer.eos_token_ids, *sampling.stop_token_ids)
        self._textless_ends = frozenset(ends)
        """Tokens without text where they end the answer."""
        self._sent = list(self.prompt.sent_token_ids)
        self.produced = resumed
        for token_id in before:
            self._text.push(token_id)

    def chunk(self, output: EngineOutput) -> inference_pb2.TokenChunk:
        """What to send for an engine's output. Raises DIVERGED; see the class."""
        self.cached_tokens = max(self.cached_tokens, output.cached_tokens)
        self.transferred_bytes += output.transferred_bytes
        chunk = inference_pb2.TokenChunk()
        for index, token_id in enumerate(output.token_ids):
            offset = self._text.offset_of(token_id) if output.logprobs is not None else 0
            last = output.finish == "stop" and index == len(output.token_ids) - 1
            text = "" if last and token_id in self._textless_ends else self._text.push(token_id)
            self.produced += 1
            if self._was_sent(token_id):
                continue
            chunk.token_ids.append(token_id)
            chunk.text += text
            if output.logprobs is not None:
                position = output.logprobs[index]
                chunk.logprobs.append(position_logprobs(position, self.tokenizer, offset))
            if self._text.stopped:
                self._finish(chunk, inference_pb2.FINISH_REASON_STOP)
                return chunk
        if output.finish is not None:
            if self.produced < len(self._sent):
                raise self._diverged()
            chunk.text += self._text.finish()
            self._finish(chunk, FINISH[output.finish])
        return chunk

    def _was_sent(self, token_id: int) -> bool:
        if self.produced > len(self._sent):
            return False
        if token_id != self._sent[self.produced - 1]:
            raise self._diverged()
        return True

    def _diverged(self) -> ArgosyError:
        return ArgosyError(
            Reason.DIVERGED,
            f"request {self.prompt.request_id}: token {self.produced} of the structured "
            "answer differs from the one sent before the failure; ask again",
        )

    def _finish(self, chunk: inference_pb2.TokenChunk, reason: int) -> None:
        self.finished = True
        chunk.finish_reason = reason  # type: ignore[assignment]
        chunk.usage.prompt_tokens = self.prompt_tokens
        chunk.usage.cached_tokens = self.cached_tokens
        chunk.usage.completion_tokens = self.produced
