"""One data-parallel rank: who runs on it, and what its share of the next step is.

Order: what runs goes on (one token each for those that decode, chunks for those that
prefill), then prompts are admitted first come first served while the step has tokens
left and whole prompts have room. When an answer needs a block and none is left, the
newest sequence gives up its own and is computed again later (as vLLM does).
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from argosy.engine.api import EngineStats
from argosy.engine.profile import Profile
from argosy.engine.sim.blocks import BlockPool
from argosy.engine.sim.sequence import Sequence


@dataclass(slots=True)
class RankShare:
    """What one rank does in a step; `steps` may be repeated without a change."""

    duration_ms: float = 0.0
    chunks: list[tuple[Sequence, int]] = field(default_factory=list)
    decoding: list[Sequence] = field(default_factory=list)
    steps: int = 1
    kv_share: float = 0.0

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens of the step."""
        return sum(tokens for _, tokens in self.chunks)


class SimRank:
    """See the module."""

    def __init__(self, profile: Profile, blocks: int, block_tokens: int, max_running: int) -> None:
        self.profile = profile
        self.block_tokens = block_tokens
        # Each takes a token of every step once it decodes: more would exceed the step.
        self.max_running = min(max_running, profile.tokens_per_step)
        self.pool = BlockPool(blocks)
        self.waiting: deque[Sequence] = deque()
        self.running: dict[str, Sequence] = {}
        self.pulling: dict[str, Sequence] = {}
        self.held: dict[str, Sequence] = {}
        self.pulled: list[Sequence] = []
        """Whose KV has come since the list was last emptied."""
        self._link_free_us = 0

    def stats(self) -> EngineStats:
        """What there is to do, and who holds blocks."""
        queued = sum(s.missing for s in self.running.values())
        queued += sum(s.tokens for s in self.waiting if not s.pull)
        running = len(self.running) + len(self.pulling)
        return EngineStats(running, len(self.waiting), queued, self.pool.used)

    def remove(self, key: str) -> Sequence | None:
        """Forget a request wherever it is, and free what it holds."""
        for place in (self.running, self.pulling, self.held):
            if (sequence := place.pop(key, None)) is not None:
                self._free(sequence)
                return sequence
        found = next((s for s in self.waiting if s.key == key), None)
        if found is not None:
            self.waiting.remove(found)
        return found

    def plan(self, now_us: int) -> RankShare | None:
        """The rank's share of the next step; None when it has nothing to compute."""
        self._finish_pulls(now_us)
        share = RankShare()
        budget = self._decode_share(share)
        for sequence in self.running.values():
            if budget > 0 and (missing := sequence.missing):
                take = min(budget, missing)
                budget -= take
                share.chunks.append((sequence, take))
        for sequence in self._admitted(now_us, budget):
            take = min(budget, sequence.missing)
            budget -= take
            share.chunks.append((sequence, take))
        if not share.chunks and not share.decoding:
            return None
        share.kv_share = self.pool.used / self.pool.total
        share.duration_ms = self.profile.prefill_step_ms(share.prefill_tokens)
        if share.decoding:
            share.duration_ms += self.profile.decode_step_ms(share.kv_share, len(share.decoding))
        if share.chunks:
            share.steps = 1
        return share

    def next_pull_us(self) -> int | None:
        """When the next pull is over, if one is under way."""
        return min((s.ready_us for s in self.pulling.values()), default=None)

    def advance(self, sequence: Sequence, computed: int, produced: int) -> None:
        """A step computed this many tokens' KV and produced this many tokens."""
        sequence.computed += computed
        sequence.produced += produced
        full = min(len(sequence.hashes), sequence.computed // self.block_tokens)
        if full > sequence.known:
            self.pool.register(sequence.hashes[sequence.known : full])
            sequence.private -= full - sequence.known
            sequence.known = full

    def end(self, sequence: Sequence) -> None:
        """The sequence has all its tokens: free it, or hold its KV."""
        del self.running[sequence.key]
        if sequence.hold:
            self.held[sequence.key] = sequence
        else:
            self._free(sequence)

    def _decode_share(self, share: RankShare) -> int:
        """Let every answer in; returns what is left of the step's tokens."""
        share.steps = 1 << 30
        for sequence in list(self.running.values()):
            if not sequence.decodes or sequence.key not in self.running:
                continue
            blocks = sequence.known + sequence.private
            if blocks * self.block_tokens < sequence.tokens:
                if not self._grow(sequence):
                    continue
                blocks += 1
            left = blocks * self.block_tokens - sequence.tokens + 1
            left = min(left, sequence.answer_tokens - sequence.produced)
            # A first token (of pulled KV) is told when it is there, not with those after it.
            share.steps = min(share.steps, left if sequence.produced else 1)
            share.decoding.append(sequence)
        # A later one may have been preempted to let an earlier one grow.
        share.decoding = [s for s in share.decoding if s.key in self.running]
        return self.profile.tokens_per_step - len(share.decoding)

    def _grow(self, sequence: Sequence) -> bool:
        while not self.pool.grow():
            newest = next(reversed(self.running.values()))
            self._preempt(newest)
            if newest is sequence:
                return False
        sequence.private += 1
        return True

    def _preempt(self, sequence: Sequence) -> None:
        del self.running[sequence.key]
        self._free(sequence)
        sequence.known = sequence.private = sequence.computed = 0
        sequence.preemptions += 1
        sequence.pull = sequence.decodes = False
        self.waiting.appendleft(sequence)

    def _admitted(self, now_us: int, budget: int) -> Iterator[Sequence]:
        """Prompts that get their blocks now and have a chunk in this step of `budget` tokens."""
        while self.waiting and len(self.running) + len(self.pulling) < self.max_running:
            sequence = self.waiting[0]
            if budget <= 0 and not sequence.pull:
                return
            if not self._admit(sequence):
                return
            self.waiting.popleft()
            if sequence.pull:
                self._start_pull(sequence, now_us)
            else:
                self.running[sequence.key] = sequence
                budget -= sequence.missing
                yield sequence

    def _admit(self, sequence: Sequence) -> bool:
        hit = self.pool.prefix_hit_blocks(sequence.hashes)
        # The last token is always computed: its logits give the next one.
        hit = min(hit, (sequence.tokens - 1) // self.block_tokens)
        private = -(-sequence.tokens // self.block_tokens) - hit
        if not self.pool.acquire(sequence.hashes[:hit], private):
            return False
        sequence.known, sequence.private = hit, private
        sequence.computed = hit * self.block_tokens
        first, end = sequence.preloaded
        sequence.preloaded = (0, 0)
        if first <= hit < end:
            end = min(end, (sequence.tokens - 1) // self.block_tokens)
            self.advance(sequence, (end - hit) * self.block_tokens, 0)
        if not sequence.preemptions:
            sequence.cached = sequence.computed
        return True

    def _start_pull(self, sequence: Sequence, now_us: int) -> None:
        """Pulls share the way in: one after the other."""
        missing = sequence.tokens - sequence.computed
        took_ms = self.profile.kv_transfer_ms(missing, sequence.far)
        sequence.ready_us = max(now_us, self._link_free_us) + round(took_ms * 1e3)
        self._link_free_us = sequence.ready_us
        self.pulling[sequence.key] = sequence

    def _finish_pulls(self, now_us: int) -> None:
        ready = [s for s in self.pulling.values() if s.ready_us <= now_us]
        for sequence in ready:
            del self.pulling[sequence.key]
            self.running[sequence.key] = sequence
            self.pulled.append(sequence)
            sequence.decodes = True
            # All but the last prompt token: a decode step computes that one.
            self.advance(sequence, sequence.tokens - 1 - sequence.computed, 0)

    def _free(self, sequence: Sequence) -> None:
        self.pool.release(sequence.hashes[: sequence.known], sequence.private)
