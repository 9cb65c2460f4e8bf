"""Continuous batching in plain, synchronous, deterministic code: no clock, no loop.

`plan` says how long the next step takes, `finish` what it yields. The live shell sleeps
in between; virtual time jumps. Data-parallel ranks run in lockstep: a step lasts as long
as its slowest rank.
"""

from dataclasses import dataclass

from argosy.engine.api import BlocksChanged, EngineStats, RankStep, StepEnded
from argosy.engine.profile import Profile
from argosy.engine.sim.rank import RankShare, SimRank
from argosy.engine.sim.sequence import Sequence


@dataclass(slots=True)
class EngineStep:
    """A planned step, or `steps` equal ones in a row. started_us + steps·each_us is its end."""

    started_us: int
    each_us: int
    steps: int
    shares: list[RankShare | None]

    @property
    def ends_us(self) -> int:
        """When the last of the steps is over."""
        return self.started_us + self.steps * self.each_us

    def ended(self) -> StepEnded:
        """One of these steps, as listeners hear of it."""
        busy = sorted((s for s in self.shares if s is not None), key=lambda s: -s.duration_ms)
        return StepEnded(
            self.each_us, [RankStep(s.prefill_tokens, len(s.decoding), s.kv_share) for s in busy]
        )

    def cut(self, now_us: int) -> None:
        """End with the step that is under way: something has come up."""
        begun = -(-(now_us - self.started_us) // self.each_us)
        self.steps = min(self.steps, max(1, begun))


@dataclass(slots=True)
class StepProgress:
    """What a step did for one sequence. `first`, `last`: its first or last token is among them."""

    sequence: Sequence
    tokens: int
    first: bool
    last: bool


class Scheduler:
    """An engine's `dp_ranks` ranks; each has `blocks` KV blocks and `max_running` sequences."""

    def __init__(
        self, profile: Profile, blocks: int, block_tokens: int, max_running: int, dp_ranks: int = 1
    ) -> None:
        self.profile = profile
        self.block_tokens = block_tokens
        self.ranks = [SimRank(profile, blocks, block_tokens, max_running) for _ in range(dp_ranks)]
        self.step_us = 0
        self._rank_of: dict[str, SimRank] = {}

    def add(self, sequence: Sequence, dp_rank: int = 0) -> None:
        """Queue a sequence at a rank. Its blocks must fit the rank when it is alone."""
        rank = self.ranks[dp_rank]
        self._rank_of[sequence.key] = rank
        rank.waiting.append(sequence)

    def remove(self, key: str) -> None:
        """Forget a request wherever it is, and free what it holds."""
        if (rank := self._rank_of.pop(key, None)) is not None:
            rank.remove(key)

    def plan(self, now_us: int, steps_max: int = 1) -> EngineStep | None:
        """The next step, or up to `steps_max` that are all alike; None: nothing to compute."""
        shares = [rank.plan(now_us) for rank in self.ranks]
        busy = [share for share in shares if share is not None]
        if not busy:
            return None
        each_us = max(1, round(1e3 * max(share.duration_ms for share in busy)))
        steps = min(steps_max, *(share.steps for share in busy))
        if (pull_us := self.next_pull_us()) is not None:
            steps = min(steps, max(1, -(-(pull_us - now_us) // each_us)))
        return EngineStep(now_us, each_us, steps, shares)

    def next_pull_us(self) -> int | None:
        """When the next KV transfer is over; the engine is idle until then if `plan` says None."""
        return min(
            (at for rank in self.ranks if (at := rank.next_pull_us()) is not None), default=None
        )

    def finish(self, done: EngineStep) -> list[StepProgress]:
        """What a step yields, in order of ranks. Requests removed meanwhile yield nothing."""
        self.step_us = done.each_us
        found: list[StepProgress] = []
        for rank, share in zip(self.ranks, done.shares, strict=True):
            if share is not None:
                self._finish_chunks(rank, share, found)
                for sequence in share.decoding:
                    if sequence.key in rank.running:
                        rank.advance(sequence, done.steps, done.steps)
                        found.append(self._progress(rank, sequence, done.steps))
        return found

    def take_pulled(self) -> list[Sequence]:
        """Sequences whose KV transfer has ended since the last call."""
        found = []
        for rank in self.ranks:
            if rank.pulled:
                found += rank.pulled
                rank.pulled = []
        return found

    def clear(self) -> None:
        """All KV is gone."""
        for rank in self.ranks:
            rank.pool.clear()

    def stats(self) -> EngineStats:
        """What there is to do, and who holds blocks."""
        parts = tuple(rank.stats() for rank in self.ranks)
        return EngineStats(
            sum(part.running_requests for part in parts),
            sum(part.waiting_requests for part in parts),
            sum(part.queued_prefill_tokens for part in parts),
            sum(part.kv_used_blocks for part in parts),
            self.step_us,
            parts if len(parts) > 1 else (),
        )

    def take_changes(self) -> list[BlocksChanged]:
        """KV blocks that came and went since the last call, by rank."""
        found = []
        for number, rank in enumerate(self.ranks):
            if changed := rank.pool.take_changes():
                found.append(
                    BlocksChanged(changed.stored, changed.removed, changed.cleared, number)
                )
        return found

    def _finish_chunks(self, rank: SimRank, share: RankShare, found: list[StepProgress]) -> None:
        for sequence, tokens in share.chunks:
            if sequence.key not in rank.running:
                continue
            rank.advance(sequence, tokens, 0)
            if sequence.missing == 0:
                sequence.decodes = True
                sequence.produced += 1
                found.append(self._progress(rank, sequence, 1))

    def _progress(self, rank: SimRank, sequence: Sequence, tokens: int) -> StepProgress:
        last = sequence.produced >= sequence.answer_tokens
        progress = StepProgress(sequence, tokens, sequence.produced == tokens, last)
        if last:
            rank.end(sequence)
            if not sequence.hold:
                del self._rank_of[sequence.key]
        return progress
