"""Candidates: the ranks of live instances that a request can go to."""

from collections.abc import Container
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from typing import NamedTuple

from argosy.router.core.fleet import load_ledger
from argosy.router.core.state import (
    CandidateCache,
    KnownInstance,
    RankLedger,
    RouterState,
    TrackedRequest,
)

WINDOW_US_MAX = 200_000
"""Far longer than a healthy step: a wrong report of one must not send everything at once."""
WINDOW_US_MIN = 2_000
"""A submission takes this long to arrive; sent later, it would find the rank idle."""
LISTED_MAX = 16
"""Ranks on a shortlist: bounds the time of a decision in a large fleet."""
LISTED_US = 20_000
"""A shortlist is made again after this long: shorter than most steps, in which loads change."""


class Candidate(NamedTuple):
    """One rank, and the instance it is of."""

    instance: KnownInstance
    rank: RankLedger


@dataclass
class Candidates:
    """The live ranks of a model, in order of names. prefill: instances of that role only;
    decode: those that can decode, which can also prefill; prefilling: both.
    """

    prefill: list[Candidate] = field(default_factory=list)
    decode: list[Candidate] = field(default_factory=list)
    prefilling: list[Candidate] = field(default_factory=list)
    by_holder: dict[str, Candidate] = field(default_factory=dict)
    listed_us: int = -LISTED_US
    listed: tuple[list[Candidate], list[Candidate]] = ([], [])
    written: float = 0
    """Recent tokens of new KV (load_ledger.written), the mean over ranks, when last listed."""
    window_us: int = WINDOW_US_MIN
    """How soon a rank must become idle to be sent a batch now, when last listed."""
    ranks_max: int = 1
    """Data-parallel ranks of an instance, the most."""
    model: str = ""
    candidate_caches: dict[str, CandidateCache] = field(default_factory=dict)
    """Of the state: what was last listed."""

    def advance_and_list(self, now_us: int, *, anew: bool = False) -> None:
        """Advance the ledgers of large fleets to now and make the shortlist of all ranks anew.

        Does nothing if that was done less than LISTED_US ago, unless `anew`.
        """
        if (now_us - self.listed_us < LISTED_US and not anew) or not self.prefilling:
            return
        self.listed_us = now_us
        self.listed = (least_loaded(self.prefill, now_us), least_loaded(self.decode, now_us))
        written = sum(load_ledger.written(candidate.rank, now_us) for candidate in self.prefilling)
        self.written = written / len(self.prefilling)
        able = self.prefill or self.decode
        steps = [candidate.instance.step_us for candidate in able if candidate.instance.step_us]
        if steps:
            transfer_us = able[0].instance.timing.transfer_ms * 1e3
            instances = len(able) / len(able[0].instance.ranks)
            window = (sum(steps) / len(steps) + transfer_us) / instances
            self.window_us = round(min(WINDOW_US_MAX, max(WINDOW_US_MIN, window)))
        prefill, decode = (
            [candidate.rank.holder for candidate in listed] for listed in self.listed
        )
        self.candidate_caches[self.model] = CandidateCache(
            now_us, prefill, decode, self.written, self.window_us
        )

    def restore(self) -> None:
        """Take the last shortlist from the state: a router that restarts decides the same."""
        cache = self.candidate_caches.get(self.model)
        if cache is not None:
            self.listed_us, self.written, self.window_us = (
                cache.at_us,
                cache.written,
                cache.window_us,
            )
            by_holder = self.by_holder
            self.listed = (
                [by_holder[h] for h in cache.prefill],
                [by_holder[h] for h in cache.decode],
            )

    def without(self, names: Container[str]) -> "Candidates":
        """Those of other instances; the shortlists are the same but for these.

        A view for one decision: shortlists are made anew of all of them, and not of this.
        """
        prefill, decode = self.listed
        prefilling = others(self.prefilling, names)
        return replace(
            self,
            prefill=others(self.prefill, names),
            decode=others(self.decode, names),
            prefilling=prefilling,
            by_holder={candidate.rank.holder: candidate for candidate in prefilling},
            listed=(others(prefill, names), others(decode, names)),
        )

    @property
    def used_up(self) -> bool:
        """Whether all ranks on a shortlist have work by now, and other ranks are not on it."""
        return any(
            len(listed) < len(known) and all(candidate.instance.busy for candidate in listed)
            for listed, known in zip(self.listed, (self.prefill, self.decode), strict=True)
        )

    @property
    def all_listed(self) -> bool:
        """Whether the shortlists hold all ranks."""
        prefill, decode = self.listed
        return len(prefill) == len(self.prefill) and len(decode) == len(self.decode)

    def shortlist(
        self, request: TrackedRequest, now_us: int
    ) -> tuple[list[Candidate], list[Candidate]]:
        """The prefill and decode ranks that a policy should weigh.

        All ranks of a small fleet; of a large one the least loaded ones, as of LISTED_US ago at
        most, and those that cache a part of the prompt.
        """
        prefill, decode = self.listed
        if self.all_listed:
            return prefill, decode
        hits = sorted(sorted(request.hits), key=request.hits.__getitem__, reverse=True)[:LISTED_MAX]
        cached = [candidate for name in hits if (candidate := self.by_holder.get(name)) is not None]
        near = {id(candidate.rank) for candidate in (*prefill, *decode)}
        cached = [candidate for candidate in cached if id(candidate.rank) not in near]
        return (
            prefill + [candidate for candidate in cached if candidate.instance.role == "prefill"],
            decode + [candidate for candidate in cached if candidate.instance.role != "prefill"],
        )


class Choice(NamedTuple):
    """Where a policy places a request, and why."""

    prefill: Candidate
    decode: Candidate
    uncached_tokens: int
    why: str

    @property
    def local(self) -> bool:
        """Whether decode prefills it itself."""
        return self.prefill.rank is self.decode.rank


def others(candidates: list[Candidate], names: Container[str]) -> list[Candidate]:
    """Those whose instance has none of these names."""
    return [candidate for candidate in candidates if candidate.instance.name not in names]


Planned = dict[str, int]
"""By holder: prompt tokens of requests ahead that are deferred and wait for this rank."""


def candidates_of(state: RouterState, model: str) -> Candidates:
    """Live ranks of a model."""
    candidates = Candidates(model=model, candidate_caches=state.candidate_caches)
    for _, instance in sorted(state.instances.items()):
        if instance.live and instance.model == model:
            into = candidates.prefill if instance.role == "prefill" else candidates.decode
            into += [Candidate(instance, rank) for rank in instance.ranks]
    candidates.prefilling = candidates.prefill + candidates.decode
    candidates.ranks_max = max((len(s.instance.ranks) for s in candidates.prefilling), default=1)
    candidates.by_holder = {candidate.rank.holder: candidate for candidate in candidates.prefilling}
    candidates.restore()
    return candidates


def least_loaded(candidates: list[Candidate], now_us: int) -> list[Candidate]:
    """The LISTED_MAX ranks with least to prefill, then with least KV in use; full ones last.

    All, in order of names, where there are not more. Otherwise advances their ledgers to now.
    """
    if len(candidates) <= LISTED_MAX:
        return candidates
    for candidate in candidates:
        load_ledger.advance(candidate.instance, now_us)
    return nsmallest(
        LISTED_MAX,
        candidates,
        key=lambda c: (is_full(c), c.rank.prefill_tokens, c.rank.kv_blocks, c.rank.holder),
    )


def is_full(candidate: Candidate) -> bool:
    """Whether the rank can take nothing at all, as far as we know."""
    instance, rank = candidate
    full = rank.requests >= instance.rank_requests_max
    return full or rank.kv_blocks >= instance.kv_total_blocks
