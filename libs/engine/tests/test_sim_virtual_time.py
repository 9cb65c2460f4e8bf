"""Passes planned ahead in virtual time are the steps a live engine runs one by one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.engine.sim.scheduler import EngineStep

AHEAD = 1 << 20
KINDS = ["answer", "pull", "hold"]


@dataclass(frozen=True)
class VirtualArrival:
    """One request of a workload; removed_us after it came it is gone, if given."""

    at_us: int
    prompt_tokens: int
    family: int
    answer_tokens: int
    kind: str
    rank: int
    removed_us: int | None


ARRIVALS = st.lists(
    st.builds(
        VirtualArrival,
        st.integers(0, 600_000),
        st.integers(1, 40),
        st.integers(0, 2),
        st.integers(1, 24),
        st.sampled_from(KINDS),
        st.integers(0, 2),
        st.none() | st.integers(0, 400_000),
    ),
    min_size=1,
    max_size=12,
)


def events(
    bench: Any, prompt: Any, work: list[VirtualArrival], moments: list[int]
) -> Iterator[Any]:
    """Arrivals, removals, and moments at which something comes up that changes nothing."""

    def arrival(number: int, one: VirtualArrival) -> Callable[[], None]:
        return lambda: bench.add(
            str(number),
            prompt(one.prompt_tokens, one.family),
            one.answer_tokens,
            hold=one.kind == "hold",
            pull=one.kind == "pull",
            rank=one.rank % bench.dp_ranks,
        )

    found: list[tuple[int, Callable[[], Any]]] = [(at_us, lambda: None) for at_us in moments]
    for number, one in enumerate(work):
        found.append((one.at_us, arrival(number, one)))
        if one.removed_us is not None:
            gone_us = one.at_us + one.removed_us
            found.append((gone_us, lambda name=str(number): bench.scheduler.remove(name)))
    return iter(sorted(found, key=lambda event: event[0]))


def outcome(bench: Any, work: list[VirtualArrival]) -> dict[str, Any]:
    """All that anyone could tell apart. Of requests that are removed, nobody hears more."""
    stays = [str(n) for n, one in enumerate(work) if one.removed_us is None]
    return {
        "tokens": {name: bench.tokens[name] for name in stays},
        "cached": {name: bench.sequences[name].cached for name in stays},
        "preemptions": {name: bench.sequences[name].preemptions for name in stays},
        "changes": bench.changes,
        "pulled": bench.pulled,
        "steps": bench.steps_done,
        "ended_us": bench.now_us,
        "known": [rank.pool.known_blocks() for rank in bench.scheduler.ranks],
        "stats": bench.scheduler.stats(),
    }


@settings(max_examples=examples(150))
@given(
    work=ARRIVALS,
    moments=st.lists(st.integers(0, 2_000_000), max_size=20),
    blocks=st.integers(16, 40),
    running=st.integers(1, 6),
    ranks=st.integers(1, 3),
)
def test_steps_planned_ahead_and_cut_at_any_moment_are_the_steps_run_one_by_one(
    bench: Any,
    prompt: Any,
    work: list[VirtualArrival],
    moments: list[int],
    blocks: int,
    running: int,
    ranks: int,
) -> None:
    live = bench(blocks, running, ranks, steps_max=1)
    live.run(events(live, prompt, work, moments))
    ahead = bench(blocks, running, ranks, steps_max=AHEAD)
    ahead.run(events(ahead, prompt, work, moments))
    assert outcome(ahead, work) == outcome(live, work)
    assert ahead.heard() == ahead.known() == live.heard()


def test_the_workloads_above_can_plan_ahead_pull_and_preempt(bench: Any, prompt: Any) -> None:
    work = [VirtualArrival(0, 16, n, 24, KINDS[n % 2], n, None) for n in range(6)]
    ahead = bench(16, 4, 2, steps_max=AHEAD)
    ahead.run(events(ahead, prompt, work, []))
    assert ahead.plans < ahead.steps_done
    assert len(ahead.pulled) == 3
    assert sum(sequence.preemptions for sequence in ahead.sequences.values())


def test_alone_an_answer_is_planned_one_block_at_a_time(bench: Any, prompt: Any) -> None:
    one = bench(steps_max=AHEAD)
    one.add("one", prompt(4), 12)
    assert [planned.steps for planned in one.run()] == [1, 4, 4, 3]


def test_no_more_steps_are_planned_ahead_than_asked_for(bench: Any, prompt: Any) -> None:
    one = bench(steps_max=3)
    one.add("one", prompt(4), 9)
    assert max(planned.steps for planned in one.run()) == 3


@pytest.mark.parametrize(
    ("cut_us", "steps"), [(100, 1), (101, 1), (110, 1), (111, 2), (120, 2), (149, 5), (500, 5)]
)
def test_a_step_that_is_cut_ends_with_the_one_under_way(cut_us: int, steps: int) -> None:
    planned = EngineStep(started_us=100, each_us=10, steps=5, shares=[])
    planned.cut(cut_us)
    assert (planned.steps, planned.ends_us) == (steps, 100 + 10 * steps)


def test_a_first_token_is_told_when_it_is_there_and_not_with_those_after_it(
    bench: Any, prompt: Any
) -> None:
    one = bench(steps_max=AHEAD)
    one.add("pulled", prompt(5), 20, pull=True)
    first, second, *_ = one.run()
    assert first.ends_us == one.tokens["pulled"][0].at_us
    assert (first.steps, second.steps) == (1, 3)
