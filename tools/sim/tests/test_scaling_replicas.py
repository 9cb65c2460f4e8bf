from hypothesis import given
from hypothesis import strategies as st

from argosy.sim.scaling.replicas import Replicas, flaps, within

COUNTS = st.fixed_dictionaries({"prefill": st.integers(0, 40), "decode": st.integers(0, 40)})


def replicas(prefill: int = 2, decode: int = 2, budget: int = 8) -> Replicas:
    return Replicas(budget, 100.0, {"prefill": prefill, "decode": decode})


@given(COUNTS, st.integers(2, 32))
def test_a_wish_over_budget_is_cut_to_it_and_leaves_no_wanted_role_empty(wanted, room):
    found = within(wanted, room)
    assert sum(found.values()) == min(sum(wanted.values()), room)
    for role, count in wanted.items():
        assert found[role] <= count
        assert found[role] >= min(1, count)


def test_a_wish_is_cut_in_proportion():
    assert within({"prefill": 4, "decode": 12}, 8) == {"prefill": 2, "decode": 6}


@given(st.lists(st.tuples(COUNTS, st.booleans()), max_size=20))
def test_the_budget_holds_while_instances_drain(wishes):
    fleet = replicas()
    for number, (wanted, done) in enumerate(wishes):
        now_s = 60.0 * number
        fleet.pass_time(now_s)
        fleet.warmed(now_s)
        if done:
            for role, count in list(fleet.draining.items()):
                fleet.drained(role, count)
        fleet.decide(wanted, now_s)
        assert fleet.used <= fleet.budget
        assert min(fleet.ready.values()) >= 0


def test_an_instance_serves_after_its_warm_up_and_costs_from_the_start():
    fleet = replicas()
    assert fleet.decide({"prefill": 3, "decode": 2}, 0.0)["prefill"].start == 1
    assert fleet.warmed(99.0) == {"prefill": 0, "decode": 0}
    assert fleet.used == 5
    assert fleet.warmed(100.0) == {"prefill": 1, "decode": 0}
    fleet.pass_time(100.0)
    assert fleet.used_s == 500.0


def test_those_still_starting_are_given_up_first():
    fleet = replicas()
    fleet.decide({"prefill": 4, "decode": 2}, 0.0)
    step = fleet.decide({"prefill": 1, "decode": 2}, 10.0)["prefill"]
    assert (step.cancel, step.drain) == (2, 1)
    assert fleet.used == 4, "the one that drains costs until it is gone"
    fleet.drained("prefill", 1)
    assert fleet.used == 3


def test_a_scale_up_undone_within_ten_minutes_is_one_flap():
    up, down = 1, -1
    changes = [
        (0.0, "prefill", up),
        (300.0, "prefill", down),
        (310.0, "prefill", down),
        (400.0, "decode", up),
        (1100.0, "decode", down),
        (1200.0, "decode", down),
        (2000.0, "prefill", up),
        (2100.0, "decode", down),
        (2600.0, "prefill", down),
    ]
    assert flaps(changes) == 2
