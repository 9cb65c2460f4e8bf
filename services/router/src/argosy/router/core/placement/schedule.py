"""Decides when waiting requests leave the router: staggered batches.

A request is for the rank that the policy finds cheapest. If that rank starts a step with
tokens to spare within the window, the request leaves now. If not, it is deferred: it waits at
the router, where it can still go elsewhere, and its prompt counts as work of that rank for the
requests behind it. Every event that may open a rank starts a round, and so does a timer at the
time the ledger expects the next rank to open: a missing report can delay nothing.

The window: I = (smoothed step + transfer) / active instances, the time in which one of evenly
staggered instances becomes idle. It follows the instances' own steps, between WINDOW_US_MIN
and WINDOW_US_MAX, so that no delay can feed on itself. A deferred request is decided again
within DEFERRED_US_MAX even if no event comes.
Source: staggered batch scheduling, arXiv 2512.16134 (reconstructed; the exact form of
the interval is not public).

At low load some rank is always idle, so every request leaves at once.
"""

from collections.abc import Iterator
from typing import NamedTuple

from argosy.router.core.fleet import kv_stores, load_ledger
from argosy.router.core.fleet.candidates import (
    Candidate,
    Candidates,
    Choice,
    Planned,
    candidates_of,
)
from argosy.router.core.fleet.estimates import (
    best_hit_tokens,
    fits_step,
    joins_step,
    opens_us,
    soonest_us,
)
from argosy.router.core.placement.admission import aged_request, in_order
from argosy.router.core.placement.policies import RoutingPolicy
from argosy.router.core.state import RouterState, TrackedRequest

ROUND_MAX = 64
"""Most requests that one round considers: about half a millisecond of work. Those behind them
wait for the next round."""
DEFERRED_US_MAX = 20_000
"""A deferred request is not decided again for up to this long: bounds the work of rounds, and
how long it can miss that another rank has become better. Short beside a prefill step."""
MATCH_US = 20_000
"""A prefix match this old is looked up again: as often as a deferred request is decided."""
NO_ROOM_US = 2_000
"""A request whose rank opens without room for it is decided again after this. On the conversation
trace, reuse is .3281 with 2 ms and .3255 with 20 ms, where it misses that others became better."""
RESERVED_SHARE = 0.75
"""Share of the ranks that background requests leave idle: other requests come in bursts, and an
engine does not interrupt a prompt for them. Held by tools/sim/tests/test_sim_fairness.py."""
BACKGROUND_KV_SHARE = 0.1
"""Background requests are decoded only at ranks that use less of their KV than this: beside
more answers, each one would slow the steps of all."""


class BatchEntry(NamedTuple):
    """A waiting request that a round has reached. tokens: of its prompt, not cached anywhere."""

    request_id: str
    tokens: int
    deferred: bool
    """It was deferred a moment ago, and its rank has not opened: it is not decided again."""


class SchedulingRound:
    """One pass over the waiting requests, given what is open now.

    known: candidates by model; the round adds those that are missing.
    """

    def __init__(
        self, state: RouterState, policy: RoutingPolicy, now_us: int, known: dict[str, Candidates]
    ) -> None:
        self.state = state
        self.now_us = now_us
        self.policy = policy
        self.planned: Planned = {}
        self.again_us = now_us + DEFERRED_US_MAX
        """When to start the next round, if nothing happens before."""
        self._aged = aged_request(state, now_us)
        self._shared = len(state.tenants) > 1
        self._left = ROUND_MAX
        self._all_busy = False
        self._known = known
        self._advanced: dict[str, Candidates] = {}
        """Those whose ledgers this round has advanced: all of it happens at one time."""
        self._closed: set[str] = set()
        """Ranks that do not open within the window. In a round they only get more work, so they
        stay closed; most of a long queue waits for these, and need not be looked at one by one."""

    def decide(self) -> Iterator[tuple[str, Choice]]:
        """Yield the requests that leave now, in order, each with its ranks.

        The caller must dequeue each one and enter it in the load ledger before it asks for the
        next: later decisions rest on the ledger.
        """
        order = in_order(self.state, self._aged, self.now_us)
        full: set[str] = set()
        while batch := self.next_batch(order, full):
            for entry in batch:
                request = self.state.requests[entry.request_id]
                if entry.deferred:
                    # Only now, in its own turn: those ahead of it do not yield to it.
                    self.plan(request)
                elif request.model in full:
                    continue
                elif (choice := self.choose(request)) is None:
                    full.add(request.model)
                elif self.leaves_now(entry.request_id, request, choice):
                    yield entry.request_id, choice
                else:
                    self.defer(request, choice)

    def next_batch(self, order: Iterator[str], full: set[str]) -> list[BatchEntry]:
        """The next requests, as many as together fill the open ranks; empty at the end.

        Where instances have several ranks the longest prompts come first, so that the ranks end
        up even (LPT). Models that have no open rank are added to `full`.
        """
        batch: list[BatchEntry] = []
        room_tokens: int | None = None
        ranks = 1
        for request_id in order:
            request = self.state.requests[request_id]
            if request.model in full:
                if len(full) == len(self.state.models):
                    break
                continue
            self._left -= 1
            if self._left < 0:
                break
            candidates = self.advanced_candidates(request.model)
            if self.is_background(request_id, request) and not self.enough_idle(candidates):
                # The same holds for all that come after: they are in this band or a lower one.
                break
            if self.still_deferred(request, candidates):
                batch.append(BatchEntry(request_id, 0, deferred=True))
                continue
            if room_tokens is None:
                room_tokens = self.open_tokens(candidates) or None
                if room_tokens is None:
                    full.add(request.model)
                    self.expect_opening(candidates)
                    continue
                ranks = candidates.ranks_max
            look_up_hits(self.state, request, self.now_us)
            tokens = request.prompt_tokens - best_hit_tokens(request, candidates)
            batch.append(BatchEntry(request_id, tokens, deferred=False))
            room_tokens -= tokens
            if room_tokens <= 0:
                break
        if ranks > 1:
            batch.sort(key=lambda entry: -entry.tokens)
        return batch

    def open_tokens(self, candidates: Candidates) -> int:
        """Prompt tokens that open ranks can take in their next step."""
        if not candidates.decode:
            return 0
        if not self.policy.staggered:
            return 1 << 60
        window_us = candidates.window_us
        waiting = sum(self.state.queued_by_band.values())
        found = 0
        for candidate in candidates.prefilling:
            if opens_us(candidate, self.now_us, self.planned, shared=self._shared) <= window_us:
                found += candidate.instance.tokens_per_step
                if found >= waiting:
                    break
        return found

    def expect_opening(self, candidates: Candidates) -> None:
        """No rank is open: plan the next round for when the ledger expects one to be."""
        if candidates.decode:
            soonest = soonest_us(candidates.prefilling, self.now_us, self.planned)
            again_us = self.now_us + max(1_000, soonest - candidates.window_us)
            self.again_us = min(self.again_us, again_us)

    def choose(self, request: TrackedRequest) -> Choice | None:
        """The policy's choice; None when no rank has room for the request."""
        candidates = self.advanced_candidates(request.model)
        choice = self.chosen(candidates, request)
        if candidates.all_listed or self._all_busy or not (choice is None or candidates.used_up):
            return choice
        # All ranks of the shortlist have got work since it was made: others may have none.
        candidates.advance_and_list(self.now_us, anew=True)
        self._closed.clear()  # The window may have become longer.
        self._all_busy = candidates.used_up
        choice = self.chosen(candidates, request)
        self._all_busy |= choice is None
        return choice

    def chosen(self, candidates: Candidates, request: TrackedRequest) -> Choice | None:
        """The policy's choice among these, but for instances that have just refused a request."""
        if self.state.refusing:
            candidates = candidates.without(self.state.refusing)
        if not candidates.decode:
            return None
        return self.policy.choose(self.state, candidates, request, self.now_us, self.planned)

    def leaves_now(self, request_id: str, request: TrackedRequest, choice: Choice) -> bool:
        """Whether the request leaves now: its rank opens within the window, for all of it."""
        if not self.policy.staggered:
            return True
        candidates = self.advanced_candidates(request.model)
        if not self.may_start(choice.prefill, request, choice.uncached_tokens, candidates):
            return False
        return not self.is_background(request_id, request) or self.leaves_room(candidates, choice)

    def may_start(
        self, candidate: Candidate, request: TrackedRequest, tokens: int, candidates: Candidates
    ) -> bool:
        """Whether the rank starts a step within the window that has room for all the tokens."""
        if self.opens_us(candidate, request) > candidates.window_us:
            return False
        joins = joins_step(candidate, request, self.now_us)
        return fits_step(candidate, tokens, self.planned, joins=joins)

    def opens_us(self, candidate: Candidate, request: TrackedRequest) -> int:
        """How long until the rank starts a step that the request may be in."""
        joins = joins_step(candidate, request, self.now_us)
        return opens_us(candidate, self.now_us, self.planned, joins=joins, shared=self._shared)

    def is_background(self, request_id: str, request: TrackedRequest) -> bool:
        """Whether the request leaves room for others: a band below 0, and not aged."""
        return request.priority < 0 and request_id != self._aged

    def enough_idle(self, candidates: Candidates) -> bool:
        """Whether enough ranks are idle for the requests that may come next."""
        able = candidates.prefill or candidates.decode
        idle = 0
        for candidate in able:
            load_ledger.advance(candidate.instance, self.now_us)
            idle += not candidate.instance.busy and not self.planned.get(candidate.rank.holder)
        return idle > RESERVED_SHARE * len(able)

    def leaves_room(self, candidates: Candidates, choice: Choice) -> bool:
        """Whether background work may go there: the rank is idle, enough others are idle too,
        and enough of its KV is free.
        """
        prefill, decode = choice.prefill, choice.decode
        if candidates.prefill and choice.local and decode.rank.requests:
            return False  # Instances are apart so that prefills do not slow running answers.
        used = decode.rank.kv_blocks / decode.instance.kv_total_blocks
        return (
            not prefill.instance.busy
            and self.enough_idle(candidates)
            and used < BACKGROUND_KV_SHARE
        )

    def defer(self, request: TrackedRequest, choice: Choice) -> None:
        """Let the request wait for this rank; it is decided again when the rank may be open."""
        candidate = choice.prefill
        soon_us = (
            self.opens_us(candidate, request) - self.advanced_candidates(request.model).window_us
        )
        if soon_us <= 0:
            # It opens, but has no room: `still_deferred` sees at once when that changes, so the
            # costly choice among all ranks need not be made again before.
            soon_us = NO_ROOM_US
        request.deferred_to = candidate.rank.holder
        request.deferred_tokens = choice.uncached_tokens
        request.deferred_until_us = self.now_us + max(1_000, min(DEFERRED_US_MAX, soon_us))
        self.plan(request)

    def still_deferred(self, request: TrackedRequest, candidates: Candidates) -> bool:
        """Whether it was deferred a moment ago, and the rank it waits for has not opened."""
        if self.now_us >= request.deferred_until_us:
            return False
        holder = request.deferred_to
        if holder in self._closed:
            return True
        candidate = candidates.by_holder.get(holder)
        if candidate is None:
            return False
        soonest = opens_us(candidate, self.now_us, self.planned, shared=self._shared)
        if soonest > candidates.window_us:
            self._closed.add(holder)
            return True
        return not self.may_start(candidate, request, request.deferred_tokens, candidates)

    def plan(self, request: TrackedRequest) -> None:
        """Count its prompt as work of the rank it waits for, for the requests behind it."""
        self.again_us = min(self.again_us, request.deferred_until_us)
        promised = self.planned.get(request.deferred_to, 0)
        self.planned[request.deferred_to] = promised + request.deferred_tokens

    def advanced_candidates(self, model: str) -> Candidates:
        """Live ranks of a model. May advance their load ledgers to now, to list the least loaded.

        The caller keeps them from round to round until an instance comes or goes.
        """
        if (advanced := self._advanced.get(model)) is not None:
            return advanced
        if model not in self._known:
            self._known[model] = candidates_of(self.state, model)
        candidates = self._advanced[model] = self._known[model]
        candidates.advance_and_list(self.now_us)
        return candidates


def look_up_hits(state: RouterState, request: TrackedRequest, now_us: int) -> None:
    """Note which ranks cache how much of the prompt, unless that was noted a moment ago."""
    if request.blocks and (not request.matched_us or now_us - request.matched_us > MATCH_US):
        request.hits = state.index.match(request.blocks)
        if state.stores:
            kv_stores.look_up(state, request)
        request.matched_us = now_us
