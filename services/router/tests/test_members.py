"""Which instances are used: joined, left, silent, failed, forgotten."""

from typing import Any

import pytest

from argosy.router.core import effects, events
from argosy.router.core.fleet.members import EARLY_MAX, FORGET_US

MS, S = 1_000, 1_000_000


def test_a_report_of_another_epoch_changes_nothing(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", epoch="e2")
    before = router.snapshot()
    assert router.load("decode-0", running=4, epoch="e1") == []
    assert router.snapshot() == before


def test_a_silent_instance_is_not_used_while_the_bus_is_there(new_router: Any) -> None:
    router = new_router()
    router.feed(events.BusChanged, connected=True)
    router.join("decode-0")
    router.pass_time(4 * S)
    assert router.arrive("a").sent == []
    assert router.load("decode-0").decoded_at == ["decode-0"]


def test_a_silent_instance_is_used_while_the_bus_is_away(new_router: Any) -> None:
    router = new_router()
    router.feed(events.BusChanged, connected=True)
    router.join("decode-0")
    router.feed(events.BusChanged, connected=False)
    router.pass_time(100 * S)
    assert router.arrive("a").decoded_at == ["decode-0"]


def test_a_bus_that_comes_back_gives_instances_time_to_speak(new_router: Any) -> None:
    router = new_router()
    router.feed(events.BusChanged, connected=False)
    router.join("decode-0")
    router.pass_time(100 * S)
    router.feed(events.BusChanged, connected=True)
    router.pass_time(2 * S)
    assert router.arrive("a").decoded_at == ["decode-0"]


def test_instances_silent_all_at_once_are_used_for_it_is_the_bus_that_is_gone(
    new_router: Any,
) -> None:
    router = new_router()
    router.feed(events.BusChanged, connected=True)
    router.join("decode-0")
    router.join("decode-1")
    router.pass_time(100 * S)
    assert len(router.arrive("a").sent) == 1


def test_an_instance_announced_long_ago_is_used_once_it_is_heard_of(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", ago_us=4 * S)
    assert router.arrive("a").sent == []
    assert router.load("decode-0").decoded_at == ["decode-0"]


def test_an_instance_gone_for_long_is_forgotten_and_its_model_is_not(new_router: Any) -> None:
    router = new_router()
    router.feed(events.BusChanged, connected=True)
    router.join("decode-0")
    router.leave("decode-0", reason="scaled away")
    router.pass_time(FORGET_US + S)
    assert (router.state.instances, router.state.early) == ({}, {})
    assert router.state.models == {"m": 4096}


def test_a_failed_instance_is_not_used_until_it_is_heard_of_again(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.arrive("a")
    assert router.fail("a", at="decode-0").sent == []
    assert router.load("decode-0", lag_us=10 * MS).sent == []
    router.pass_time(MS)
    assert router.load("decode-0").decoded_at == ["decode-0"]


def test_a_failed_instance_is_used_once_it_announces_itself_again(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0")
    router.arrive("a")
    router.fail("a", at="decode-0")
    assert router.join("decode-0", epoch="e2").decoded_at == ["decode-0"]


@pytest.mark.parametrize("sign_of_life", ["load", "rejoin"])
def test_a_goodbye_is_only_undone_by_a_new_epoch(new_router: Any, sign_of_life: str) -> None:
    router = new_router()
    router.join("decode-0")
    router.leave("decode-0", reason="draining")
    router.pass_time(S)
    router.load("decode-0") if sign_of_life == "load" else router.join("decode-0")
    assert router.arrive("a").sent == []
    assert router.join("decode-0", epoch="e2").decoded_at == ["decode-0"]


def test_goodbyes_heard_before_the_announcements_still_hold(new_router: Any) -> None:
    router = new_router()
    for epoch in ("e1", "e2"):
        router.leave("decode-0", epoch, "its process exited with 1")
    for epoch in ("e1", "e2"):
        router.join("decode-0", epoch=epoch)
        assert not router.instance("decode-0").live
    router.join("decode-0", epoch="e3")
    assert router.instance("decode-0").live


def test_a_goodbye_of_an_older_epoch_leaves_the_newer_alone(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", epoch="e2")
    router.leave("decode-0", "e1", "its process exited with 1")
    assert router.arrive("a").decoded_at == ["decode-0"]


def test_an_announcement_of_an_older_process_does_not_replace_a_newer_one(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", epoch="e2", ago_us=S)
    assert router.join("decode-0", epoch="e1", ago_us=2 * S).all(effects.ForgetAddress) == []
    assert (router.instance("decode-0").epoch, router.instance("decode-0").live) == ("e2", True)


def test_an_announcement_of_an_older_process_is_no_sign_of_life_of_the_newer_one(
    new_router: Any,
) -> None:
    router = new_router()
    router.join("decode-0", epoch="e1", ago_us=2 * S)
    router.join("decode-0", epoch="e2", ago_us=S)
    router.arrive("a")
    router.fail("a", at="decode-0")
    assert router.join("decode-0", epoch="e1", ago_us=2 * S).sent == []
    assert not router.instance("decode-0").live


def test_an_instance_is_not_used_once_a_newer_process_of_it_is_heard_of(new_router: Any) -> None:
    """What the newer one is it has not said yet; the older one must be gone."""
    router = new_router()
    router.join("decode-0", epoch="e1")
    router.pass_time(S)
    router.leave("decode-0", "e2", "its process exited with 1")
    assert router.arrive("a").sent == []
    router.pass_time(S)
    assert router.join("decode-0", epoch="e3").decoded_at == ["decode-0"]


@pytest.mark.parametrize("state", ["draining", "silent", "waking"])
def test_one_that_describes_itself_anew_while_it_does_not_serve_is_sent_nothing(
    new_router: Any, state: str
) -> None:
    router = new_router()
    router.join("decode-0", change=3, state=state, ago_us=S)
    assert router.arrive("a").sent == []
    assert router.join("decode-0", change=4, ago_us=0).decoded_at == ["decode-0"]


def test_what_is_known_of_instances_that_never_join_is_bounded(new_router: Any) -> None:
    router = new_router()
    for number in range(EARLY_MAX + 5):
        router.leave(f"decode-{number}")
    assert len(router.state.early) == EARLY_MAX
    assert f"decode-{EARLY_MAX + 4}" in router.state.early


def test_an_address_nobody_has_any_more_is_forgotten(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", address="host:1")
    assert router.join("decode-0", epoch="e2", address="host:1").all(effects.ForgetAddress) == []
    moved = router.join("decode-0", epoch="e3", address="host:2")
    assert moved.one(effects.ForgetAddress).address == "host:1"


def test_an_address_that_another_instance_took_over_is_kept(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", address="host:1")
    router.join("decode-1", address="host:1")
    moved = router.join("decode-0", epoch="e2", address="host:2")
    assert moved.all(effects.ForgetAddress) == []


def test_model_gone_from_the_list_at_zero_replicas(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", model="m", context=4096)
    router.leave("decode-0", reason="asleep")
    assert router.state.models == {"m": 4096}
    assert router.arrive("a").all(effects.Reject) == []
    assert router.join("decode-0", epoch="e2").decoded_at == ["decode-0"]


def test_a_request_held_for_an_instance_that_left_goes_elsewhere(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", max_running=1)
    router.join("decode-1", max_running=1)
    router.load("decode-0", running=2)
    router.load("decode-1", running=1, tokens=8000)
    router.pass_time(MS)
    assert router.arrive("a").sent == []
    router.leave("decode-1")
    assert router.load("decode-0").decoded_at == ["decode-0"]


def test_no_request_id_can_stop_the_sweep(new_router: Any) -> None:
    router = new_router()
    router.feed(events.BusChanged, connected=True)
    router.join("decode-0")
    router.arrive("sweep")
    router.pass_time(4 * S)
    assert not router.instance("decode-0").live


def test_no_request_id_can_stop_a_round(new_router: Any) -> None:
    router = new_router()
    router.join("decode-0", max_running=1)
    router.load("decode-0", running=2)
    router.arrive("window")
    router.arrive("a")
    assert router.end("window").sent == []
    assert "window" in router.timers
