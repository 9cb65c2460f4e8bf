"""How long an idle fleet waits, by what sleeping and waking cost it before."""

from typing import Any

from argosy.autoscaler.core.planning.idle_sleep import PATIENCE_MAX
from argosy.autoscaler.core.planning.wake_on_demand import MORE_US

S = 1_000_000


def flap(fleet: Any, away_us: int) -> int:
    """Wait for a sleep, and for demand so long after; how long the wait was."""
    waited_us = fleet.until_sleep()
    fleet.now_us += away_us
    assert fleet.demand()
    fleet.woke()
    return waited_us


def flapping(new_idle_fleet: Any) -> Any:
    """One whose sleep and wake take 4 s together."""
    fleet = new_idle_fleet(idle_us=S)
    fleet.ask_sleep()
    fleet.slept(took_us=2 * S)
    fleet.ask_wake()
    fleet.woke(took_us=2 * S)
    fleet.state.sleep.slept_us = 0
    return fleet


def keeps_costs(fleet: Any) -> None:
    for instance in fleet.state.members.values():
        instance.slept_took_us = instance.woke_took_us = 2 * S


def test_a_sleep_that_did_not_pay_doubles_the_wait_up_to_a_bound(new_idle_fleet: Any) -> None:
    fleet, waits_s = flapping(new_idle_fleet), []
    for _ in range(6):
        waits_s.append(flap(fleet, S) // S)
        keeps_costs(fleet)
    assert waits_s == [4, 8, 16, 32, 32, 32]
    assert fleet.state.sleep.patience == PATIENCE_MAX == 8


def test_a_sleep_that_paid_halves_the_wait_down_to_the_break_even(new_idle_fleet: Any) -> None:
    fleet, waits_s = flapping(new_idle_fleet), []
    fleet.state.sleep.patience = PATIENCE_MAX
    for _ in range(6):
        waits_s.append(flap(fleet, 100 * S) // S)
        keeps_costs(fleet)
    assert waits_s == [32, 16, 8, 4, 4, 4]
    assert fleet.state.sleep.patience == 1


def test_a_sleep_is_judged_once_however_many_pairs_it_takes(new_idle_fleet: Any) -> None:
    fleet = new_idle_fleet(decode=3, prefill=3)
    fleet.until_sleep()
    keeps_costs(fleet)
    fleet.demand()
    for _ in range(4):
        fleet.now_us += MORE_US
        fleet.work(requests=5, queued=5)
    assert fleet.state.sleep.patience == 2
