"""Carries out placements: queues requests, dispatches them, and keeps the ledger and index."""

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
"""For this long the blocks of a dispatched prompt count as cached where it was sent: longer
than nearly all prefills take; then the instance's own KvChanged must have come."""
STRETCH = 3
"""A waiting prompt yields to a shorter one that came later by up to this many times the
difference of their prefill times: short ones wait less, and long ones never for ever."""


class Placing:
    """See the module. All state is in `state`; the candidates are derived from it."""

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
        """Drop what is derived from the instances: one came, went or changed."""
        self._candidates = {}
        self.state.candidate_caches = {}

    def queue(self, request_id: str, now_us: int) -> list[Effect]:
        """Queue a request. It may leave in this very step."""
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
        demand = [] if candidates.decode else wake_demand.demand(state, request.model, now_us)
        return [timer, *demand, *placed]

    def place_waiting(self, now_us: int) -> list[Effect]:
        """Run a round: dispatch what leaves now, and set a timer for the next round."""
        state = self.state
        if not state.queued_requests:
            return []
        decided: list[Effect] = []
        scheduling_round = SchedulingRound(state, self._policy, now_us, self._candidates)
        for request_id, choice in scheduling_round.decide():
            decided += self._dispatch(request_id, choice, now_us)
        if state.queued_requests:
            decided.append(SetTimer(key=WINDOW, at_us=scheduling_round.again_us))
        return decided

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
        published: list[Effect] = []
        if state.peer_routers:
            published.append(
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
        return [CancelTimer(key=WAIT + request_id), dispatch, *published]

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
                first_token_seen=not request.direct,
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

    def publish_end(self, request_id: str) -> list[Effect]:
        """The effect that lets the other routers take the request out of their ledgers."""
        return (
            [effects.TellPeerRouters(request_id=request_id, ended=True)]
            if self.state.peer_routers
            else []
        )
