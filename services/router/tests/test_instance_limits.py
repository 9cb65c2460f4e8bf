"""An instance's own limit is not the caller's: the router places the request again, and waits."""

from typing import Any

import pytest

from argosy.domain.errors import ArgosyError, Reason

FULL = "OVERLOADED"
EVERY_POLICY = pytest.mark.parametrize(
    "policy", ["least_cost", "least_loaded", "round_robin", "lmetric", "dynamo_kv_cost"]
)


@EVERY_POLICY
def test_a_request_that_an_instance_had_no_room_for_goes_to_another(
    new_router: Any, policy: str
) -> None:
    router = new_router(policy=policy)
    router.join("decode-0")
    router.join("decode-1")
    (first,) = router.arrive("a").decoded_at
    again = router.fail("a", at=first, reason=FULL).dispatch

    assert again.decode != first
    assert router.instance(first).live


@EVERY_POLICY
def test_where_all_are_full_a_request_waits_for_the_next_report_however_often_it_is_refused(
    new_router: Any, policy: str
) -> None:
    router = new_router(policy=policy, attempts_max=2)
    router.join("decode-0")
    router.arrive("a")
    for attempt in range(5):
        assert not router.fail("a", at="decode-0", reason=FULL, attempt=attempt).dispatches
        assert router.queued == ["a"]
        router.pass_time(1000)
        assert router.load("decode-0").dispatch.attempt == attempt + 1


@EVERY_POLICY
def test_a_full_prefill_instance_is_passed_over_until_it_reports(
    new_router: Any, policy: str
) -> None:
    router = new_router(policy=policy)
    router.join("decode-0")
    router.join("prefill-0", "prefill")
    router.join("prefill-1", "prefill")
    router.state.refusing["prefill-0"] = router.now_us
    sent = [router.arrive(str(number)).dispatch.prefill for number in range(3)]
    assert "prefill-0" not in sent
    router.pass_time(1000)
    router.load("prefill-0")
    assert router.state.refusing == {}


def test_a_report_made_before_the_refusal_does_not_say_that_there_is_room(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.load("decode-0")
    router.arrive("a")
    router.pass_time(1000)
    router.fail("a", at="decode-0", reason=FULL)
    assert not router.load("decode-0", lag_us=1000).dispatches
    router.pass_time(1000)
    assert router.load("decode-0").sent == ["a"]


def test_an_instance_is_sent_no_more_than_it_says_it_takes(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", max_running=8, requests_max=3)
    for number in range(5):
        router.arrive(str(number))
    assert router.instance("decode-0").requests == 3
    assert router.queued == ["3", "4"]


def test_of_what_an_instance_takes_each_rank_has_its_share(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", max_running=8, requests_max=6, dp_ranks=2)
    for number in range(8):
        router.arrive(str(number))
    assert [rank.requests for rank in router.instance("decode-0").ranks] == [3, 3]


def test_an_expired_ticket_is_no_failure_and_faults_nobody(new_router: Any) -> None:
    router = new_router(attempts_max=1)
    router.join("decode-0")
    router.arrive("a")
    again = router.fail("a", at="decode-0", reason="TICKET_EXPIRED").dispatch
    assert (again.decode, again.attempt) == ("decode-0", 1)
    assert router.instance("decode-0").live


def test_a_direct_caller_whose_instance_was_full_is_sent_elsewhere_and_the_instance_stays(
    new_router: Any,
) -> None:
    router = new_router()
    router.join("decode-0")
    router.join("decode-1")
    rerouted = router.arrive(
        "a",
        attempt=1,
        direct=True,
        failed_instance="decode-0",
        failed_address="decode-0:e1",
        failed_reason=FULL,
    )
    assert rerouted.decoded_at == ["decode-1"]
    assert router.instance("decode-0").live


def test_a_new_process_of_a_full_instance_is_not_full(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.arrive("a")
    router.fail("a", at="decode-0", reason=FULL)
    assert router.join("decode-0", epoch="e2").sent == ["a"]
    assert router.state.refusing == {}


@pytest.mark.parametrize(
    ("reason", "instance", "elsewhere"),
    [
        (Reason.OVERLOADED, "decode-0", True),
        (Reason.TICKET_EXPIRED, "decode-0", True),
        (Reason.OVERLOADED, "", False),
        (Reason.TICKET_FORGED, "decode-0", False),
        (Reason.INSTANCE_LOST, "", True),
    ],
)
def test_a_full_queue_is_the_caller_s_when_it_is_the_router_s_own(
    reason: Reason, instance: str, elsewhere: bool
) -> None:
    assert ArgosyError(reason, "", instance=instance).may_succeed_elsewhere is elsewhere


def test_what_a_full_instance_caches_draws_nothing_to_it_in_a_fleet_with_a_shortlist(
    new_router: Any,
) -> None:
    router = new_router()
    for number in range(40):
        router.join(f"decode-{number:02}", max_running=50, kv_blocks=1000)
    router.store("decode-39", range(90))
    router.state.refusing["decode-39"] = router.now_us
    assert router.arrive("a", 3000, blocks=list(range(90))).decoded_at != ["decode-39"]
    router.pass_time(1000)
    router.load("decode-39")
    assert router.arrive("b", 3000, blocks=list(range(90))).decoded_at == ["decode-39"]
