"""Between our sampling words and vLLM's."""

from typing import Any

from argosy.engine.api import Logprobs, SamplingSpec


def sampling_params(
    sampling: SamplingSpec, transfer: dict[str, Any] | None, *, produce: bool
) -> Any:
    """VLLM's SamplingParams. Raises VLLMClientError for what it does not accept.

    produce: one greedy token that nobody reads; decode chooses the first token itself.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    common: dict[str, Any] = {"output_kind": RequestOutputKind.DELTA, "detokenize": False}
    if transfer is not None:
        common["extra_args"] = {"kv_transfer_params": transfer}
    if produce:
        return SamplingParams(max_tokens=1, temperature=0, ignore_eos=True, **common)
    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        logprobs=sampling.top_logprobs,
        ignore_eos=sampling.ignore_eos,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        min_tokens=sampling.min_tokens,
        stop_token_ids=list(sampling.stop_token_ids),
        logit_bias=sampling.logit_bias or None,
        structured_outputs=structured_outputs(sampling),
        **common,
    )


def structured_outputs(sampling: SamplingSpec) -> Any:
    """VLLM's StructuredOutputsParams; None for free text."""
    from vllm.sampling_params import StructuredOutputsParams

    if not sampling.structured:
        return None
    return StructuredOutputsParams(
        json=sampling.json_schema,
        regex=sampling.regex,
        choice=list(sampling.choice) or None,
        grammar=sampling.grammar,
    )


def logprobs_of(completion: Any, top: int | None) -> list[Logprobs] | None:
    """The logprobs of one delta: as many as it has tokens; None if none were asked for."""
    if top is None or completion.logprobs is None:
        return None
    found = []
    for token_id, position in zip(completion.token_ids, completion.logprobs, strict=True):
        ranked = {i: entry.logprob for i, entry in position.items() if entry.rank <= top}
        found.append(Logprobs(token_id, position[token_id].logprob, ranked))
    return found
