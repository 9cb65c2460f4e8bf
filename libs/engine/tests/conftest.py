"""What the engine's tests share: a scheduler run in virtual time."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from argosy.domain.kv_blocks import chained_block_hashes, root_hash
from argosy.engine.api import BlocksChanged
from argosy.engine.profile import Profile
from argosy.engine.sim.scheduler import EngineStep, Scheduler
from argosy.engine.sim.sequence import Sequence
from argosy.engine.sim.tokens import TokenSource

BLOCK_TOKENS = 4
WORDS = list(range(100, 160))
EOS = 7
STEPS_MAX = 20_000
PROFILE = Profile(tokens_per_step=16, kv_bytes_per_token=128_000_000)
"""A token's KV takes 2 ms to transfer; a step, 6 ms and more."""


@dataclass
class Token:
    """When a token was produced. first, last: what the scheduler said of it."""

    at_us: int
    first: bool
    last: bool


@dataclass
class SchedulerRunner:
    """A scheduler, run as instances run it: planned, disturbed, finished; checked after each."""

    blocks: int = 64
    running: int = 4
    dp_ranks: int = 1
    profile: Profile = PROFILE
    steps_max: int = 1
    now_us: int = 0
    releases_held: bool = False
    steps_done: int = 0
    plans: int = 0
    sequences: dict[str, Sequence] = field(default_factory=dict)
    tokens: dict[str, list[Token]] = field(default_factory=dict)
    changes: list[tuple[int, BlocksChanged]] = field(default_factory=list)
    pulled: list[tuple[int, str]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(
            self.profile, self.blocks, BLOCK_TOKENS, self.running, self.dp_ranks
        )

    def add(
        self,
        name: str,
        prompt: list[int],
        answer_tokens: int = 5,
        *,
        hold: bool = False,
        pull: bool = False,
        far: int = 0,
        rank: int = 0,
    ) -> Sequence:
        """Queue a prompt. Equal prompts have equal answers, as far as these go."""
        answer = TokenSource(prompt, WORDS, EOS).answer(answer_tokens, ignore_eos=True)[0]
        hashes = chained_block_hashes([*prompt, *answer], BLOCK_TOKENS, root_hash("m"))
        sequence = Sequence(name, len(prompt), answer_tokens, hashes, hold, pull, far)
        self.sequences[name] = sequence
        self.tokens[name] = []
        self.scheduler.add(sequence, rank)
        return sequence

    def run(self, events: Iterable[tuple[int, Callable[[], Any]]] = ()) -> list[EngineStep]:
        """Until all is done. events: (when, what happens then), in order."""
        return list(self.each_step(events))

    def each_step(
        self, events: Iterable[tuple[int, Callable[[], Any]]] = ()
    ) -> Iterator[EngineStep]:
        """Each step, planned but not finished. An event cuts short what was planned ahead."""
        events = iter(events)
        event = next(events, None)
        for _ in range(STEPS_MAX):
            planned = self._plan()
            if planned is None:
                wakes = [event[0]] if event else []
                wakes += [at] if (at := self.scheduler.next_pull_us()) is not None else []
                if not wakes:
                    return
                self.now_us = max(self.now_us, min(wakes))
                while event is not None and event[0] <= self.now_us:
                    event[1]()
                    event = next(events, None)
                continue
            yield planned
            while event is not None and event[0] <= planned.ends_us:
                event[1]()
                planned.cut(event[0])
                event = next(events, None)
            self._finish(planned)
        pytest.fail(f"not idle after {STEPS_MAX} plans")

    def check(self) -> None:
        """Books balance: who holds how many blocks, by rank."""
        for rank in self.scheduler.ranks:
            rank.pool.check()
            holders = [*rank.running.values(), *rank.pulling.values(), *rank.held.values()]
            known = {block for s in holders for block in s.hashes[: s.known]}
            assert rank.pool.used == len(known) + sum(s.private for s in holders)
            assert known <= set(rank.pool.known_blocks())

    def known(self) -> list[set[int]]:
        """The blocks each rank says it holds."""
        return [set(rank.pool.known_blocks()) for rank in self.scheduler.ranks]

    def heard(self) -> list[set[int]]:
        """The blocks a listener thinks each rank holds."""
        held: list[set[int]] = [set() for _ in self.scheduler.ranks]
        for _, change in self.changes:
            before = held[change.dp_rank]
            assert not before & set(change.stored)
            assert before >= set(change.removed)
            held[change.dp_rank] = before - set(change.removed) | set(change.stored)
        return held

    def _plan(self) -> EngineStep | None:
        planned = self.scheduler.plan(self.now_us, self.steps_max)
        self.plans += planned is not None
        self.pulled += [(self.now_us, s.key) for s in self.scheduler.take_pulled()]
        self._listen()
        return planned

    def _finish(self, done: EngineStep) -> None:
        self.now_us = done.ends_us
        self.steps_done += done.steps
        for progress in self.scheduler.finish(done):
            name, count = progress.sequence.key, progress.tokens
            for number in range(count):
                at_us = done.ends_us - (count - 1 - number) * done.each_us
                first, last = progress.first and not number, progress.last and number == count - 1
                self.tokens[name].append(Token(at_us, first, last))
            if progress.last:
                self.ended.append(name)
                if self.releases_held:
                    self.scheduler.remove(name)
        self._listen()

    def _listen(self) -> None:
        self.changes += [(self.now_us, change) for change in self.scheduler.take_changes()]
        self.check()


@pytest.fixture(scope="session")
def bench() -> type[SchedulerRunner]:
    """What runs a scheduler; one for each use."""
    return SchedulerRunner


@pytest.fixture(scope="session")
def prompt() -> Callable[[int, int], list[int]]:
    """A prompt of some length; those of one family begin alike."""

    def tokens(length: int, family: int = 0) -> list[int]:
        shared = length // 2
        return [1000 + family] * shared + list(range(length - shared))

    return tokens
