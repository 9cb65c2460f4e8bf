"""Invented answers: words that depend on the whole text so far, and on nothing else."""

from array import array

from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.engine.sim.tokens import EOS_ONE_IN, TokenSource

WORDS = list(range(100, 160))
EOS = 7


def answer(tokens: list[int], most: int, salt: int = 0, *, ignore_eos: bool = True) -> list[int]:
    return TokenSource(tokens, WORDS, EOS, salt).answer(most, ignore_eos=ignore_eos)[0]


@settings(max_examples=examples(60))
@given(
    tokens=st.lists(st.integers(0, 2**32 - 1), max_size=40),
    most=st.integers(2, 200),
    split=st.integers(0, 200),
    ignore_eos=st.booleans(),
)
def test_an_answer_resumed_at_any_point_is_the_same_answer(
    tokens: list[int], most: int, split: int, ignore_eos: bool
) -> None:
    whole = answer(tokens, most, ignore_eos=ignore_eos)
    done = whole[: min(split, len(whole) - 1)]
    rest = answer(tokens + done, most - len(done), ignore_eos=ignore_eos)
    assert done + rest == whole


def test_words_depend_on_the_whole_text_so_far_and_on_the_salt() -> None:
    assert answer([1, 2], 8) == answer([1, 2], 8)
    answers = [answer([1, 2], 8), answer([2, 1], 8), answer([1, 2], 8, salt=1)]
    assert len({tuple(words) for words in answers}) == 3


def test_packed_and_listed_prompts_have_the_same_answer() -> None:
    assert answer(array("I", [1, 2, 3]), 8) == answer([1, 2, 3], 8)  # type: ignore[arg-type]


def test_the_end_of_answer_token_stops_it_unless_it_is_ignored() -> None:
    ends, why = TokenSource([1], WORDS, EOS).answer(100 * EOS_ONE_IN, ignore_eos=False)
    assert (ends.index(EOS), why) == (len(ends) - 1, "stop")
    goes_on, why = TokenSource([1], WORDS, EOS).answer(100 * EOS_ONE_IN, ignore_eos=True)
    assert (len(goes_on), why) == (100 * EOS_ONE_IN, "length")
    assert set(goes_on) <= set(WORDS)


def test_an_answer_ends_on_its_own_about_as_often_as_promised() -> None:
    lengths = [len(answer([number], 100 * EOS_ONE_IN, ignore_eos=False)) for number in range(1000)]
    assert 0.9 * EOS_ONE_IN < sum(lengths) / len(lengths) < 1.1 * EOS_ONE_IN


@settings(max_examples=examples(60))
@given(
    split=st.integers(0, 60),
    bias=st.dictionaries(st.sampled_from([*WORDS, EOS, 3]), st.floats(-100, 100), max_size=5),
    stop=st.frozensets(st.sampled_from([*WORDS, 3]), max_size=5),
    fewest=st.integers(0, 40),
)
def test_options_do_not_change_an_answer_that_is_resumed(
    split: int, bias: dict[int, float], stop: frozenset[int], fewest: int
) -> None:
    def answer(done: list[int]) -> list[int]:
        source = TokenSource([1, 2, *done], WORDS, EOS, bias=bias, stop_ids=stop)
        left = max(0, fewest - len(done))
        return source.answer(60 - len(done), ignore_eos=False, min_tokens=left)[0]

    whole = answer([])
    done = whole[: min(split, len(whole) - 1)]
    assert done + answer(done) == whole
    assert len(whole) >= fewest
