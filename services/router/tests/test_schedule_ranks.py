"""Data-parallel ranks in lockstep: what goes together is spread so that no rank is the slowest."""

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from argosy.domain.timing import Timing
from argosy.router.core.events import RankLoad

MS, S = 1_000, 1_000_000
TENTH_MS_PER_TOKEN = Timing(prefill_ms=(0, 0.1, 0), decode_ms=(0, 0, 0), transfer_ms=0)


def batch(new_router: Any, prompts: list[int], ranks: int, instances: int = 1) -> Any:
    """All that waited when instances of so many ranks joined: (router, what was sent)."""
    router = new_router(queue_limit=1000)
    router.join("decode-0", context=100_000)
    router.leave("decode-0")
    for number, tokens in enumerate(prompts):
        router.arrive(str(number), tokens)
    sent = []
    for number in range(instances):
        sent += router.join(
            f"decode-{number}",
            epoch="e2",
            timing=TENTH_MS_PER_TOKEN,
            max_running=1000,
            kv_blocks=100_000,
            dp_ranks=ranks,
            context=100_000,
        ).dispatches
    return sent


def tokens_by_rank(sent: Any, ranks: int) -> list[int]:
    found = [0] * ranks
    for dispatch in sent:
        found[dispatch.prefill_rank] += dispatch.uncached_tokens
    return found


def test_a_batch_is_spread_over_the_ranks_longest_first(new_router: Any) -> None:
    prompts = [20 + 370 * number % 997 for number in range(40)]
    sent = batch(new_router, prompts, ranks=4)
    loads = tokens_by_rank(sent, 4)
    assert sum(loads) == sum(prompts)
    assert max(loads) <= 1.06 * sum(loads) / 4


def best_split(prompts: list[int], ranks: int) -> int:
    """The heaviest rank's tokens in the most even split there is, by trying all."""
    by_length = sorted(prompts, reverse=True)
    best = sum(prompts)
    splits = {(0,) * ranks}
    for tokens in by_length:
        # Ranks are alike: of splits that are the same but for their order one is enough.
        splits = {
            tuple(sorted((*split[:n], split[n] + tokens, *split[n + 1 :])))
            for split in splits
            for n in range(ranks)
        }
    for split in splits:
        best = min(best, max(split))
    return best


@given(prompts=st.lists(st.integers(1, 900), min_size=1, max_size=9), ranks=st.integers(2, 4))
@example(prompts=[14, 14, 15, 15, 15, 37], ranks=3)
def test_the_heaviest_rank_has_at_most_a_third_more_than_the_best_split(
    new_router: Any, prompts: list[int], ranks: int
) -> None:
    """The bound of longest-first (Graham, 1969)."""
    sent = batch(new_router, prompts, ranks)
    assert len(sent) == len(prompts)
    heaviest = max(tokens_by_rank(sent, ranks))
    assert heaviest <= 4 / 3 * best_split(prompts, ranks) + 1


def test_ranks_of_one_instance_begin_together(new_router: Any) -> None:
    sent = batch(new_router, [4000] * 4, ranks=4)
    assert sorted(dispatch.prefill_rank for dispatch in sent) == [0, 1, 2, 3]


def test_a_rank_without_work_waits_for_the_step_of_the_others(new_router: Any) -> None:
    router = new_router()
    router.join(
        "decode-0",
        timing=TENTH_MS_PER_TOKEN,
        dp_ranks=2,
        max_running=9,
        kv_blocks=999,
        context=100_000,
    )
    first = router.arrive("a", 4000).dispatch
    router.pass_time(10 * MS)
    assert router.arrive("b", 100).sent == []
    second = router.pass_time(400 * MS).dispatch
    assert (second.request_id, second.prefill_rank) == ("b", 1 - first.prefill_rank)


def test_decodes_go_where_batch_and_kv_are_least(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", dp_ranks=4, max_running=100, kv_blocks=1000)
    placed = []
    for number in range(16):
        placed.append(router.arrive(str(number), 320, max_tokens=1000).dispatch.decode_rank)
        router.pass_time(S)
        router.load("decode-0")
    assert sorted(placed) == sorted(4 * [0, 1, 2, 3])


def test_a_rank_that_holds_far_more_kv_than_its_siblings_gets_nothing_new(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", dp_ranks=5, max_running=100, kv_blocks=1000)
    loads = [RankLoad(9, 0, 0, 100 + number) for number in range(4)] + [RankLoad(1, 0, 0, 600)]
    router.load_ranks("decode-0", loads)
    placed = [router.arrive(str(number), 32).dispatch.decode_rank for number in range(8)]
    assert 4 not in placed


def test_where_all_but_an_outlier_are_full_it_is_used(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", dp_ranks=5, max_running=5, kv_blocks=1000)
    loads = [RankLoad(10, 0, 0, 100 + number) for number in range(4)] + [RankLoad(1, 0, 0, 600)]
    router.load_ranks("decode-0", loads)
    assert router.arrive("a", 32).dispatch.decode_rank == 4
