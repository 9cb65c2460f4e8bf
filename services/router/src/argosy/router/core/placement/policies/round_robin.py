"""Each in turn, whatever they have to do. The baseline of staggered scheduling."""

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
    """The next in order, for prefill and for decode apart."""
    decodes = with_room(candidates.decode, request)
    if not decodes:
        return None
    decode = decodes[state.decision_sequence % len(decodes)]
    prefill = (
        candidates.prefill[state.decision_sequence % len(candidates.prefill)]
        if candidates.prefill
        else decode
    )
    return Choice(prefill, decode, uncached_tokens(prefill, request), "its turn")


POLICY = RoutingPolicy(choose, staggered=False)
