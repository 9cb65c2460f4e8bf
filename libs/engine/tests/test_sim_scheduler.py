"""The sim scheduler in virtual time: everyone is served, nothing is kept, order is fair."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy.engine.api import EngineOutput, EngineRequest, SamplingSpec
from argosy.engine.sim.profile import Profile
from argosy.engine.sim.scheduler import Pass, Scheduler
from argosy.engine.sim.tokens import TokenSource
from argosy.mesh.blocks import root_hash

BLOCK = 4
WORDS = list(range(100, 160))
EOS = 7
PROFILE = Profile(tokens_per_pass=16)
PASSES_MAX = 5000


class Bench:
    """A scheduler that is run to its end, checked after each pass."""

    def __init__(self, blocks: int = 64, running: int = 4, context: int = 200) -> None:
        self.scheduler = Scheduler(PROFILE, blocks, BLOCK, running, context)
        self.outputs: dict[str, list[EngineOutput]] = {}
        self.order: list[str] = []
        self.pulls_at_once = False

    def add(
        self,
        name: str,
        tokens: list[int],
        max_tokens: int = 5,
        *,
        ignore_eos: bool = True,
        produce: bool = False,
        kv_handle: bytes | None = None,
    ) -> None:
        sampling = SamplingSpec(max_tokens, ignore_eos=ignore_eos)
        request = EngineRequest(name, tokens, sampling, produce=produce, kv_handle=kv_handle)
        self.scheduler.add(request, root_hash("m"), TokenSource(tokens, WORDS, EOS))

    def passes(self) -> Iterator[Pass]:
        """Every pass, after it has been planned and before it is finished."""
        for _ in range(PASSES_MAX):
            planned = self.scheduler.plan()
            if planned is None:
                return
            assert planned.duration_ms > 0
            yield planned
            for name, output in self.scheduler.finish(planned):
                self.outputs.setdefault(name, []).append(output)
                if output.finish:
                    self.order.append(name)
                    if self.pulls_at_once:
                        self.scheduler.remove(name)
            self.scheduler.pool.check()
        pytest.fail(f"not idle after {PASSES_MAX} passes")

    def run(self) -> None:
        for _ in self.passes():
            pass

    def answer(self, name: str) -> list[int]:
        return [token for output in self.outputs[name] for token in output.token_ids]


REQUESTS = st.lists(
    st.tuples(
        st.integers(1, 60),  # prompt tokens
        st.integers(0, 3),  # whose beginning it shares
        st.integers(1, 30),  # answer tokens
        st.sampled_from(["answer", "pull", "produce"]),
    ),
    min_size=1,
    max_size=12,
)


def prompt(length: int, family: int) -> list[int]:
    return [1000 + family] * (length // 2) + list(range(length - length // 2))


@settings(max_examples=60, deadline=None)
@given(requests=REQUESTS, blocks=st.integers(16, 40), running=st.integers(1, 5))
def test_every_request_finishes_and_leaves_nothing_behind(
    requests: list[tuple[int, int, int, str]], blocks: int, running: int
) -> None:
    bench = Bench(blocks=blocks, running=running)
    bench.pulls_at_once = True
    for number, (length, family, answer, kind) in enumerate(requests):
        bench.add(
            str(number), prompt(length, family), answer,
            produce=kind == "produce", kv_handle=b"sim" if kind == "pull" else None,
        )  # fmt: skip
    for planned in bench.passes():
        assert len(planned.chunks) + len(planned.decoding) <= running

    assert sorted(bench.order, key=int) == [str(number) for number in range(len(requests))]
    assert all(outputs[-1].finish for outputs in bench.outputs.values())
    assert bench.scheduler.pool.used == 0


@settings(max_examples=60, deadline=None)
@given(requests=REQUESTS, cancelled=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 11))))
def test_after_all_are_removed_no_block_is_used(
    requests: list[tuple[int, int, int, str]], cancelled: list[tuple[int, int]]
) -> None:
    bench = Bench(blocks=24)
    for number, (length, family, answer, kind) in enumerate(requests):
        bench.add(str(number), prompt(length, family), answer, produce=kind == "produce")
    for step, _ in enumerate(bench.passes()):
        gone = {str(number) for at, number in cancelled if at <= step}
        for name in sorted(gone):
            bench.scheduler.remove(name)

    for number in range(len(requests)):
        bench.scheduler.remove(str(number))
    bench.scheduler.pool.check()
    stats = bench.scheduler.stats()
    assert (stats.running_requests, stats.waiting_requests, stats.kv_used_blocks) == (0, 0, 0)


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 40), answer=st.integers(2, 40), split=st.integers(1, 39))
def test_an_answer_resumed_at_any_point_is_the_same_answer(
    length: int, answer: int, split: int
) -> None:
    split = min(split, answer - 1)
    bench = Bench()
    bench.add("whole", prompt(length, 1), answer)
    bench.run()
    whole = bench.answer("whole")

    elsewhere = Bench(running=1)
    elsewhere.add("rest", prompt(length, 1) + whole[:split], answer - split)
    elsewhere.run()
    assert elsewhere.answer("rest") == whole[split:]


def test_an_answer_does_not_depend_on_who_runs_beside_it() -> None:
    alone, crowded = Bench(), Bench(blocks=30)
    alone.add("one", prompt(30, 1), 20)
    for number in range(6):
        crowded.add(f"other {number}", prompt(30, 2), 9)
    crowded.add("one", prompt(30, 1), 20)
    alone.run()
    crowded.run()
    assert crowded.answer("one") == alone.answer("one")


def test_prompts_are_computed_in_chunks_within_the_pass_budget() -> None:
    bench = Bench()
    for number in range(3):
        bench.add(str(number), prompt(30, number))
    computed = 0
    for planned in bench.passes():
        tokens = sum(tokens for _, tokens in planned.chunks)
        assert tokens <= PROFILE.tokens_per_pass
        computed += tokens
    assert computed == 90


def test_a_long_prompt_does_not_stop_answers_from_flowing() -> None:
    bench = Bench()
    bench.add("short", prompt(4, 1), 5)
    bench.add("long", prompt(100, 2), 5)
    bench.run()
    assert bench.order == ["short", "long"]


def test_pulled_kv_costs_no_prompt_budget_and_is_moved_once() -> None:
    bench = Bench()
    bench.add("pull", prompt(60, 1), 3, kv_handle=b"sim")
    planned = next(bench.passes())
    assert [tokens for _, tokens in planned.chunks] == [60]
    assert planned.duration_ms == PROFILE.transfer_pass_ms(60 * PROFILE.kv_bytes_per_token)
    bench = Bench()
    bench.add("pull", prompt(60, 1), 3, kv_handle=b"sim")
    bench.run()
    moved = [output.transferred_bytes for output in bench.outputs["pull"]]
    assert moved == [60 * PROFILE.kv_bytes_per_token, 0, 0]


def test_a_producer_holds_its_blocks_until_it_is_removed() -> None:
    bench = Bench()
    bench.add("held", prompt(10, 1), produce=True)
    bench.run()
    (output,) = bench.outputs["held"]
    assert (output.finish, output.kv_handle) == ("length", b"sim")
    assert bench.scheduler.pool.used == 3
    assert bench.scheduler.stats().running_requests == 0

    bench.scheduler.remove("held")
    assert bench.scheduler.pool.used == 0


def test_a_prompt_seen_before_is_cached_but_for_its_last_token() -> None:
    bench = Bench()
    for name in ("first", "again"):
        bench.add(name, prompt(12, 1))
        bench.run()
    assert [o.cached_tokens for o in bench.outputs["first"]] == [0] * 5
    assert [o.cached_tokens for o in bench.outputs["again"]] == [11] * 5


def test_only_whole_blocks_of_a_common_beginning_are_cached() -> None:
    bench = Bench()
    bench.add("first", [1, 2, 3, 4, 5, 6, 7, 8, 9])
    bench.run()
    bench.add("second", [1, 2, 3, 4, 5, 6, 99, 98, 97])
    bench.run()
    assert bench.outputs["second"][0].cached_tokens == BLOCK


def test_who_comes_first_is_admitted_first_even_when_a_smaller_one_would_fit() -> None:
    bench = Bench(blocks=10)
    bench.add("big", prompt(30, 1), 4)
    bench.add("bigger", prompt(34, 2), 2)
    bench.add("small", prompt(2, 3), 2)
    first = next(bench.passes())
    assert [s.request.request_id for s, _ in first.chunks] == ["big"]
    bench.run()
    assert bench.order == ["big", "bigger", "small"]


def test_a_request_removed_during_a_pass_yields_nothing_from_it() -> None:
    bench = Bench()
    for name in ("stays", "goes"):
        bench.add(name, prompt(4, 1), 2)
    for step, _ in enumerate(bench.passes()):
        if step == 1:
            bench.scheduler.remove("goes")
    assert len(bench.answer("goes")) == 1
    assert len(bench.answer("stays")) == 2


def test_an_answer_ends_with_the_context() -> None:
    bench = Bench(context=20)
    bench.add("long", prompt(15, 1), 100)
    bench.run()
    assert len(bench.answer("long")) == 5
    assert bench.outputs["long"][-1].finish == "length"


def test_an_answer_without_room_to_grow_ends_rather_than_blocks_the_others() -> None:
    bench = Bench(blocks=8, context=200)
    for number in range(3):
        bench.add(str(number), prompt(4, number), 100)
    bench.run()
    assert sorted(bench.order) == ["0", "1", "2"]
    assert {outputs[-1].finish for outputs in bench.outputs.values()} == {"length"}


def test_the_end_of_answer_token_stops_it_unless_it_is_ignored() -> None:
    bench = Bench(context=2000, blocks=600)
    bench.add("ends", prompt(8, 1), 1500, ignore_eos=False)
    bench.add("goes on", prompt(8, 1), 1500, ignore_eos=True)
    bench.run()
    assert bench.outputs["ends"][-1].finish == "stop"
    assert bench.answer("ends")[-1] == EOS
    assert EOS not in bench.answer("goes on")
    assert len(bench.answer("goes on")) == 1500


def test_queued_tokens_are_those_still_to_be_computed_here() -> None:
    bench = Bench(running=1)
    bench.add("runs", prompt(20, 1), 1)
    bench.add("waits", prompt(30, 2), 1)
    bench.add("pulls", prompt(40, 3), 1, kv_handle=b"sim")
    passes = bench.passes()
    next(passes)
    assert bench.scheduler.stats().queued_prefill_tokens == 50
    next(passes)
    assert bench.scheduler.stats().queued_prefill_tokens == 34


def test_words_depend_on_the_whole_text_so_far_and_on_the_salt() -> None:
    def first(tokens: list[int], salt: int = 0) -> list[int]:
        source = TokenSource(tokens, WORDS, EOS, salt)
        return [source.next(ignore_eos=True) for _ in range(8)]

    assert first([1, 2]) == first([1, 2])
    assert len({tuple(first(t, s)) for t, s in (([1, 2], 0), ([2, 1], 0), ([1, 2], 1))}) == 3
