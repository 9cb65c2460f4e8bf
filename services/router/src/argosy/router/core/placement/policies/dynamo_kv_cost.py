"""Dynamo's published cost: prefill blocks waiting and uncached, plus decode blocks.

Source: ai-dynamo/dynamo, lib/kv-router/src/scheduling/selector.rs, defaults (device
credit 1, temperature 0); a disaggregated decode is chosen by its blocks alone.
"""

from argosy.router.core.fleet.candidates import Candidate, Candidates, Choice, Planned
from argosy.router.core.fleet.estimates import blocks_of, uncached_tokens, with_room
from argosy.router.core.placement.policies import RoutingPolicy
from argosy.router.core.state import RouterState, TrackedRequest


def choose(
    state: RouterState,
    candidates: Candidates,
    request: TrackedRequest,
    now_us: int,
    planned: Planned,
) -> Choice | None:
    """The least cost in blocks."""

    def decode_blocks(candidate: Candidate) -> int:
        return candidate.rank.kv_blocks + blocks_of(candidate.instance, request.prompt_tokens)

    def prefill_blocks(candidate: Candidate) -> float:
        tokens = candidate.rank.prefill_tokens + uncached_tokens(candidate, request)
        return tokens / candidate.instance.block_tokens

    decodes = with_room(candidates.decode, request)
    if not decodes:
        return None
    if not candidates.prefill:
        both = min(decodes, key=lambda s: (prefill_blocks(s) + decode_blocks(s), s.rank.holder))
        return Choice(both, both, uncached_tokens(both, request), "least cost in blocks")
    decode = min(decodes, key=lambda s: (decode_blocks(s), s.rank.holder))
    prefill = min(candidates.prefill, key=lambda s: (prefill_blocks(s), s.rank.holder))
    return Choice(prefill, decode, uncached_tokens(prefill, request), "least cost in blocks")


POLICY = RoutingPolicy(choose, staggered=False)
