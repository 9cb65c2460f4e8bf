"""Who is next: bands, tenants' fair shares, ageing, short before long."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.domain.core import TimerFired
from argosy.domain.timing import Timing
from argosy.router.core.placement import admission
from argosy.router.core.placement.admission import AGED_TURN, AGED_US, SERVED_HALF_US
from argosy.router.core.router import SWEEP

MS, S = 1_000, 1_000_000
TENTH_MS_PER_TOKEN = Timing(prefill_ms=(0, 0.1, 0), decode_ms=(0, 0, 0))


def queueing(new_router: Any, **limits: Any) -> Any:
    """A router where everything waits for one instance, which is full until it is `served`."""
    usual = {"policy": "round_robin", "queue_limit": 1000, "wait_us": 600 * S}
    router = new_router(**(usual | limits))
    router.join("decode-0", max_running=1, kv_blocks=100_000)
    router.load("decode-0", running=2)
    return router


def served(router: Any, requests: int = 1000) -> list[str]:
    """The order in which so many are served, two at a time; then the instance is full again."""
    running = router.load("decode-0").sent
    order: list[str] = []
    while running and len(order) < requests:
        order.append(running.pop(0))
        running += router.end(order[-1]).sent
    router.load("decode-0", running=2)
    for request_id in running:
        router.end(request_id)
    return order + running


def test_higher_bands_go_first_strictly(new_router: Any) -> None:
    router = queueing(new_router)
    for name, priority in (("b", 0), ("c", 0), ("top", 7), ("mid", 1)):
        router.arrive(name, priority=priority)
    assert served(router) == ["top", "mid", "b", "c"]


def test_a_tenants_requests_go_in_order_of_arrival(new_router: Any) -> None:
    router = queueing(new_router)
    for name in "dacb":
        router.arrive(name)
        router.pass_time(MS)
    assert served(router) == list("dacb")


def test_a_quiet_tenant_does_not_wait_behind_a_noisy_ones_queue(new_router: Any) -> None:
    router = queueing(new_router)
    for number in range(50):
        router.arrive(f"noisy-{number}", tenant="noisy")
    for number in range(3):
        router.arrive(f"quiet-{number}", tenant="quiet")
    first = served(router)[:8]
    assert [name for name in first if name.startswith("quiet")] == ["quiet-0", "quiet-1", "quiet-2"]


@given(
    prompts=st.lists(
        st.tuples(st.sampled_from(["t1", "t2", "t3"]), st.integers(1, 3000)), max_size=30
    )
)
def test_tenants_that_wait_have_had_the_same_up_to_a_prompt_or_two(
    new_router: Any, prompts: list[tuple[str, int]]
) -> None:
    router = queueing(new_router)
    left: dict[str, int] = {}
    for number, (tenant, tokens) in enumerate(prompts):
        router.arrive(str(number), tokens, tenant=tenant)
        left[tenant] = left.get(tenant, 0) + 1
    had = dict.fromkeys(left, 0)
    for request_id in served(router):
        tenant, tokens = prompts[int(request_id)]
        had[tenant] += tokens
        left[tenant] -= 1
        waiting = [had[name] for name in left if left[name]]
        assert max(waiting, default=0) - min(waiting, default=0) <= 2 * 3000


def test_tokens_that_were_cached_are_not_charged(new_router: Any) -> None:
    router = queueing(new_router)
    prompt = [*range(1, 11)]
    for number in range(10):
        router.arrive(f"cached-{number}", 320, tenant="cached", blocks=prompt)
        router.arrive(f"fresh-{number}", 320, tenant="fresh", blocks=[100 + number])
    router.store("decode-0", prompt[:9])
    router.pass_time(S)
    first = served(router)[:9]
    assert sum(name.startswith("cached") for name in first) >= 6


@pytest.mark.parametrize(("cached_tokens", "charged"), [(None, 150), (60, 90), (100, 50)])
def test_a_tenant_is_charged_what_was_really_computed(
    new_router: Any, cached_tokens: int | None, charged: int
) -> None:
    router = new_router()
    router.join("decode-0")
    router.arrive("a", 100, tenant="t")
    router.end("a", output_tokens=50, cached_tokens=cached_tokens)
    assert router.state.tenants["t"].served_tokens == charged


def test_the_tenant_that_had_least_of_late_goes_first(new_router: Any) -> None:
    router = queueing(new_router)
    for number in range(40):
        router.arrive(f"busy-{number}", tenant="busy")
    served(router, requests=20)
    for number in range(10):
        router.arrive(f"back-{number}", tenant="back")
    assert all(name.startswith("back") for name in served(router)[:10])


def test_what_a_tenant_had_long_ago_counts_no_more(new_router: Any) -> None:
    router = queueing(new_router)
    router.load("decode-0")
    for number in range(50):
        router.arrive(f"alone-{number}", tenant="busy")
        router.end(f"alone-{number}")
    router.pass_time(20 * SERVED_HALF_US)
    router.load("decode-0", running=2)
    for number in range(20):
        router.arrive(f"back-{number}", tenant="back")
        router.arrive(f"busy-{number}", tenant="busy")
    assert 4 <= sum(name.startswith("back") for name in served(router)[:10]) <= 6


def test_background_starves_behind_no_stream_of_others(new_router: Any) -> None:
    router = queueing(new_router)
    router.arrive("background", priority=-1)
    router.pass_time(AGED_US)
    for number in range(100):
        router.arrive(f"r{number}")
    order = served(router)
    assert order.index("background") <= AGED_TURN


def test_only_one_turn_in_many_goes_to_the_aged(new_router: Any) -> None:
    router = queueing(new_router)
    for number in range(20):
        router.arrive(f"background-{number}", priority=-1)
    router.pass_time(AGED_US)
    for number in range(3 * AGED_TURN):
        router.arrive(f"r{number}")
    first = served(router)[: 2 * AGED_TURN]
    assert sum(name.startswith("background") for name in first) <= 3


class VisitedTenants(dict[str, Any]):
    """Counts the tenants that are looked at, one by one or in passing."""

    visits = 0

    def __getitem__(self, name: str) -> Any:
        self.visits += 1
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.visits += 1
        return super().get(name, default)

    def __iter__(self) -> Iterator[str]:
        for name in super().__iter__():
            self.visits += 1
            yield name

    def keys(self) -> Any:
        return list(self)

    def values(self) -> Any:
        return [self[name] for name in self]

    def items(self) -> Any:
        return [(name, self[name]) for name in self]


@pytest.mark.parametrize("event", ["arrival", "end", "report", "sweep"])
def test_tenants_that_do_not_wait_are_not_looked_at_while_requests_queue(
    new_router: Any, event: str
) -> None:
    """Whatever happens, the cost does not grow with the tenants ever seen."""
    visits = []
    for remembered in (3, 300):
        router = queueing(new_router)
        router.load("decode-0")
        for number in range(remembered):
            router.arrive(f"past-{number}", tenant=f"tenant-{number}")
            router.end(f"past-{number}")
        router.arrive("runs", tenant="tenant-0")
        router.load("decode-0", running=2)
        for number in range(9):
            router.arrive(f"waits-{number}", tenant=f"tenant-{number % 3}")
        tenants = router.state.tenants = VisitedTenants(router.state.tenants)
        match event:
            case "arrival":
                router.arrive("new", tenant="tenant-1")
            case "end":
                router.end("runs")
            case "report":
                router.load("decode-0", running=1)
            case "sweep":
                router.pass_time(S)
        visits.append(tenants.visits)
    assert visits[0] == visits[1] > 0


def test_beyond_its_bound_the_tenants_forgotten_are_idle_and_were_used_longest_ago(
    new_router: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "TENANTS_MAX", 4)
    router = queueing(new_router)
    router.arrive("waits", tenant="waits")
    for name in ("a", "b", "c", "d", "e", "a"):
        router.arrive(f"of-{name}", tenant=name)
        router.end(f"of-{name}")
    router.feed(TimerFired, key=SWEEP)
    assert list(router.state.tenants) == ["waits", "d", "e", "a"]


def full(new_router: Any) -> Any:
    router = new_router(queue_limit=1000)
    router.join("decode-0", timing=TENTH_MS_PER_TOKEN, max_running=1, kv_blocks=1000)
    router.load("decode-0", running=2)
    return router


@pytest.mark.parametrize(("later_us", "order"), [(100 * MS, "short long"), (2 * S, "long short")])
def test_a_short_prompt_goes_ahead_of_a_long_one_that_came_just_before(
    new_router: Any, later_us: int, order: str
) -> None:
    router = full(new_router)
    router.arrive("long", 4000)
    router.pass_time(later_us)
    router.arrive("short", 100)
    assert router.load("decode-0").sent == order.split()


def test_a_long_prompt_does_not_yield_to_short_ones_for_ever(new_router: Any) -> None:
    router = full(new_router)
    router.arrive("long", 4000)
    for number in range(100):
        router.arrive(f"short-{number}", 100)
        router.pass_time(50 * MS)
    router.join("decode-1", timing=TENTH_MS_PER_TOKEN, max_running=100, kv_blocks=10_000)
    assert "long" not in router.queued
