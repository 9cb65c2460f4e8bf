"""Plans against all there are: on problems so small that every path can be tried."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.autoscaler.core.planning.dp import (
    NEVER,
    PlanProblem,
    RoleArrays,
    RoleProblem,
    allowed,
    alone,
    solve,
    together,
)

MOST = 3
counts = st.integers(0, MOST)


@st.composite
def one_role(draw, slots):
    """Costs are whole numbers, so that sums in any order are equal."""
    costs = [[float(draw(st.integers(0, 50))) for _ in range(MOST + 1)] for _ in range(slots)]
    lists = st.lists(counts, min_size=slots, max_size=slots)
    return RoleProblem(
        draw(counts),
        costs,
        draw(lists),
        draw(lists),
        draw(lists),
        [float(draw(st.integers(0, 9))) for _ in range(MOST + 1)],
        float(draw(st.integers(0, 9))),
        draw(st.integers(1, MOST)),
        draw(st.lists(st.booleans(), min_size=slots, max_size=slots)),
    )


@st.composite
def problems(draw, bound=True):
    slots = draw(st.integers(1, 3 if not bound else 2))
    prefill, decode = draw(one_role(slots)), draw(one_role(slots))
    lists = st.lists(st.integers(0, 2 * MOST), min_size=slots, max_size=slots)
    if not bound:
        return PlanProblem(prefill, decode, [0] * slots, [2 * MOST] * slots)
    ratio = draw(st.sampled_from([(0, 0), (0.5, 2.0), (1.0, 0), (0, 0.5)]))
    return PlanProblem(prefill, decode, draw(lists), draw(lists), *ratio)


def move(role, slot, before, after):
    """What a change costs, by the rules."""
    if after >= before:
        return sum(role.up[before + 1 : after + 1])
    taken = before - after
    if role.keep[slot]:
        return taken * NEVER * 2e-1
    return taken * (role.down if taken <= role.step_down else NEVER * 1e-1)


def stay(role, slot, count):
    """What a slot costs, by the rules."""
    most = min(role.high[slot], role.reach[slot])
    over, under = max(0, count - most), max(0, min(role.low[slot], most) - count)
    return role.costs[slot][count] + NEVER * (1e3 * over + under)


def bound(problem, slot, p, d):
    """What binds the roles together, by the rules."""
    high, both = problem.together_high[slot], p + d
    over, under = max(0, both - high), max(0, min(problem.together_low[slot], high) - both)
    off = 0.0
    if p and d:
        off = max(0, problem.ratio_min * d - p)
        off += max(0, p - problem.ratio_max * d) if problem.ratio_max else 0
    return NEVER * (1e3 * over + under + 1e-2 * off)


def priced(problem, path):
    total, now = 0.0, (problem.prefill.now, problem.decode.now)
    for slot, (p, d) in enumerate(path):
        total += stay(problem.prefill, slot, p) + stay(problem.decode, slot, d)
        total += move(problem.prefill, slot, now[0], p) + move(problem.decode, slot, now[1], d)
        total += bound(problem, slot, p, d)
        now = p, d
    return total


def paths(problem):
    pairs = list(product(range(MOST + 1), repeat=2))
    return product(pairs, repeat=len(problem.together_low))


def best(problem, first=None):
    return min(priced(problem, path) for path in paths(problem) if first in (None, path[0]))


@settings(max_examples=examples(60))
@given(problems(bound=True))
def test_no_path_is_better_than_the_joint_plan(problem):
    found = solve(problem)
    path = list(zip(found.prefill, found.decode, strict=True))
    assert priced(problem, path) == best(problem)


@settings(max_examples=examples(25))
@given(problems(bound=False))
def test_no_path_is_better_than_the_plans_of_the_roles_apart(problem):
    found = solve(problem)
    path = list(zip(found.prefill, found.decode, strict=True))
    assert priced(problem, path) == found.cost == best(problem)


@settings(max_examples=examples(60))
@given(problems(bound=True))
def test_first_steps_cost_what_the_best_path_from_there_costs(problem):
    """Roles that were planned apart are not held to what binds them together later on."""
    found = solve(problem)
    chosen, *others = found.first
    assert chosen[:2] == (found.prefill[0], found.decode[0])
    assert [cost for *_, cost in others] == sorted(cost for *_, cost in others)
    apart = zip(
        *(alone(RoleArrays(role))[0] for role in (problem.prefill, problem.decode)), strict=True
    )
    if all(allowed(problem, slot, p, d) for slot, (p, d) in enumerate(apart)):
        slots = len(problem.together_low)
        problem = PlanProblem(problem.prefill, problem.decode, [0] * slots, [2 * MOST] * slots)
    for p, d, cost in found.first:
        assert cost == pytest.approx(best(problem, (p, d)), rel=1e-12)


@settings(max_examples=examples(60))
@given(problems(bound=False))
def test_where_nothing_binds_the_joint_plan_costs_what_the_separate_ones_do(problem):
    prefill, decode = RoleArrays(problem.prefill), RoleArrays(problem.decode)
    p, d, value = together(problem, prefill, decode)
    path_p, value_p = alone(prefill)
    path_d, value_d = alone(decode)
    apart = prefill.path_cost(path_p) + decode.path_cost(path_d)
    assert prefill.path_cost(p) + decode.path_cost(d) == apart
    assert (value == value_p[:, None] + value_d[None, :]).all()
