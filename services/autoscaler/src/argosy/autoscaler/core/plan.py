"""The cheapest way through the time ahead: how many of each role are to be ready, slot by slot.

Dynamic programming backwards over the slots, with the counts of prefill and decode instances as
the state. A slot costs what its instances cost and what callers are expected to miss; a change
costs what a wake, a start or a sleep takes. All of it in instance-seconds. Where going up costs so
much a level and going down so much an instance, the best way into every state is a running
minimum (Felzenszwalb and Huttenlocher's distance transform of a linear cost), so that a slot
costs a few passes over the states, not one over all pairs.

The roles are first planned apart, which is exact as long as what binds them together (a budget, a
ratio, plans for both) is not in the way of what comes out; only else are they planned together.

numpy is used for sums of two, minima and running minima of float64 only: the same on all machines.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

Costs = npt.NDArray[np.float64]

NEVER = 1e12
"""Cost of what must not be, and stays finite so that the least bad way is found."""


class Role(msgspec.Struct, frozen=True):
    """One role's part of the problem; lists by slot, and within by count from 0."""

    now: int
    """Ready at the start."""
    costs: list[list[float]]
    """Of a slot with so many ready: what they cost, and what is missed."""
    low: list[int]
    high: list[int]
    """Least and most that may be ready in a slot."""
    reach: list[int]
    """Most that can be ready in a slot, however soon it is asked for."""
    up: list[float]
    """Of adding the instance that makes it so many."""
    down: float
    """Of taking one away."""
    step_down: int
    """Most that are taken away from one slot to the next."""
    keep: list[bool]
    """Slots before which none may be taken away."""


class Problem(msgspec.Struct, frozen=True):
    """Both roles, and what binds them together."""

    prefill: Role
    decode: Role
    together_low: list[int]
    together_high: list[int]
    """Least and most that may be ready of both, by slot."""
    ratio_min: float = 0
    ratio_max: float = 0
    """Prefill per decode instances, where there are any of either; 0: any."""


class Path(msgspec.Struct, frozen=True):
    """Ready instances by slot, and what the whole way costs."""

    prefill: list[int]
    decode: list[int]
    cost: float
    first: list[tuple[int, int, float]] = []
    """Prefill, decode, and what the whole way costs from there: of this first step, of none,
    and of those beside."""


def solve(problem: Problem) -> Path:
    """The cheapest path that keeps to every bound, where there is one that does."""
    apart = [solve_role(role) for role in (problem.prefill, problem.decode)]
    (prefill, go_p), (decode, go_d) = apart
    pairs = zip(prefill, decode, strict=True)
    if all(allowed(problem, slot, p, d) for slot, (p, d) in enumerate(pairs)):
        cost = path_cost(problem.prefill, prefill) + path_cost(problem.decode, decode)
        values = go_p[:, None] + go_d[None, :]
        return Path(prefill, decode, cost, first_steps(problem, values, prefill[0], decode[0]))
    return solve_together(problem)


def allowed(problem: Problem, slot: int, prefill: int, decode: int) -> bool:
    """Whether what binds the roles together lets them be so many."""
    both = prefill + decode
    if not problem.together_low[slot] <= both <= problem.together_high[slot]:
        return False
    if not prefill or not decode:
        return True
    ratio = prefill / decode
    return problem.ratio_min <= ratio and (not problem.ratio_max or ratio <= problem.ratio_max)


def solve_role(role: Role) -> tuple[list[int], Costs]:
    """One role alone: its path, and the value of being at each count in the first slot."""
    stages = [stage(role, slot) for slot in range(len(role.costs))]
    values = [stages[-1]]
    for slot in range(len(stages) - 2, -1, -1):
        values.append(stages[slot] + before(role, values[-1], slot + 1, 0))
    values.reverse()
    path, count = [], role.now
    for slot, value in enumerate(values):
        count = int(np.argmin(value + moves(role, count, slot)))
        path.append(count)
    return path, values[0]


def solve_together(problem: Problem) -> Path:
    """Both roles at once; states: pairs of counts."""
    prefill, decode = problem.prefill, problem.decode
    bound = binding(problem)
    slots = len(prefill.costs)
    value = joint_stage(problem, slots - 1, bound)
    values = [value]
    for slot in range(slots - 2, -1, -1):
        into = before(decode, before(prefill, value, slot + 1, 0), slot + 1, 1)
        value = joint_stage(problem, slot, bound) + into
        values.append(value)
    values.reverse()
    path_p, path_d = [], []
    p, d = prefill.now, decode.now
    for slot, value in enumerate(values):
        total = value + moves(prefill, p, slot)[:, None] + moves(decode, d, slot)[None, :]
        p, d = (int(i) for i in np.unravel_index(int(np.argmin(total)), total.shape))
        path_p.append(p)
        path_d.append(d)
    cost = path_cost(prefill, path_p) + path_cost(decode, path_d)
    return Path(path_p, path_d, cost, first_steps(problem, values[0], path_p[0], path_d[0]))


def stage(role: Role, slot: int) -> Costs:
    """What a slot costs by count; NEVER outside the bounds, and more the further outside."""
    costs = np.array(role.costs[slot])
    counts = np.arange(len(costs), dtype=np.float64)
    high = min(role.high[slot], role.reach[slot])
    # Room that cannot be had in time comes before a wish that cannot be met.
    over = np.maximum(counts - high, 0) * 1e3
    under = np.maximum(min(role.low[slot], high) - counts, 0)
    return costs + NEVER * (over + under)


def binding(problem: Problem) -> list[Costs]:
    """What binds the roles together, as a cost of each pair, by slot; made once for equal bounds."""
    made: dict[tuple[int, int], Costs] = {}
    shape = (len(problem.prefill.costs[0]), len(problem.decode.costs[0]))
    p = np.arange(shape[0], dtype=np.float64)[:, None]
    d = np.arange(shape[1], dtype=np.float64)[None, :]
    ratio = np.zeros(shape)
    if problem.ratio_min or problem.ratio_max:
        most = problem.ratio_max * d if problem.ratio_max else p
        # Instances that one role has too many of, or the other too few.
        off = np.maximum(problem.ratio_min * d - p, 0) + np.maximum(p - most, 0)
        ratio = NEVER * 1e-2 * np.where((p > 0) & (d > 0), off, 0)
    found = []
    for low, high in zip(problem.together_low, problem.together_high, strict=True):
        if (low, high) not in made:
            over = np.maximum(p + d - high, 0) * 1e3
            under = np.maximum(min(low, high) - p - d, 0)
            made[low, high] = ratio + NEVER * (over + under)
        found.append(made[low, high])
    return found


def joint_stage(problem: Problem, slot: int, bound: list[Costs]) -> Costs:
    """What a slot costs by pair of counts."""
    prefill, decode = stage(problem.prefill, slot), stage(problem.decode, slot)
    return prefill[:, None] + decode[None, :] + bound[slot]


def before(role: Role, value: Costs, slot: int, axis: int) -> Costs:
    """From the value of each count in `slot` to that of each count just before it."""
    value = np.moveaxis(value, axis, 0)
    shape = (-1,) + (1,) * (value.ndim - 1)
    level = levels(role).reshape(shape)
    # Upwards: the least of all higher counts, each with the cost of the levels between.
    raised = np.minimum.accumulate((value + level)[::-1], axis=0)[::-1] - level
    best = raised
    if not role.keep[slot]:
        best = best.copy()
        for taken in range(1, min(role.step_down, len(value) - 1) + 1):
            best[taken:] = np.minimum(best[taken:], value[:-taken] + taken * role.down)
    return np.moveaxis(best, 0, axis)


def levels(role: Role) -> Costs:
    """What all instances up to a count cost to add."""
    return np.add.accumulate(np.array(role.up))


def moves(role: Role, count: int, slot: int) -> Costs:
    """What going from `count` to each other count costs at the start of `slot`."""
    counts = np.arange(len(role.up))
    level = levels(role)
    down = (count - counts) * role.down
    too_far = (count - counts > role.step_down) | role.keep[slot]
    down = np.where(too_far, NEVER * 1e-1 * (count - counts), down)
    return np.where(counts >= count, level - level[count], down)


def path_cost(role: Role, path: Sequence[int]) -> float:
    """What a path costs, with its changes."""
    total, count = 0.0, role.now
    for slot, after in enumerate(path):
        total += role.costs[slot][after] + float(moves(role, count, slot)[after])
        count = after
    return total


def first_steps(
    problem: Problem, value: Costs, chosen_p: int, chosen_d: int
) -> list[tuple[int, int, float]]:
    """What the whole way costs from some first steps: the chosen one first, then cheapest first."""
    p, d = problem.prefill, problem.decode
    into = value + moves(p, p.now, 0)[:, None] + moves(d, d.now, 0)[None, :]
    steps = {(p.now, d.now), (chosen_p, chosen_d)}
    for i, j in tuple(steps):
        steps |= {(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)}
    costed = [
        ((i, j) != (chosen_p, chosen_d), float(into[i, j]), i, j)
        for i, j in steps
        if 0 <= i < len(p.up) and 0 <= j < len(d.up) and allowed(problem, 0, i, j)
    ]
    return [(i, j, cost) for _, cost, i, j in sorted(costed)]
