"""Puts requests where they go: into the queue, from it to instances, and out of the ledger."""

from argosy.domain.core import CancelTimer, Effect, SetTimer
from argosy.router.core import effects
from argosy.router.core.fleet import load_ledger, members, traffic, wake_demand
from argosy.router.core.fleet.candidates import Candidates, Choice, candidates_of
from argosy.router.core.fleet.estimates import best_hit_tokens, blocks_of, first_token_us
from argosy.router.core.placement import admission
from argosy.router.core.placement.policies import RoutingPolicy
from argosy.router.core.placement.schedule import SchedulingRound
from argosy.router.core.state import RouterState, TrackedRequest

WINDOW = "window"
WAIT = "wait:"
SPECULATIVE_US = 5_000_000
"""How long a dispatched prompt's blocks are believed to be on their way into a cache."""
STRETCH = 3
"""A waiting prompt yields to a shorter one that came later by up to this many times the
difference of their prefill times: short ones wait less, and long ones never for ever."""


class Placing:
    """See the module. All is in `state`, but for the candidates, which follow from it."""

    def __init__(self, state: RouterState, policy: RoutingPolicy) -> None:
        self.state = state
        self._policy = policy
        self._candidates: dict[str, Candidates] = {}

    def candidates_of(self, model: str) -> Candidates:
        """Live ranks of a model."""
        if model not in self._candidates:
            self._candidates[model] = candidates_of(self.state, model)
        return self._candidates[model]

    def instances_changed(self) -> None:
        """An instance came or went: look at them anew."""
        self._candidates = {}
        self.state.candidate_caches = {}

    def queue(self, request_id: str, now_us: int) -> list[Effect]:
        """Let it wait for its turn, which may be at once."""
        state, request = self.state, self.state.requests[request_id]
        candidates = self.candidates_of(request.model)
        request.due_us = request.arrived_us
        if candidates.decode:
            instance = candidates.decode[0].instance
            tokens = request.prompt_tokens - best_hit_tokens(request, candidates)
            own_ms = instance.timing.prompt_ms(max(1, tokens), instance.tokens_per_step)
            request.due_us += round(STRETCH * 1e3 * own_ms)
        admission.enqueue(state, request_id)
        placed = self.place_waiting(now_us)
        if not request.queued:
            return placed
        timer = SetTimer(
            key=WAIT + request_id, at_us=min(request.deadline_us, now_us + state.limits.wait_us)
        )
        asked = [] if candidates.decode else wake_demand.tell(state, request.model, now_us)
        return [timer, *asked, *placed]

    def place_waiting(self, now_us: int) -> list[Effect]:
        """Send what goes now; look again when the next rank is expected to open."""
        state = self.state
        if not state.queued_requests:
            return []
        found: list[Effect] = []
        look = SchedulingRound(state, self._policy, now_us, self._candidates)
        for request_id, choice in look.decide():
            found += self._dispatch(request_id, choice, now_us)
        if state.queued_requests:
            found.append(SetTimer(key=WINDOW, at_us=look.again_us))
        return found

    def _dispatch(self, request_id: str, choice: Choice, now_us: int) -> list[Effect]:
        state, request = self.state, self.state.requests[request_id]
        admission.dequeue(state, request_id)
        state.decision_sequence += 1
        tokens = choice.uncached_tokens
        admission.charge(state, request.tenant, tokens, now_us)
        share = 1 - tokens / request.prompt_tokens
        state.cached_share += admission.SMOOTHING * (share - state.cached_share)
        request.uncached_tokens = tokens
        traffic.dispatched(state, request, tokens)
        request.prefill, request.prefill_rank = (
            choice.prefill.instance.name,
            choice.prefill.rank.number,
        )
        request.decode, request.decode_rank = choice.decode.instance.name, choice.decode.rank.number
        self._enter(request_id, request, choice, now_us)
        told: list[Effect] = []
        if state.peer_routers:
            told.append(
                effects.TellPeerRouters(
                    request_id=request_id,
                    ended=False,
                    prefill=request.prefill,
                    prefill_rank=request.prefill_rank,
                    decode=request.decode,
                    decode_rank=request.decode_rank,
                    prompt_tokens=request.prompt_tokens,
                    uncached_tokens=tokens,
                    tenant=request.tenant,
                    blocks=request.blocks,
                )
            )
        dispatch = effects.Dispatch(
            request_id=request_id,
            attempt=request.attempt,
            prefill=request.prefill,
            prefill_address=choice.prefill.instance.address,
            decode=request.decode,
            decode_address=choice.decode.instance.address,
            why=choice.why,
            prefill_rank=request.prefill_rank,
            decode_rank=request.decode_rank,
            uncached_tokens=tokens,
        )
        if request.direct:
            del state.requests[request_id]
        return [CancelTimer(key=WAIT + request_id), dispatch, *told]

    def _enter(self, request_id: str, request: TrackedRequest, choice: Choice, now_us: int) -> None:
        """Put a dispatch in the ledger and in the index."""
        prefill, decode = choice.prefill, choice.decode
        blocks = blocks_of(prefill.instance, request.prompt_tokens)
        done_us = now_us + first_token_us(prefill, choice.uncached_tokens, now_us, {})
        load_ledger.send(
            prefill.instance, prefill.rank, request_id, choice.uncached_tokens, blocks, now_us
        )
        if not choice.local:
            load_ledger.expect(
                decode.rank,
                request_id,
                blocks_of(decode.instance, request.prompt_tokens),
                done_us,
                told=not request.direct,
            )
            self.state.index.add_speculative(
                decode.rank.holder, request.blocks, now_us + SPECULATIVE_US
            )
        self.state.index.add_speculative(
            prefill.rank.holder, request.blocks, now_us + SPECULATIVE_US
        )

    def undispatch(self, request_id: str, request: TrackedRequest) -> None:
        """Take what was dispatched out of the ledger."""
        for name, number in (
            (request.prefill, request.prefill_rank),
            (request.decode, request.decode_rank),
        ):
            if rank := members.rank_of(self.state, name, number):
                load_ledger.unsend(rank, request_id)

    def tell_end(self, request_id: str) -> list[Effect]:
        """Let peer_routers take it out of theirs."""
        return (
            [effects.TellPeerRouters(request_id=request_id, ended=True)]
            if self.state.peer_routers
            else []
        )
