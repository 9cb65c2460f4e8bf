import numpy as np
import pytest

from argosy.domain.demand import Machine, Slo
from argosy.engine.profile_files import load_profile
from argosy.sim.scaling import lengths, oracle, workload
from argosy.sim.scaling.flow_level import FlowSimulation, ScalingSetup
from argosy.sim.scaling.policies.static import Static
from argosy.sim.scaling.request_level import RequestSimulation

TICK_S = 5.0
PROFILE = load_profile(None)
SLO = Slo()


def steady(rate, minutes, factor=1.0):
    rates = np.full(round(minutes * 60 / TICK_S), float(rate))
    return workload.from_rates(rates, TICK_S, lengths.llmd(factor), 7, 1 << 30)


def setting(prefill, decode, budget=8, warm_up_s=60.0, machine=None):
    initial = {"prefill": prefill, "decode": decode}
    return ScalingSetup(PROFILE, machine or Machine(), SLO, budget, warm_up_s, initial)


class Script:
    """Wishes by time."""

    name = "script"
    every_s = 5.0

    def __init__(self, wishes):
        self.wishes = wishes
        self.seen = []

    def decide(self, seen):
        self.seen.append(seen)
        prefill, decode = [wish for at_s, wish in self.wishes if at_s <= seen.now_s][-1]
        return {"prefill": prefill, "decode": decode}


WORLDS = pytest.mark.parametrize("simulation", [FlowSimulation, RequestSimulation])


@WORLDS
def test_nothing_is_lost_when_instances_drain(simulation):
    policy = Script([(0, (2, 3)), (30, (1, 1)), (60, (2, 2)), (65, (1, 1))])
    run = simulation(steady(4, 3), setting(2, 3), policy)
    found = run.run()
    assert found.requests == len(run.workload.at_s)
    if simulation is FlowSimulation:
        assert run.finished == pytest.approx(run.arrived)
        assert run.in_system == pytest.approx(0, abs=1e-3)
    else:
        outcomes = [sim_request.outcome for sim_request in run.simulation.requests]
        assert all(o.ended_us is not None and not o.rejected for o in outcomes)
        assert [o.output_tokens for o in outcomes] == [int(o) for o in run.workload.output]
    assert run.replicas.draining == {"prefill": 0, "decode": 0}


@WORLDS
def test_the_budget_is_never_exceeded(simulation):
    policy = Script([(0, (1, 2)), (20, (9, 9)), (60, (3, 1)), (90, (1, 8))])
    found = simulation(steady(3, 3), setting(1, 2, budget=4), policy).run()
    assert found.peak_replicas <= 4


@WORLDS
def test_a_new_instance_serves_when_it_is_warm_and_is_used_from_the_decision(simulation):
    policy = Script([(0, (1, 2)), (30, (2, 2))])
    found = simulation(steady(1, 3), setting(1, 2), policy).run()
    ready = {seen.now_s: seen.ready["prefill"] for seen in policy.seen}
    warming = {seen.now_s: seen.warming["prefill"] for seen in policy.seen}
    assert (ready[35], warming[35]) == (1, 1)
    assert (ready[100], warming[100]) == (2, 0)
    assert found.instance_hours * 3600 == pytest.approx(3 * 180 + 150, abs=4)


@pytest.mark.slow  # Request by request, a queue of thousands takes a minute.
@WORLDS
def test_waiting_for_capacity_shows_in_ttft(simulation):
    work = steady(20, 1, 1.0)
    short = simulation(work, setting(1, 3), Static({"prefill": 1, "decode": 3})).run()
    enough = simulation(work, setting(3, 4), Static({"prefill": 3, "decode": 4})).run()
    assert enough.attainment > 0.99
    assert short.attainment < 0.7
    assert short.ttft_p90_ms > 4 * enough.ttft_p90_ms


@WORLDS
def test_the_same_run_twice_is_the_same(simulation):
    runs = [
        simulation(steady(3, 2), setting(1, 2), Script([(0, (1, 2)), (40, (2, 3))])) for _ in "ab"
    ]
    assert runs[0].run() == runs[1].run()


def test_the_flow_keeps_count_of_every_request():
    run = FlowSimulation(
        steady(12, 4), setting(1, 2), Script([(0, (1, 2)), (60, (2, 1)), (120, (1, 3))])
    )
    for number in range(run.workload.ticks):
        run._tick(number)
        if number % 6 == 0:
            run._decide()
        assert run.arrived == pytest.approx(run.finished + run.in_system, abs=1e-6)


def test_both_simulations_agree_where_there_is_room():
    work, fleet = steady(4, 4, 1.5), setting(2, 3)
    flow = FlowSimulation(work, fleet, Static(fleet.initial)).run()
    event = RequestSimulation(work, fleet, Static(fleet.initial)).run()
    assert flow.attainment == pytest.approx(event.attainment, abs=0.01)
    assert flow.ttft_p90_ms == pytest.approx(event.ttft_p90_ms, rel=0.2)
    assert flow.tpot_p90_ms == pytest.approx(event.tpot_p90_ms, rel=0.1)


def test_crowded_ticks_are_told_by_samples_that_stand_for_as_many():
    rates = np.full(60, 100.0)
    few = workload.from_rates(rates, TICK_S, lengths.conversation(), 3, 64)
    assert max(np.diff(few.first)) == 64
    assert few.requests == pytest.approx(100 * 300, rel=0.03)


def test_a_trace_at_a_factor_keeps_its_time_and_its_lengths():
    once = steady(4, 3)
    twice = workload.from_requests(once.trace(), 2.5, TICK_S, 1)
    assert twice.requests == pytest.approx(2.5 * once.requests, rel=0.05)
    assert twice.span_s == pytest.approx(once.span_s, abs=TICK_S)
    lengths_of = [float(w.prompt @ w.weight) / w.requests for w in (once, twice)]
    assert lengths_of[1] == pytest.approx(lengths_of[0], rel=0.05)


def test_the_oracle_attains_its_target_with_less_than_the_peak_needs_all_along():
    rates = np.concatenate([np.full(24, 3.0), np.full(36, 12.0), np.full(36, 2.0)])
    work = workload.from_rates(rates, TICK_S, lengths.llmd(1.5), 5, 1 << 30)
    fleet = setting(1, 2, budget=8)
    plans = oracle.Planner(work, PROFILE, Machine(), SLO, {"prefill": 3, "decode": 5})
    found, _ = oracle.best(
        plans, fleet.warm_up_s, 0.99, lambda policy: FlowSimulation(work, fleet, policy).run()
    )
    assert found.attainment >= 0.99
    assert found.mean_replicas < 7
