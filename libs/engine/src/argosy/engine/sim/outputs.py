"""What the sim engine yields: words of its vocabulary, pieces that were made one."""

import msgspec

from argosy.engine import text
from argosy.engine.api import EngineFailed, EngineOutput, Logprobs


def word_ids(tokenizer: text.Tokenizer) -> list[int]:
    """Tokens to make answers of."""
    words = [tokenizer.encoder.token_to_id(word) for word in text.SIM_WORDS]
    known = [word for word in words if word is not None]
    if known:
        return known
    # A real vocabulary: words with a leading space, whatever they are.
    vocabulary = tokenizer.encoder.get_vocab()
    return sorted(i for token, i in vocabulary.items() if token[:1] in "Ġ▁")


def until_stop(token_ids: list[int], stop_ids: set[int], tokens_max: int) -> tuple[list[int], str]:
    """An answer up to its first token that ends it, if that comes in time, and why it ends."""
    end = next(at for at, token_id in enumerate(token_ids) if token_id in stop_ids) + 1
    return (token_ids[:end], "stop") if end <= tokens_max else (token_ids[:tokens_max], "length")


def joined(first: EngineOutput, then: EngineOutput | EngineFailed) -> EngineOutput | EngineFailed:
    """Two outputs of one request as one; a failure takes over."""
    if isinstance(then, EngineFailed):
        return then
    return msgspec.structs.replace(
        then,
        token_ids=first.token_ids + then.token_ids,
        cached_tokens=max(first.cached_tokens, then.cached_tokens),
        transferred_bytes=first.transferred_bytes + then.transferred_bytes,
    )


def with_logprobs(output: EngineOutput, top: int | None) -> EngineOutput:
    """Certainty, as logprobs: an invented token has no rivals."""
    if top is None:
        return output
    logprobs = [Logprobs(i, 0.0, {i: 0.0} if top else {}) for i in output.token_ids]
    return EngineOutput(
        output.token_ids,
        logprobs,
        output.finish,
        output.cached_tokens,
        output.kv_handle,
        output.transferred_bytes,
    )
