"""Prefill where fewest prompt tokens wait, decode where fewest requests run."""

from argosy.router.core.fleet.candidates import Candidates, Choice, Planned
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
    """Least loaded; ties go to the emptier KV cache, then by turns."""
    decodes = with_room(candidates.decode, request)
    if not decodes:
        return None
    turn = state.decision_sequence % len(decodes)
    if not candidates.prefill:
        both = min(
            decodes[turn:] + decodes[:turn],
            key=lambda s: (s.rank.prefill_tokens, s.rank.requests, s.rank.kv_blocks),
        )
        return Choice(both, both, uncached_tokens(both, request), "least loaded")
    decode = min(decodes[turn:] + decodes[:turn], key=lambda s: (s.rank.requests, s.rank.kv_blocks))
    turn = state.decision_sequence % len(candidates.prefill)
    prefill = min(
        candidates.prefill[turn:] + candidates.prefill[:turn],
        key=lambda s: (s.rank.prefill_tokens, s.instance.node != decode.instance.node),
    )
    return Choice(prefill, decode, uncached_tokens(prefill, request), "least loaded")


POLICY = RoutingPolicy(choose, staggered=False)
