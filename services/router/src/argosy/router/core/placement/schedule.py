"""When a request leaves the router: staggered batches.

A request goes to the rank its policy finds cheapest. If that rank is about to become
idle (within the window), it goes now; if not it waits here, where it can still go
elsewhere, and holds the rank's next time in thought, so that those behind it see it
taken. Every event that may open a rank starts a new round, and so does a timer at the
time the ledger expects the next rank to open: a missing report can delay nothing.

The window: I = (smoothed step + transfer) / active instances, the time in which one of
evenly staggered instances becomes idle; made anew from the instances' own steps all the
time, between WINDOW_US_MIN and WINDOW_US_MAX, so that no delay can feed on itself. The
watchdog: whoever is held is looked at again within DEFERRED_US_MAX, whatever was heard.
Source: staggered batch scheduling, arXiv 2512.16134 (reconstructed; the exact form of
the interval is not public).

At low load some rank is always idle, so everything is sent at once.
"""

from collections.abc import Iterator

from argosy.router.core.fleet import kv_stores, load_ledger
from argosy.router.core.fleet.candidates import (
    Candidate,
    Candidates,
    Choice,
    Planned,
    best_hit_tokens,
    candidates_of,
    joins_step,
    opens_us,
    soonest_us,
)
from argosy.router.core.placement.admission import aged_request, in_order
from argosy.router.core.placement.policies import POLICIES
from argosy.router.core.state import RouterState, TrackedRequest

ROUND_MAX = 64
"""Requests looked at in one round: bounds its time. Those behind wait for the next."""
DEFERRED_US_MAX = 20_000
"""A request held for a rank is not looked at again for as long: bounds the work of rounds,
and how long it can miss that another rank has become better."""
MATCH_US = 20_000
"""A prefix match this old is looked up again."""
RESERVED_SHARE = 0.75
"""Share of the ranks that background work leaves idle for whoever comes next."""
BACKGROUND_KV_SHARE = 0.1
"""Share of a rank's KV in use from which background answers keep away from it."""


class SchedulingRound:
    """One look at who waits and what is open. Yields what to send, in order; the caller
    puts each in the ledger before it asks for the next.
    """

    def __init__(self, state: RouterState, now_us: int, known: dict[str, Candidates]) -> None:
        self.state = state
        self.now_us = now_us
        self.policy = POLICIES[state.limits.policy]
        self.planned: Planned = {}
        self.again_us = now_us + DEFERRED_US_MAX
        """When to look again, if nothing happens before."""
        self._aged = aged_request(state, now_us)
        self._shared = len(state.tenants) > 1
        self._left = ROUND_MAX
        self._all_busy = False
        self._known = known

    def decide(self) -> Iterator[tuple[str, Choice]]:
        """Requests that go now, and where."""
        order = in_order(self.state, self._aged, self.now_us)
        full: set[str] = set()
        while batch := self.batch(order, full):
            for request_id in batch:
                request = self.state.requests[request_id]
                if request.model in full:
                    continue
                choice = self.choose(request)
                if choice is None:
                    full.add(request.model)
                elif self.goes(request_id, request, choice):
                    yield request_id, choice
                else:
                    self.defer(request, choice)

    def batch(self, order: Iterator[str], full: set[str]) -> list[str]:
        """The next requests that together fill what is open; with several ranks to an
        instance the longest first, so that the ranks end up even (LPT).
        """
        found: list[tuple[int, str]] = []
        room = 1
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
            candidates = self.candidates(request.model)
            if self.is_background(request_id, request) and not self.enough_idle(candidates):
                # So it is for all that come after: lower bands only.
                break
            if self.still_deferred(request, candidates):
                self.plan(request)
                continue
            if not found:
                room = self.open_tokens(candidates)
                if not room:
                    full.add(request.model)
                    self.expect_opening(candidates)
                    continue
                ranks = candidates.ranks_max
            look_up_hits(self.state, request, self.now_us)
            tokens = request.prompt_tokens - best_hit_tokens(request, candidates)
            found.append((tokens, request_id))
            room -= tokens
            if room <= 0:
                break
        if ranks > 1:
            found.sort(key=lambda entry: -entry[0])
        return [request_id for _, request_id in found]

    def open_tokens(self, candidates: Candidates) -> int:
        """Prompt tokens that open ranks could take in their next step."""
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
        """Nothing is open: look again when the ledger expects that."""
        if candidates.decode:
            soonest = soonest_us(candidates.prefilling, self.now_us, self.planned)
            again_us = self.now_us + max(1_000, soonest - candidates.window_us)
            self.again_us = min(self.again_us, again_us)

    def choose(self, request: TrackedRequest) -> Choice | None:
        """The policy's choice, by what is cached now."""
        candidates = self.candidates(request.model)
        if not candidates.decode:
            return None
        choice = self.policy.choose(self.state, candidates, request, self.now_us, self.planned)
        if candidates.all_listed or self._all_busy or not (choice is None or candidates.used_up):
            return choice
        # The list was used up since it was made: others may have room, or nothing to do.
        candidates.refresh(self.now_us, anew=True)
        self._all_busy = candidates.used_up
        choice = self.policy.choose(self.state, candidates, request, self.now_us, self.planned)
        self._all_busy |= choice is None
        return choice

    def goes(self, request_id: str, request: TrackedRequest, choice: Choice) -> bool:
        """Whether the request leaves now."""
        if not self.policy.staggered:
            return True
        candidates = self.candidates(request.model)
        if self.opens_us(choice.prefill, request) > candidates.window_us:
            return False
        return not self.is_background(request_id, request) or self.leaves_room(candidates, choice)

    def opens_us(self, candidate: Candidate, request: TrackedRequest) -> int:
        """How long until the rank starts a step that the request may be in."""
        joins = joins_step(candidate, request, self.now_us)
        return opens_us(candidate, self.now_us, self.planned, joins=joins, shared=self._shared)

    def is_background(self, request_id: str, request: TrackedRequest) -> bool:
        """Whether the request has to leave room for others."""
        return request.priority < 0 and request_id != self._aged

    def enough_idle(self, candidates: Candidates) -> bool:
        """Whether so many ranks are idle that whoever comes next will find one."""
        able = candidates.prefill or candidates.decode
        idle = 0
        for candidate in able:
            load_ledger.advance(candidate.instance, self.now_us)
            idle += not candidate.instance.busy and not self.planned.get(candidate.rank.holder)
        return idle > RESERVED_SHARE * len(able)

    def leaves_room(self, candidates: Candidates, choice: Choice) -> bool:
        """Whether background work may go there: to an idle rank, while enough others are, and
        enough of the KV is free.
        """
        prefill, decode = choice.prefill, choice.decode
        if candidates.prefill and choice.local and decode.rank.requests:
            return False  # Prefill beside other people's answers is what they are apart for.
        used = decode.rank.kv_blocks / decode.instance.kv_total_blocks
        return (
            not prefill.instance.busy
            and self.enough_idle(candidates)
            and used < BACKGROUND_KV_SHARE
        )

    def defer(self, request: TrackedRequest, choice: Choice) -> None:
        """The request waits for this rank, and is looked at again when that may have opened."""
        candidate = choice.prefill
        soon_us = self.opens_us(candidate, request) - self.candidates(request.model).window_us
        request.deferred_to = candidate.rank.holder
        request.deferred_tokens = choice.uncached_tokens
        request.deferred_until_us = self.now_us + max(1_000, min(DEFERRED_US_MAX, soon_us))
        self.plan(request)

    def still_deferred(self, request: TrackedRequest, candidates: Candidates) -> bool:
        """Whether it was looked at a moment ago, and the rank it waits for has not opened."""
        if self.now_us >= request.deferred_until_us:
            return False
        candidate = candidates.by_holder.get(request.deferred_to)
        if candidate is None:
            return False
        return self.opens_us(candidate, request) > candidates.window_us

    def plan(self, request: TrackedRequest) -> None:
        """To those behind it, the rank it is held for is taken for as long as it needs it."""
        self.again_us = min(self.again_us, request.deferred_until_us)
        promised = self.planned.get(request.deferred_to, 0)
        self.planned[request.deferred_to] = promised + request.deferred_tokens

    def candidates(self, model: str) -> Candidates:
        """Live ranks of a model; remembered by the caller until an instance comes or goes."""
        if model not in self._known:
            self._known[model] = candidates_of(self.state, model)
        candidates = self._known[model]
        candidates.refresh(self.now_us)
        return candidates


def look_up_hits(state: RouterState, request: TrackedRequest, now_us: int) -> None:
    """Which ranks cache how much of the prompt, unless that was just looked up."""
    if request.blocks and (not request.matched_us or now_us - request.matched_us > MATCH_US):
        request.hits = state.index.match(request.blocks)
        if state.stores:
            kv_stores.look_up(state, request)
        request.matched_us = now_us
