"""vLLM's KV events, told in Argosy's own hashes. Needs no vLLM, only its message library."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.domain.kv_blocks import chained_block_hashes, root_hash
from argosy.engine.vllm import kv_events

BLOCK = 2
TOKENS = [1, 2, 3, 4, 5, 6]
OURS = chained_block_hashes(TOKENS, BLOCK, root_hash("m"))


def stored(hashes: list[int], tokens: list[int], parent: int | None = None, **more: Any) -> Any:
    return {
        "type": "BlockStored",
        "block_hashes": hashes,
        "parent_block_hash": parent,
        "token_ids": tokens,
        "block_size": BLOCK,
        **more,
    }


def removed(*hashes: int) -> Any:
    return {"type": "BlockRemoved", "block_hashes": list(hashes)}


CLEARED = {"type": "AllBlocksCleared"}


@pytest.fixture
def translator() -> Any:
    return kv_events.HashTranslator("m", BLOCK)


def test_a_stored_prompt_has_the_hashes_the_router_computes(translator: Any) -> None:
    change = translator.translate([stored([91, 92, 93], TOKENS)])
    assert (change.stored, change.removed, change.cleared) == (OURS, [], False)


def test_a_chain_goes_on_from_its_parent_in_a_later_batch(translator: Any) -> None:
    translator.translate([stored([91], TOKENS[:2])])
    assert translator.translate([stored([92, 93], TOKENS[2:], 91)]).stored == OURS[1:]


def test_a_salted_prompt_shares_no_block(translator: Any) -> None:
    salted = stored([91], TOKENS[:2], extra_keys=[("tenant",)])
    expected = chained_block_hashes(TOKENS[:2], BLOCK, root_hash("m", "tenant"))
    assert translator.translate([salted]).stored == expected != OURS[:1]


@pytest.mark.parametrize("keys", [None, [], [None], [()], [(7,)]])
def test_keys_that_are_no_salt_change_nothing(translator: Any, keys: Any) -> None:
    assert translator.translate([stored([91], TOKENS[:2], extra_keys=keys)]).stored == OURS[:1]


def test_a_removed_block_is_named_as_it_was_when_stored(translator: Any) -> None:
    translator.translate([stored([91, 92, 93], TOKENS)])
    change = translator.translate([removed(93, 92)])
    assert (change.stored, change.removed) == ([], [OURS[2], OURS[1]])


def test_a_block_removed_before_it_was_known_changes_nothing(translator: Any) -> None:
    assert translator.translate([removed(5)]) is None


def test_a_block_whose_parent_is_gone_is_not_told(translator: Any) -> None:
    translator.translate([stored([91], TOKENS[:2])])
    translator.translate([removed(91)])
    assert translator.translate([stored([92], TOKENS[2:4], 91)]) is None


def test_a_block_that_came_and_went_in_one_batch_is_no_change(translator: Any) -> None:
    assert translator.translate([stored([91], TOKENS[:2]), removed(91)]) is None


def test_a_block_that_went_and_came_back_in_one_batch_is_no_change(translator: Any) -> None:
    translator.translate([stored([91], TOKENS[:2])])
    assert translator.translate([removed(91), stored([91], TOKENS[:2])]) is None


def test_a_block_vllm_holds_twice_is_told_once(translator: Any) -> None:
    translator.translate([stored([91], TOKENS[:2])])
    assert translator.translate([stored([91], TOKENS[:2])]) is None


def test_clearing_forgets_everything_before_it(translator: Any) -> None:
    translator.translate([stored([91, 92], TOKENS[:4])])
    change = translator.translate([removed(92), CLEARED, stored([91], TOKENS[:2])])
    assert (change.cleared, change.stored, change.removed) == (True, OURS[:1], [])
    assert translator.translate([removed(92)]) is None


def test_nothing_happened_is_no_change(translator: Any) -> None:
    assert translator.translate([]) is None


@given(
    batches=st.lists(
        st.lists(st.tuples(st.sampled_from(["store", "remove", "clear"]), st.integers(0, 4))),
        max_size=12,
    )
)
def test_who_applies_every_change_in_any_order_knows_what_vllm_holds(
    batches: list[list[tuple[str, int]]],
) -> None:
    """Block n is the one-block prompt [n, n]; vLLM calls it 90 + n."""
    translator = kv_events.HashTranslator("m", BLOCK)
    held: set[int] = set()
    heard: set[int] = set()
    for batch in batches:
        events = []
        for kind, n in batch:
            if kind == "store":
                events.append(stored([90 + n], [n, n]))
                held.add(n)
            elif kind == "remove" and n in held:
                events.append(removed(90 + n))
                held.remove(n)
            elif kind == "clear":
                events.append(CLEARED)
                held.clear()
        if change := translator.translate(events):
            before = set() if change.cleared else heard
            heard = (before | set(change.stored)) - set(change.removed)
            assert heard == before - set(change.removed) | set(change.stored)
        root = root_hash("m")
        assert heard == {chained_block_hashes([n, n], BLOCK, root)[0] for n in held}
