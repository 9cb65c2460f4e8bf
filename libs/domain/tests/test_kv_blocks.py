"""Block hashes: equal exactly when model, salt and everything before are equal."""

from array import array

import xxhash
from hypothesis import given
from hypothesis import strategies as st

from argosy.domain.kv_blocks import chained_block_hashes, digest_of, root_hash

TOKENS = st.lists(st.integers(0, 2**32 - 1), max_size=60)
WIDTH = st.integers(1, 8)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3)


@given(shared=TOKENS, one=TOKENS, other=TOKENS, width=WIDTH)
def test_prompts_share_exactly_the_blocks_of_their_common_prefix(
    shared: list[int], one: list[int], other: list[int], width: int
) -> None:
    root = root_hash("model")
    first = chained_block_hashes(shared + one, width, root)
    second = chained_block_hashes(shared + other, width, root)

    alike = [a == b for a, b in zip(shared + one, shared + other, strict=False)]
    common = [*alike, False].index(False) // width
    assert first[:common] == second[:common]
    assert not set(first[common:]) & set(second[common:])


@given(tokens=TOKENS, width=WIDTH)
def test_only_full_blocks_have_a_hash(tokens: list[int], width: int) -> None:
    assert len(chained_block_hashes(tokens, width, root_hash("m"))) == len(tokens) // width


@given(tokens=TOKENS, width=WIDTH, split=st.integers(0, 60))
def test_a_chain_goes_on_from_the_hash_of_any_of_its_blocks(
    tokens: list[int], width: int, split: int
) -> None:
    whole = chained_block_hashes(tokens, width, root_hash("m"))
    blocks = min(split, len(whole))
    parent = whole[blocks - 1] if blocks else root_hash("m")
    assert chained_block_hashes(tokens[blocks * width :], width, parent) == whole[blocks:]


@given(
    tokens=st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=40),
    names=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), unique=True, max_size=6),
)
def test_other_models_or_salts_share_no_block(
    tokens: list[int], names: list[tuple[str, str]]
) -> None:
    names = [(model.replace("\0", ""), salt) for model, salt in names]
    chains = {
        name: set(chained_block_hashes(tokens, 4, root_hash(*name))) for name in sorted(set(names))
    }
    assert sum(len(chain) for chain in chains.values()) == len(set().union(*chains.values()))


@given(tokens=TOKENS, width=WIDTH)
def test_packed_and_listed_tokens_have_equal_hashes(tokens: list[int], width: int) -> None:
    root = root_hash("m")
    listed = chained_block_hashes(tokens, width, root)
    assert chained_block_hashes(array("I", tokens), width, root) == listed
    assert chained_block_hashes(tuple(tokens), width, root) == listed


@given(parts=st.lists(st.tuples(NAMES, NAMES, NAMES), unique=True, min_size=2, max_size=8))
def test_each_model_salt_and_adapter_has_a_chain_of_its_own(
    parts: list[tuple[str, str, str]],
) -> None:
    chains = [chained_block_hashes([1, 2, 3, 4], 2, root_hash(*names)) for names in parts]
    blocks = [block for chain in chains for block in chain]
    assert len(set(blocks)) == 2 * len(parts)


def test_no_adapter_is_the_base_model() -> None:
    assert root_hash("m", "s", "") == root_hash("m", "s")
    assert len({root_hash("m", "x"), root_hash("m", "", "x"), root_hash("m")}) == 3


def test_a_block_is_hashed_with_its_parents_hash_as_the_seed() -> None:
    """As anyone can who knows the format: four little-endian bytes for each token."""
    parent = xxhash.xxh3_64_intdigest(b"m\0tenant")
    packed = bytes([1, 0, 0, 0, 2, 1, 0, 0])
    block = xxhash.xxh3_64_intdigest(packed, seed=parent)
    assert chained_block_hashes([1, 258, 3], 2, root_hash("m", "tenant")) == [block]


def test_the_order_of_tokens_and_of_blocks_counts() -> None:
    root = root_hash("m")
    assert chained_block_hashes([1, 2], 2, root) != chained_block_hashes([2, 1], 2, root)
    one, two = chained_block_hashes([7] * 4, 2, root)
    assert one != two


def test_hashes_are_the_same_in_every_process_and_version() -> None:
    hashes = chained_block_hashes(list(range(8)), 4, root_hash("sim", "tenant"))
    assert hashes == [15569826250275673149, 4312305943731165519]
    assert digest_of(hashes) == 11989631437535317037


def test_the_digest_of_no_blocks_is_zero_and_of_some_depends_on_their_order() -> None:
    assert digest_of([]) == 0
    assert digest_of([1, 2]) != digest_of([2, 1])
