"""Continuous batching in plain, synchronous, deterministic code: no clock, no loop.

`plan` says how long the next pass takes; `finish` says what it yields. The live shell
sleeps in between; virtual time jumps.
"""

from collections import deque
from dataclasses import dataclass, field

from argosy.engine.api import EngineOutput, EngineRequest, EngineStats
from argosy.engine.sim.blocks import BlockPool
from argosy.engine.sim.profile import Profile
from argosy.engine.sim.tokens import TokenSource
from argosy.mesh.blocks import chained_block_hashes


@dataclass(eq=False)
class Sequence:
    """One request inside the engine. Tokens [0, computed) have KV; the rest wait."""

    request: EngineRequest
    hashes: list[int]
    source: TokenSource
    private_blocks: int = 1
    computed: int = 0
    cached: int = 0
    produced: int = 0

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt."""
        return len(self.request.token_ids)

    @property
    def missing(self) -> int:
        """Prompt tokens without KV yet."""
        return self.prompt_tokens - self.computed


@dataclass(frozen=True)
class Pass:
    """One planned pass: prompt tokens per sequence, and who decodes."""

    duration_ms: float
    chunks: list[tuple[Sequence, int]] = field(default_factory=list)
    decoding: list[Sequence] = field(default_factory=list)


class Scheduler:
    """Admits by KV room, first come first served; prefills in chunks, decodes in one batch."""

    def __init__(
        self, profile: Profile, blocks: int, block_tokens: int, max_running: int,
        max_model_tokens: int,
    ) -> None:  # fmt: skip
        self.profile = profile
        self.block_tokens = block_tokens
        self.max_model_tokens = max_model_tokens
        self.max_running = max_running
        self.pool = BlockPool(blocks)
        self._waiting: deque[Sequence] = deque()
        self._running: dict[str, Sequence] = {}
        self._held: dict[str, Sequence] = {}

    def add(self, request: EngineRequest, root: int, source: TokenSource) -> None:
        """Queue a request. `root` starts its block hash chain."""
        hashes = chained_block_hashes(request.token_ids, self.block_tokens, root)
        self._waiting.append(Sequence(request, hashes, source))

    def remove(self, request_id: str) -> None:
        """Forget a request wherever it is, and free what it holds."""
        self._waiting = deque(s for s in self._waiting if s.request.request_id != request_id)
        sequence = self._running.pop(request_id, None) or self._held.pop(request_id, None)
        if sequence is not None:
            self.pool.release(sequence.hashes, sequence.private_blocks)

    def plan(self) -> Pass | None:
        """The next pass, or None when there is nothing to do."""
        self._admit()
        budget = self.profile.tokens_per_pass
        chunks, decoding, pulled_bytes = [], [], 0
        for sequence in self._running.values():
            if sequence.missing == 0:
                decoding.append(sequence)
            elif sequence.request.kv_handle is not None:
                pulled_bytes += sequence.prompt_tokens * self.profile.kv_bytes_per_token
                chunks.append((sequence, sequence.missing))
            elif budget > 0:
                take = min(budget, sequence.missing)
                budget -= take
                chunks.append((sequence, take))
        if not chunks and not decoding:
            return None
        computed = self.profile.tokens_per_pass - budget
        duration_ms = self.profile.prefill_pass_ms(computed)
        if decoding:
            duration_ms += self.profile.decode_pass_ms(self.pool.used / self.pool.total)
        if pulled_bytes:
            duration_ms += self.profile.transfer_pass_ms(pulled_bytes)
        return Pass(duration_ms, chunks, decoding)

    def finish(self, done: Pass) -> list[tuple[str, EngineOutput]]:
        """What a pass yields. Requests removed meanwhile yield nothing."""
        outputs = []
        for sequence, tokens in done.chunks:
            if sequence.request.request_id in self._running:
                sequence.computed += tokens
                if sequence.missing == 0:
                    outputs.append(self._emit(sequence))
        outputs += [
            self._emit(sequence)
            for sequence in done.decoding
            if sequence.request.request_id in self._running
        ]
        return outputs

    def stats(self) -> EngineStats:
        """What there is to do, and who holds blocks."""
        queued = sum(s.missing for s in self._running.values() if s.request.kv_handle is None)
        queued += sum(s.missing for s in self._waiting if s.request.kv_handle is None)
        return EngineStats(len(self._running), len(self._waiting), queued, self.pool.used)

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self.max_running:
            sequence = self._waiting[0]
            hit = self.pool.prefix_hit_blocks(sequence.hashes)
            if not self.pool.acquire(sequence.hashes, sequence.private_blocks):
                return
            self._waiting.popleft()
            # The last prompt token is always computed: its logits give the first answer token.
            sequence.cached = min(hit * self.block_tokens, sequence.prompt_tokens - 1)
            sequence.computed = sequence.cached
            self._running[sequence.request.request_id] = sequence

    def _emit(self, sequence: Sequence) -> tuple[str, EngineOutput]:
        request, sampling = sequence.request, sequence.request.sampling
        token = sequence.source.next(ignore_eos=sampling.ignore_eos)
        sequence.produced += 1
        finish = None
        length = sequence.prompt_tokens + sequence.produced
        if sequence.source.is_eos(token):
            finish = "stop"
        elif request.produce or sequence.produced >= sampling.max_tokens:
            finish = "length"
        elif length >= self.max_model_tokens:
            finish = "length"
        elif length % self.block_tokens == 0:
            # A pool without room ends the answer early rather than deadlock.
            if self.pool.grow():
                sequence.private_blocks += 1
            else:
                finish = "length"
        pulled = request.kv_handle is not None and sequence.produced == 1
        output = EngineOutput(
            token_ids=[token],
            finish=finish,
            cached_tokens=sequence.cached,
            kv_handle=b"sim" if request.produce and finish else None,
            transferred_bytes=(
                sequence.prompt_tokens * self.profile.kv_bytes_per_token if pulled else 0
            ),
        )
        if finish:
            self._end(sequence)
        return request.request_id, output

    def _end(self, sequence: Sequence) -> None:
        request_id = sequence.request.request_id
        if sequence.request.produce:
            self._held[request_id] = self._running.pop(request_id)
        else:
            self.remove(request_id)
