"""When a request leaves the router: at once while a rank is idle, else when one is to be."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.domain.timing import Timing
from argosy.router.core.fleet.candidates import WINDOW_US_MAX, Candidates, Choice, Planned
from argosy.router.core.placement.admission import AGED_TURN
from argosy.router.core.placement.policies import RoutingPolicy, least_cost
from argosy.router.core.placement.schedule import DEFERRED_US_MAX
from argosy.router.core.router import RouterCore
from argosy.router.core.state import RouterState, TrackedRequest

MS, S = 1_000, 1_000_000
TENTH_MS_PER_TOKEN = Timing(prefill_ms=(0, 0.1, 0), decode_ms=(0, 0, 0), transfer_ms=0)
prompts = st.integers(1, 4000)


def fleet(new_router: Any, instances: int, *, role: str = "decode", **fields: Any) -> Any:
    """Instances that take 0.1 ms a token, with room for all that comes."""
    router = new_router(queue_limit=10_000)
    for number in range(instances):
        router.join(
            f"{role}-{number:02}",
            role,
            timing=TENTH_MS_PER_TOKEN,
            max_running=1000,
            kv_blocks=100_000,
            context=100_000,
            **fields,
        )
    return router


@given(instances=st.integers(1, 6), prompts=st.lists(prompts, min_size=1, max_size=30))
def test_while_some_rank_is_idle_everything_goes_in_the_step_it_arrived(
    new_router: Any, instances: int, prompts: list[int]
) -> None:
    """Each takes at most as long as it is until its instance's next turn."""
    router = fleet(new_router, instances)
    for number, tokens in enumerate(prompts):
        assert router.arrive(str(number), tokens).sent == [str(number)]
        router.pass_time(400 * MS // instances + 1)


@pytest.mark.parametrize("gap_us", [0, 10])
@pytest.mark.parametrize("instances", [1, 5, 40])
def test_a_burst_as_wide_as_the_idle_fleet_goes_in_the_step_it_arrived(
    new_router: Any, instances: int, gap_us: int
) -> None:
    router = fleet(new_router, instances)
    placed = []
    for number in range(instances):
        placed += router.arrive(str(number), 3000).prefilled_at
        router.now_us += gap_us
    assert sorted(placed) == sorted(router.state.instances)


def test_while_all_are_busy_a_request_waits_here(new_router: Any) -> None:
    router = fleet(new_router, 2)
    router.arrive("a", 4000)
    router.arrive("b", 4000)
    router.pass_time(MS)
    assert router.arrive("c", 100).sent == []


@given(
    instances=st.integers(1, 4),
    ranks=st.integers(1, 3),
    prompts=st.lists(prompts, min_size=1, max_size=30),
    gap_us=st.sampled_from([0, 1, 10 * MS]),
)
def test_without_one_report_all_that_waits_goes_when_the_ledger_expects_ranks_idle(
    new_router: Any, instances: int, ranks: int, prompts: list[int], gap_us: int
) -> None:
    """Never a freeze: nothing happens but that timers fire."""
    router = fleet(new_router, instances, dp_ranks=ranks)
    sent = []
    for number, tokens in enumerate(prompts):
        sent += router.arrive(str(number), tokens).sent
        sent += router.pass_time(gap_us).sent
    work_us = 100 * sum(prompts)
    sent += router.pass_time(work_us // instances + 100 * max(prompts) + DEFERRED_US_MAX).sent
    assert sorted(sent) == sorted(str(number) for number in range(len(prompts)))


@given(
    instances=st.integers(1, 5),
    prompts=st.lists(prompts, min_size=1, max_size=30),
    gaps_us=st.lists(st.integers(0, 100 * MS), min_size=30, max_size=30),
)
def test_no_instance_is_idle_for_long_while_a_request_waits(
    new_router: Any, instances: int, prompts: list[int], gaps_us: list[int]
) -> None:
    """An instance is idle once the ledger says so; a look at it is always at hand."""
    router = fleet(new_router, instances)
    idle_since_us: int | None = None
    for number, tokens in enumerate(prompts):
        router.arrive(str(number), tokens)
        until_us = router.now_us + gaps_us[number]
        while router.now_us < until_us or (number == len(prompts) - 1 and router.queued):
            if router.queued:
                assert router.now_us < router.timers["window"] <= router.now_us + DEFERRED_US_MAX
            idle = any(
                instance.step_ends_us <= router.now_us
                for instance in router.state.instances.values()
            )
            if not (idle and router.queued):
                idle_since_us = None
            elif idle_since_us is None:
                idle_since_us = router.now_us
            else:
                assert router.now_us - idle_since_us <= DEFERRED_US_MAX
            router.pass_time(MS)


def test_requests_of_one_tenant_and_size_go_in_their_order(new_router: Any) -> None:
    router = fleet(new_router, 1, tokens_per_step=100)
    router.leave("decode-00")
    names = [f"r{number:02}" for number in range(12)]
    for name in names:
        router.arrive(name, 1000)
        router.pass_time(1)
    told = router.join("decode-1", timing=TENTH_MS_PER_TOKEN, max_running=99, kv_blocks=9999)
    order = told.sent + router.pass_time(3 * S).sent
    assert order == names


def test_what_does_not_fit_the_first_batch_of_a_round_is_next_in_the_same_round(
    new_router: Any,
) -> None:
    router = fleet(new_router, 1)
    router.leave("decode-00")
    for name, tokens in (("a", 6000), ("b", 1000), ("c", 1000), ("d", 400)):
        router.arrive(name, tokens)
    told = router.join(
        "decode-1",
        timing=TENTH_MS_PER_TOKEN,
        max_running=9,
        kv_blocks=9999,
        dp_ranks=2,
        tokens_per_step=2500,
    )
    assert told.sent == ["a", "b", "c", "d"]


@pytest.mark.parametrize("step_us", [0, 100 * MS, 3600 * S])
def test_the_window_is_bounded_whatever_steps_are_said_to_last(
    new_router: Any, step_us: int
) -> None:
    router = fleet(new_router, 1)
    router.load("decode-00", step_us=step_us)
    router.pass_time(S)
    router.arrive("a", 8000)
    router.pass_time(1)
    sent_early = router.arrive("b", 100)
    assert sent_early.sent == []
    assert router.pass_time(800 * MS - WINDOW_US_MAX - 10 * MS).sent == []
    assert router.pass_time(WINDOW_US_MAX + 20 * MS).sent == ["b"]


def test_background_leaves_three_quarters_of_the_ranks_idle(new_router: Any) -> None:
    router = fleet(new_router, 8)
    sent = []
    for number in range(8):
        sent += router.arrive(f"low-{number}", 3000, priority=-1).sent
    assert len(sent) == 2
    assert router.arrive("high", 3000).sent == ["high"]


def test_background_waits_while_every_rank_has_something_to_do(new_router: Any) -> None:
    router = fleet(new_router, 2)
    for name in "ab":
        router.arrive(name, 1000)
    router.pass_time(98 * MS)
    assert router.arrive("low", 100, priority=-1).sent == []
    assert router.arrive("high", 100).sent == ["high"]


def test_background_still_progresses(new_router: Any) -> None:
    router = fleet(new_router, 2)
    for number in range(6):
        router.arrive(f"low-{number}", 1000, priority=-1)
    router.pass_time(6 * 100 * MS + 6 * DEFERRED_US_MAX + S)
    assert router.queued == []


def test_background_progresses_behind_a_saturating_stream(new_router: Any) -> None:
    """A turn in so many is the aged one's, and an idle rank is found for it in time."""
    router = fleet(new_router, 1)
    router.arrive("low", 100, priority=-1)
    router.arrive("first", 1000)
    for number in range(100 * AGED_TURN):
        router.arrive(f"r{number}", 1000)
        router.pass_time(100 * MS)
        if "low" not in router.queued:
            break
    assert "low" not in router.queued


class RecordingPolicy:
    """least_cost; `planned` is what was promised of each rank when a request was decided."""

    def __init__(self) -> None:
        self.planned: dict[str, dict[str, int]] = {}

    def choose(
        self,
        state: RouterState,
        candidates: Candidates,
        request: TrackedRequest,
        now_us: int,
        planned: Planned,
    ) -> Choice | None:
        name = next(name for name, known in state.requests.items() if known is request)
        self.planned[name] = dict(planned)
        return least_cost.choose(state, candidates, request, now_us, planned)


@pytest.mark.parametrize(
    ("tenant", "planned"), [("quiet", {}), ("loud", {"decode-00/0": 100})], ids=["ahead", "behind"]
)
def test_a_deferred_request_takes_its_rank_from_those_behind_it_only(
    new_router: Any, tenant: str, planned: dict[str, int]
) -> None:
    """It waits for decode-00, which has all but 100 tokens of it; decode-01 is idle."""
    router, policy = fleet(new_router, 2), RecordingPolicy()
    router.core = RouterCore(router.state, RoutingPolicy(policy.choose, staggered=True))
    router.store("decode-00", range(100))
    router.arrive("runs", 4200, tenant="loud", blocks=list(range(100)))
    router.now_us += MS
    assert router.arrive("deferred", 3300, tenant="loud", blocks=list(range(100))).sent == []
    router.now_us += MS
    router.arrive("new", 500, tenant=tenant)
    assert policy.planned["new"] == planned


@pytest.mark.parametrize(("tokens", "leaves"), [(400, True), (401, False)])
def test_a_prompt_does_not_overshoot_a_step_that_others_are_in(
    new_router: Any, tokens: int, leaves: bool
) -> None:
    router = fleet(new_router, 1, tokens_per_step=1000)
    assert router.arrive("a", 600).sent == ["a"]
    assert router.arrive("b", tokens).sent == ["b"] * leaves


def test_a_prompt_longer_than_a_step_goes_to_an_idle_rank_at_once(new_router: Any) -> None:
    router = fleet(new_router, 1, tokens_per_step=1000)
    assert router.arrive("a", 5000).sent == ["a"]
