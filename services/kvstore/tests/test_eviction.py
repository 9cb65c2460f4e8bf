"""Eviction: what every policy promises, and what ours is for."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.bench.kv.oracle import NextUseOracle
from argosy.domain import plugins
from argosy.domain.core import to_snapshot
from argosy.kvstore.core.eviction import EvictionPolicy, build_policy
from argosy.kvstore.core.eviction import learned as ours
from argosy.kvstore.core.eviction.learned import LearnedPolicy
from argosy.kvstore.core.eviction.learned_value import AGES_US, WIDTHS_S, chances, gittins
from argosy.kvstore.core.eviction.lru2 import Lru2Policy
from argosy.kvstore.core.eviction.s3fifo import S3FifoPolicy
from argosy.kvstore.core.state import StoreLimits
from argosy.kvstore.policies import GROUP, new_state

INSTALLED = plugins.names(GROUP)
NAMES = [*INSTALLED, "oracle"]
SECOND_US = 1_000_000


class EvictionStore:
    """What a store does with a policy, and checks of all it is promised."""

    def __init__(
        self, policy: EvictionPolicy, capacity_blocks: int, *, checks: bool = True
    ) -> None:
        self.checks = checks
        """They look at every block: not for stores of thousands."""
        self.policy = policy
        self.capacity_blocks = capacity_blocks
        self.parents: dict[int, int | None] = {}
        """Of held blocks."""
        self.pins: dict[int, int] = {}
        self.victims: list[int] = []

    def may_go(self) -> set[int]:
        pinned = {key for key, count in self.pins.items() if count}
        return {key for key in self.parents if key not in pinned} - set(self.parents.values())

    def victim(self, now_us: int) -> int | None:
        victim = self.policy.victim(now_us)
        if victim is None:
            assert not (self.checks and self.may_go())
            return None
        assert isinstance(victim, int)
        assert not self.checks or victim in self.may_go()
        assert isinstance(self.policy.worth_keeping(victim, now_us), bool)
        self.lose(victim)
        self.victims.append(victim)
        return victim

    def lose(self, key: int) -> None:
        self.policy.removed(key)
        del self.parents[key]

    def pin(self, key: int) -> None:
        self.policy.pin(key)
        self.pins[key] = self.pins.get(key, 0) + 1

    def unpin(self, key: int) -> None:
        self.policy.unpin(key)
        self.pins[key] -= 1

    def ask(self, chain: Sequence[int], now_us: int) -> int:
        """Returns how many leading blocks were held."""
        self.policy.asked(chain, now_us)
        depth = 0
        while depth < len(chain) and chain[depth] in self.parents:
            depth += 1
        above = chain[depth - 1] if depth else None
        if above is not None:
            self.pin(above)
        for key in chain[depth:]:
            if len(self.parents) >= self.capacity_blocks and self.victim(now_us) is None:
                break
            if key not in self.parents:
                self.policy.stored(key, above, now_us)
                self.parents[key] = above
            self.pin(key)
            if above is not None:
                self.unpin(above)
            above = key
        if above is not None:
            self.unpin(above)
        return depth


def chain_of(path: Sequence[int]) -> list[int]:
    """Chained names: equal paths, equal blocks."""
    found, name = [], 1
    for step in path:
        name = name * 4 + step
        found.append(name)
    return found


def make(name: str, capacity_blocks: int, asks: Sequence[Sequence[int]]) -> EvictionPolicy:
    if name == "oracle":
        return NextUseOracle(capacity_blocks, asks)
    return build_policy(name, capacity_blocks)


chains = st.lists(st.integers(0, 3), min_size=1, max_size=8).map(chain_of)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), chains, st.integers(0, 300 * SECOND_US)),
        st.tuples(st.just("hold"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("release"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("lose"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("victim"), st.just(0), st.integers(0, SECOND_US)),
    ),
    max_size=60,
)


def play(name: str, capacity_blocks: int, script: list[tuple[str, object, int]]) -> EvictionStore:
    asks = [step[1] for step in script if step[0] == "ask"]
    store = EvictionStore(make(name, capacity_blocks, asks), capacity_blocks)  # type: ignore[arg-type]
    now_us = 0
    holds: list[int] = []
    for what, which, later_us in script:
        now_us += later_us
        held = list(store.parents)
        if what == "ask":
            store.ask(which, now_us)  # type: ignore[arg-type]
        elif what == "victim":
            store.victim(now_us)
        elif what == "release" and holds:
            store.unpin(holds.pop(int(which) % len(holds)))  # type: ignore[call-overload]
        elif held and what == "hold":
            holds.append(held[int(which) % len(held)])  # type: ignore[call-overload]
            store.pin(holds[-1])
        elif held and what == "lose":
            store.lose(held[int(which) % len(held)])  # type: ignore[call-overload]
    return store


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=examples(150))
@given(script=steps, capacity_blocks=st.integers(1, 12))
def test_victims_are_free_leaves_and_there_is_one_if_there_can_be(
    name: str, script: list[tuple[str, object, int]], capacity_blocks: int
) -> None:
    store = play(name, capacity_blocks, script)
    assert len(store.parents) <= capacity_blocks
    for key, count in store.pins.items():
        for _ in range(count):
            store.policy.unpin(key)
    store.pins.clear()
    while store.victim(1 << 50) is not None:
        pass
    assert not store.parents


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=examples(50))
@given(script=steps, capacity_blocks=st.integers(1, 12))
def test_equal_histories_give_equal_victims(
    name: str, script: list[tuple[str, object, int]], capacity_blocks: int
) -> None:
    first = play(name, capacity_blocks, script)
    assert play(name, capacity_blocks, script).victims == first.victims


@pytest.mark.parametrize("name", NAMES)
def test_what_is_remembered_is_bounded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "GHOSTS_MIN", 100)
    capacity = 50
    asks = [[n, n + 1] for n in range(0, 4000, 2)]
    policy = make(name, capacity, asks)
    store = EvictionStore(policy, capacity)
    for number, chain in enumerate(asks):
        store.ask(chain, number * SECOND_US)
        for _ in range(10):
            store.pin(chain[1])
            store.unpin(chain[1])
    if name == "oracle":
        return
    for field in vars(policy).values():
        if isinstance(field, dict | list) and field is not vars(policy).get("_order"):
            assert len(field) <= 5 * capacity + 64


def test_a_ghost_more_than_allowed_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "GHOSTS_MIN", 8)
    for policy in (LearnedPolicy(4), Lru2Policy(4), S3FifoPolicy(4)):
        store = EvictionStore(policy, 4)
        for number in range(100):
            store.ask([number], number)
        assert len(policy._ghosts) <= 8


@settings(max_examples=examples(50))
@given(script=steps, capacity_blocks=st.integers(1, 12))
def test_the_learned_policy_counts_every_block_it_remembers_once(
    script: list[tuple[str, object, int]], capacity_blocks: int
) -> None:
    policy = play("learned", capacity_blocks, script).policy
    assert isinstance(policy, LearnedPolicy)
    in_cells = sum(
        cell.blocks for kind in policy._value.segments for cells in kind for cell in cells
    )
    assert in_cells == len(policy._runs)
    assert sum(run.blocks for ages in policy._ages for run in ages) == len(policy._runs)


def test_lru_evicts_the_end_of_the_chain_longest_unasked() -> None:
    store = EvictionStore(build_policy("lru", 4), 4)
    store.ask([1, 2], 0)
    store.ask([3, 4], 1)
    store.ask([1], 2)
    store.ask([5, 6], 3)
    assert store.victims == [2, 4]


def test_the_oracle_evicts_what_is_asked_for_last() -> None:
    asks = [[1], [2], [3], [2], [1]]
    store = EvictionStore(NextUseOracle(2, asks), 2)
    assert [store.ask(chain, now) for now, chain in enumerate(asks)] == [0, 0, 0, 1, 0]


def hits(name: str, capacity_blocks: int, asks: Sequence[tuple[int, Sequence[int]]]) -> int:
    store = EvictionStore(build_policy(name, capacity_blocks), capacity_blocks, checks=False)
    return sum(store.ask(chain, now_us) for now_us, chain in asks)


def test_the_learned_policy_keeps_what_is_shared_from_a_scan_of_what_is_not() -> None:
    asks = []
    for turn in range(600):
        shared = 1_000_000 + turn % 20
        asks.append((turn * SECOND_US, [shared, 2_000_000 + turn]))
        asks.append((turn * SECOND_US, list(range(turn * 10, turn * 10 + 10))))
    assert hits("lru", 60, asks) == 0
    assert hits("learned", 60, asks) > 400


def test_the_learned_policy_is_lru_where_only_age_tells() -> None:
    asks = []
    for talk in range(2000):
        chain = [talk * 10, talk * 10 + 1]
        asks.append((talk * SECOND_US, chain))
        asks.append((talk * SECOND_US + (talk * 7 % 20) * SECOND_US, [*chain, talk * 10 + 2]))
    asks.sort()
    for capacity in (30, 60, 90):
        assert hits("learned", capacity, asks) >= 0.97 * hits("lru", capacity, asks)


def test_the_learned_policy_learns_anew_when_the_load_changes() -> None:
    quiet = [(n * SECOND_US, [n % 7, 100 + n]) for n in range(3000)]
    begin_us = 3000 * SECOND_US
    loud = [(begin_us + n * SECOND_US, [500_000 + n % 40, 600_000 + n]) for n in range(3000)]
    alone = hits("learned", 50, loud)
    assert hits("learned", 50, quiet + loud) - hits("learned", 50, quiet) >= 0.9 * alone


def test_scans_are_not_worth_a_slower_tier_and_conversations_are() -> None:
    store = EvictionStore(LearnedPolicy(2000), 2000, checks=False)
    now_us = 0
    for talk in range(1500):
        now_us += SECOND_US
        store.ask(range(talk * 100, talk * 100 + 64), now_us)
        chain = [-talk * 10 - number for number in range(1, 5)]
        store.ask(chain[:3], now_us)
        store.ask(chain, now_us + SECOND_US // 2)
    assert not store.policy.worth_keeping(1499 * 100 + 10, now_us)
    store.ask([-1_000_001, -1_000_002, -1_000_003], now_us)
    assert store.policy.worth_keeping(-1_000_002, now_us)


def test_worth_looks_past_a_pause() -> None:
    """Nobody comes back in the first seconds, all do soon after: no less worth at once."""
    hazard = [0.0001] * 6 + [0.5] * 2 + [0.0001] * (len(AGES_US) - 8)
    worth = gittins(hazard)
    assert worth[0] > 0.02
    assert worth == sorted(worth[:8]) + worth[8:]
    assert worth[8] < worth[0]


@given(st.lists(st.floats(1e-9, 10), min_size=len(WIDTHS_S), max_size=len(WIDTHS_S)))
def test_worth_is_between_the_hazards_to_come(hazard: list[float]) -> None:
    for span, (worth, chance) in enumerate(zip(gittins(hazard), chances(hazard), strict=True)):
        assert 0 <= chance <= 1
        assert min(hazard[span:]) * 0.999 <= worth <= max(hazard[span:]) * 1.001
        assert worth >= hazard[span] * 0.999


asks = st.lists(st.tuples(chains, st.integers(0, 300 * SECOND_US)), min_size=1, max_size=40)


@pytest.mark.parametrize("name", INSTALLED)
@settings(max_examples=examples(60))
@given(before=asks, after=asks)
def test_a_policy_read_back_from_its_snapshot_goes_on_as_the_one_it_was_taken_of(
    name: str, before: list[tuple[list[int], int]], after: list[tuple[list[int], int]]
) -> None:
    policy = build_policy(name, 8)
    store = EvictionStore(policy, 8)
    now_us = ask_all(store, before, 0)
    snapshot = msgspec.msgpack.decode(msgspec.msgpack.encode(policy, enc_hook=to_snapshot))
    read_back = EvictionPolicy.from_snapshot(snapshot)
    assert (type(read_back), read_back.name) == (type(policy), name)
    other = EvictionStore(read_back, 8)
    other.parents, other.pins = dict(store.parents), dict(store.pins)
    store.victims.clear()
    assert ask_all(store, after, now_us) == ask_all(other, after, now_us)
    assert store.victims == other.victims


def test_a_policy_that_is_not_installed_is_refused_with_those_that_are() -> None:
    refusal = "no eviction policy 'fifo'; there are: learned, lru, lru2, s3fifo"
    with pytest.raises(ValueError, match=refusal):
        new_state(StoreLimits(1 << 20), "fifo")


def ask_all(store: EvictionStore, asks: list[tuple[list[int], int]], now_us: int) -> int:
    for chain, pause_us in asks:
        now_us += pause_us
        store.ask(chain, now_us)
    return now_us
