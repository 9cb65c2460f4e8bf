"""The instance's side of a KV store: names, owners, slots, and a breaker that never asks twice."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.domain.kv_blocks import KEY_BYTES, block_checksum
from argosy.engine.kv.chain import BlockNames
from argosy.engine.kv.owners import SPAN_BLOCKS, owner_of, owners_of
from argosy.engine.kv.revision import revision
from argosy.instance.kv_store import breaker as breaker_module
from argosy.instance.kv_store.breaker import Breaker
from argosy.instance.kv_store.load_slots import LoadSlots
from argosy.instance.settings import InstanceSettings

PATIENCE_S = 10
WIDTH = 4
prompts = st.lists(st.integers(0, (1 << 32) - 1), max_size=40)
stores = st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=6, unique=True)
keys = st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=70)


@given(prompts, st.lists(st.integers(0, 12), max_size=6))
def test_a_chain_grown_in_steps_is_the_chain_named_at_once(
    tokens: list[int], steps: list[int]
) -> None:
    whole, grown = BlockNames("m", "r", "s", WIDTH), BlockNames("m", "r", "s", WIDTH)
    whole.extend(tokens, len(tokens))
    for step in steps:
        grown.extend(tokens, step)
    grown.extend(tokens, len(tokens))
    assert (grown.keys, grown.hashes) == (whole.keys, whole.hashes)
    assert len(whole.keys) == len(whole.hashes) == len(tokens) // WIDTH
    assert all(len(key) == KEY_BYTES for key in whole.keys)


@given(prompts, prompts)
def test_equal_keys_mean_equal_prefixes(ours: list[int], theirs: list[int]) -> None:
    chains = [BlockNames("m", "r", "s", WIDTH) for _ in range(2)]
    for chain, tokens in zip(chains, (ours, theirs), strict=True):
        chain.extend(tokens, len(tokens))
    for number, (one, other) in enumerate(zip(chains[0].keys, chains[1].keys, strict=False)):
        end = (number + 1) * WIDTH
        assert (one == other) == (ours[:end] == theirs[:end])


def test_keys_differ_by_salt_and_revision_and_these_never_run_into_each_other() -> None:
    names = set()
    for model_revision, salt in [("r", ""), ("r", "s"), ("rs", ""), ("", "rs"), ("r\0", "s")]:
        chain = BlockNames("m", model_revision, salt, WIDTH)
        chain.extend([1, 2, 3, 4], 1)
        names.add(chain.keys[0])
    assert len(names) == 5


@given(keys, stores)
def test_a_store_that_goes_moves_only_its_own_spans(keys: list[bytes], names: list[str]) -> None:
    before = owners_of(keys, sorted(names))
    assert set(before) <= set(names)
    gone = before[0]
    left = sorted(set(names) - {gone})
    for start in range(0, len(keys), SPAN_BLOCKS):
        assert len(set(before[start : start + SPAN_BLOCKS])) == 1
        if left and before[start] != gone:
            assert owner_of(keys[start], left) == before[start]


def test_spans_are_shared_out_evenly() -> None:
    names = ["kvstore-0", "kvstore-1", "kvstore-2"]
    owned = [owner_of(number.to_bytes(16), names) for number in range(3000)]
    assert all(900 < owned.count(name) < 1100 for name in names)


@given(st.binary(max_size=100), st.binary(min_size=16, max_size=16), st.integers(0, 799))
def test_a_checksum_tells_bytes_and_keys_apart(data: bytes, key: bytes, bit: int) -> None:
    right = block_checksum(key, data)
    assert right
    flipped = bytearray(data + b"\0")
    flipped[bit // 8 % len(flipped)] ^= 1 << bit % 8
    assert block_checksum(key, bytes(flipped)) != right
    assert block_checksum(bytes([key[0] ^ 1]) + key[1:], data) != right


def test_whatever_changes_kv_changes_the_revision() -> None:
    plain = {"model": "m", "model_source": "sim"}
    changes: list[dict[str, Any]] = [
        {},
        {"model": "n"},
        {"model_source": "other"},
        {"dtype": "float32"},
        {"block_tokens": 16},
        {"tensor_parallel": 2},
        {"engine": "vllm"},
        {"device": "cuda"},
    ]
    found = {revision(InstanceSettings(**{**plain, **change})) for change in changes}
    assert len(found) == len(changes)
    same = {"instance_id": "other", "max_running": 3, "kv_bytes": 2 << 20, "sim_speed": 9}
    assert revision(InstanceSettings(**plain, **same)) in found


def test_load_slots_are_never_handed_out_twice() -> None:
    slots = LoadSlots(4)
    first, second = slots.take(3), slots.take(3)
    assert sorted([*first, *second]) == [0, 1, 2, 3]
    assert slots.take(1) == []
    slots.give(second)
    assert slots.take(9) == second


@pytest.fixture
def quick_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker_module, "BACKOFF_S_MIN", 0.001)
    monkeypatch.setattr(breaker_module, "BACKOFF_S_MAX", 0.004)


async def poll_until(predicate: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not predicate():
        assert time.monotonic() < deadline_s, "what was awaited never came"
        await asyncio.sleep(0.001)


async def test_a_breaker_opens_at_once_and_closes_when_a_probe_succeeds(quick_rests: None) -> None:
    answers = [ConnectionError("gone"), TimeoutError("slow"), None]
    probes: list[Exception | None] = []

    async def probe() -> None:
        probes.append(answers[len(probes)])
        if (wrong := probes[-1]) is not None:
            raise wrong

    breaker = Breaker("kvstore-0", probe)
    assert not breaker.open
    breaker.fail("first")
    breaker.fail("again, which changes nothing")
    assert breaker.open
    assert probes == []
    await poll_until(lambda: not breaker.open)
    assert probes == answers


async def test_a_breaker_that_is_closed_for_good_probes_no_more(quick_rests: None) -> None:
    probed = asyncio.Event()

    async def probe() -> None:
        probed.set()
        raise ConnectionError("gone")

    breaker = Breaker("kvstore-0", probe)
    breaker.fail("gone")
    await asyncio.wait_for(probed.wait(), PATIENCE_S)
    breaker.close()
    assert breaker._task is not None
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(breaker._task, PATIENCE_S)
