"""Converts between the contract's messages and the engine's."""

from typing import Any

from argosy.domain.timing import Timing
from argosy.engine.api import EngineInfo, EngineRequest, EngineStats, Logprobs, SamplingSpec
from argosy.engine.text import Tokenizer
from argosy.wire.inference.v1 import inference_pb2 as wire
from argosy.wire.instance.v1 import events_pb2

ON_TEXT = frozenset({"stop", "include_stop_str_in_output", "skip_special_tokens"})
"""Fields of Sampling that are about text, which engines do not see."""
FINISH = {"stop": wire.FINISH_REASON_STOP, "length": wire.FINISH_REASON_LENGTH}


def request_key(request_id: str, attempt: int) -> str:
    """Names one attempt at a request, everywhere."""
    return f"{request_id}/{attempt}"


def prompt_key(prompt: wire.Prompt | wire.Ticket) -> str:
    """The key of a prompt or of its ticket."""
    return request_key(prompt.request_id, prompt.attempt)


def sampling_spec(sampling: wire.Sampling, resumed_tokens: int = 0) -> SamplingSpec:
    """Unset fields take the defaults of SamplingSpec.

    resumed_tokens: how many tokens of the answer there are already; min_tokens counts them.
    """
    given: dict[str, Any] = {
        field.name: value for field, value in sampling.ListFields() if field.name not in ON_TEXT
    }
    for name, kind in (("stop_token_ids", tuple), ("choice", tuple), ("logit_bias", dict)):
        if name in given:
            given[name] = kind(given[name])
    if resumed_tokens and "min_tokens" in given:
        given["min_tokens"] = max(0, sampling.min_tokens - resumed_tokens)
    return SamplingSpec(**{"max_tokens": 0, **given})


def engine_request(
    prompt: wire.Prompt, *, dp_rank: int = 0, produce: bool = False, kv_handle: bytes | None = None
) -> EngineRequest:
    """A prompt as a request to the engine."""
    return EngineRequest(
        prompt_key(prompt),
        list(prompt.token_ids),
        sampling_spec(prompt.sampling, prompt.resumed_tokens),
        prompt.cache_salt,
        produce,
        kv_handle,
        dp_rank,
    )


def load_message(
    instance: str, epoch: str, stats: EngineStats, info: EngineInfo, held_blocks: int, now_us: int
) -> wire.Load:
    """An engine's stats as a message."""
    return wire.Load(
        instance_id=instance,
        epoch=epoch,
        running_requests=stats.running_requests,
        waiting_requests=stats.waiting_requests,
        queued_prefill_tokens=stats.queued_prefill_tokens,
        kv_used_blocks=stats.kv_used_blocks,
        kv_total_blocks=info.kv_total_blocks * info.dp_ranks,
        kv_held_blocks=held_blocks,
        at_us=now_us,
        step_us=stats.step_us,
        ranks=[
            wire.RankLoad(
                running_requests=rank.running_requests,
                waiting_requests=rank.waiting_requests,
                queued_prefill_tokens=rank.queued_prefill_tokens,
                kv_used_blocks=rank.kv_used_blocks,
            )
            for rank in stats.ranks
        ],
    )


def timing_message(timing: Timing | None) -> events_pb2.Timing | None:
    """How long an engine's steps take, as a message."""
    if timing is None:
        return None
    return events_pb2.Timing(
        prefill_ms=timing.prefill_ms,
        decode_ms=timing.decode_ms,
        decode_ms_per_request=timing.decode_ms_per_request,
        kv_bytes_per_token=timing.kv_bytes_per_token,
        transfer_ms=timing.transfer_ms,
        transfer_gb_per_s=timing.transfer_gb_per_s,
    )


def position_logprobs(
    position: Logprobs, tokenizer: Tokenizer, text_offset: int
) -> wire.PositionLogprobs:
    """One position's logprobs, with the tokens' text and bytes.

    text_offset: how many characters of the answer come before the token.
    """

    def one(token_id: int, logprob: float) -> wire.TokenLogprob:
        spelt = tokenizer.token_bytes[token_id]
        token = spelt.decode(errors="replace")
        return wire.TokenLogprob(token_id=token_id, token=token, logprob=logprob, bytes=spelt)

    ranked = sorted(position.top.items(), key=lambda item: (-item[1], item[0]))
    return wire.PositionLogprobs(
        chosen=one(position.token_id, position.logprob),
        top=[one(token_id, logprob) for token_id, logprob in ranked],
        text_offset=text_offset,
    )
