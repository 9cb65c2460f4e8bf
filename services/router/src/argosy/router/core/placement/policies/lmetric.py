"""LMetric: least (1 + new prefill tokens) x (1 + batch size). No settings.

Source: arXiv 2603.15202, with the ones that keep zeros from tying.
"""

from argosy.router.core.fleet.candidates import Candidate, Candidates, Choice, Planned
from argosy.router.core.fleet.estimates import uncached_tokens, with_room
from argosy.router.core.placement.policies import RoutingPolicy
from argosy.router.core.state import RouterState, TrackedRequest


def choose(
    state: RouterState,
    candidates: Candidates,
    request: TrackedRequest,
    now_us: int,
    planned: Planned,
) -> Choice | None:
    """The least product; a disaggregated decode is chosen by its batch alone."""

    def product(candidate: Candidate) -> tuple[int, str]:
        new_tokens = candidate.rank.prefill_tokens + uncached_tokens(candidate, request)
        return (1 + new_tokens) * (1 + candidate.rank.requests), candidate.rank.holder

    decodes = with_room(candidates.decode, request)
    if not decodes:
        return None
    if not candidates.prefill:
        both = min(decodes, key=product)
        return Choice(both, both, uncached_tokens(both, request), "least tokens x batch")
    decode = min(decodes, key=lambda s: (s.rank.requests, s.rank.kv_blocks, s.rank.holder))
    prefill = min(candidates.prefill, key=product)
    return Choice(prefill, decode, uncached_tokens(prefill, request), "least tokens x batch")


POLICY = RoutingPolicy(choose, staggered=False)
