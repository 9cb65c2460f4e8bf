"""The cheapest way through the time ahead: how many of each role are to be ready, slot by slot.

Dynamic programming backwards over the slots, with the counts of prefill and decode instances as
the state. A slot costs what its instances cost and what callers are expected to miss; a change
costs what a wake, a start or a sleep takes. All of it in instance-seconds. Where going up costs so
much a level and going down so much an instance, the best way into every state is a running
minimum (Felzenszwalb and Huttenlocher's distance transform of a linear cost), so that a slot
costs a few steps over the states, not one over all pairs.

The roles are first planned apart, which is exact as long as what binds them together (a budget, a
ratio, plans for both) is not in the way of what comes out; only else are they planned together.

numpy is used for sums of two, minima and running minima of float64 only: the same on all machines.
"""

import msgspec
import numpy as np
import numpy.typing as npt

Costs = npt.NDArray[np.float64]

NEVER = 1e12
"""Cost of what must not be, and stays finite so that the least bad way is found."""


class RoleProblem(msgspec.Struct, frozen=True):
    """One role's part of the problem; lists by slot, and within by count from 0."""

    now: int
    """Ready at the start."""
    costs: list[list[float]]
    """Of a slot, by how many are ready: what they cost, and what is missed."""
    low: list[int]
    high: list[int]
    """Least and most that may be ready in a slot."""
    reach: list[int]
    """Most that can be ready in a slot, however soon it is asked for."""
    up: list[float]
    """Of adding the instance that makes it this count."""
    down: float
    """Of taking one away."""
    step_down: int
    """Most that are taken away from one slot to the next."""
    keep: list[bool]
    """Slots before which none may be taken away."""


class PlanProblem(msgspec.Struct, frozen=True):
    """Both roles, and what binds them together."""

    prefill: RoleProblem
    decode: RoleProblem
    together_low: list[int]
    together_high: list[int]
    """Least and most that may be ready of both, by slot."""
    ratio_min: float = 0
    ratio_max: float = 0
    """Prefill per decode instances, where there are any of either; 0: any."""


class PlanPath(msgspec.Struct, frozen=True):
    """Ready instances by slot, and what the whole way costs."""

    prefill: list[int]
    decode: list[int]
    cost: float
    first: list[tuple[int, int, float]] = []
    """Prefill, decode, and what the whole way costs from there: of this first step, of none,
    and of those beside."""


class RoleArrays:
    """One role made ready for numpy: what being at a count costs, and going to another."""

    def __init__(self, role: RoleProblem) -> None:
        self.now, self.keep, self.step_down = role.now, role.keep, role.step_down
        self.stages = np.array(role.costs)
        counts = np.arange(self.stages.shape[1], dtype=np.float64)
        reach = np.minimum(np.array(role.high), np.array(role.reach))[:, None]
        low = np.minimum(np.array(role.low)[:, None], reach)
        # Room that cannot be had in time comes before a wish that cannot be met.
        self.stages += NEVER * 1e3 * np.maximum(counts - reach, 0)
        self.stages += NEVER * np.maximum(low - counts, 0)
        self.level = np.add.accumulate(np.array(role.up))
        self.down = counts * role.down
        raised = self.level[None, :] - self.level[:, None]
        taken = counts[:, None] - counts[None, :]
        self.gone = NEVER * 1e-1 * counts
        too_much = NEVER * 1e-1 * taken
        kept = np.where(taken > 0, 2 * too_much, raised)
        fast = np.where(taken > 0, too_much, raised)
        free = np.where((taken > 0) & (taken <= self.step_down), taken * role.down, fast)
        self.moves = {True: kept, False: free}
        """By whether none may be taken away: [from, to]."""

    def before(self, value: Costs, slot: int) -> Costs:
        """From the value of each count (first axis) in `slot` to that of each just before it."""
        level = self.level if value.ndim == 1 else self.level[:, None]
        # Upwards: the least of all higher counts, each with the cost of the levels between.
        best: Costs = np.minimum.accumulate((value + level)[::-1], axis=0)[::-1] - level
        if not self.keep[slot]:
            for taken in range(1, min(self.step_down, len(value) - 1) + 1):
                np.minimum(best[taken:], value[:-taken] + self.down[taken], out=best[taken:])
        # Where a bound falls faster than that, what is too much goes when it has to, not now.
        gone = 2 * self.gone if self.keep[slot] else self.gone
        gone = gone if value.ndim == 1 else gone[:, None]
        forced = np.minimum.accumulate(value - gone, axis=0)[:-1] + gone[1:]
        np.minimum(best[1:], forced, out=best[1:])
        return best

    def into(self, count: int, slot: int) -> Costs:
        """What going from `count` to each other count costs at the start of `slot`."""
        found: Costs = self.moves[self.keep[slot]][count]
        return found

    def path_cost(self, path: list[int]) -> float:
        """What a path costs, with its changes."""
        total, count = 0.0, self.now
        for slot, after in enumerate(path):
            total += float(self.stages[slot][after] + self.into(count, slot)[after])
            count = after
        return total


def solve(problem: PlanProblem) -> PlanPath:
    """The cheapest path that keeps to every bound, where there is one that does."""
    prefill, decode = RoleArrays(problem.prefill), RoleArrays(problem.decode)
    path_p, value_p = alone(prefill)
    path_d, value_d = alone(decode)
    pairs = zip(path_p, path_d, strict=True)
    if all(allowed(problem, slot, p, d) for slot, (p, d) in enumerate(pairs)):
        first = value_p[:, None] + value_d[None, :]
    else:
        path_p, path_d, first = together(problem, prefill, decode)
    cost = prefill.path_cost(path_p) + decode.path_cost(path_d)
    steps = first_steps(problem, prefill, decode, first, (path_p[0], path_d[0]))
    return PlanPath(path_p, path_d, cost, steps)


def allowed(problem: PlanProblem, slot: int, prefill: int, decode: int) -> bool:
    """Whether what binds the roles together allows these counts."""
    both = prefill + decode
    if not problem.together_low[slot] <= both <= problem.together_high[slot]:
        return False
    if not prefill or not decode:
        return True
    ratio = prefill / decode
    return problem.ratio_min <= ratio and (not problem.ratio_max or ratio <= problem.ratio_max)


def alone(steps: RoleArrays) -> tuple[list[int], Costs]:
    """One role by itself: its path, and the value of being at each count in the first slot."""
    value = steps.stages[-1]
    values = [value]
    for slot in range(len(steps.stages) - 2, -1, -1):
        value = steps.stages[slot] + steps.before(value, slot + 1)
        values.append(value)
    values.reverse()
    path, count = [], steps.now
    for slot, value in enumerate(values):
        count = int(np.argmin(value + steps.into(count, slot)))
        path.append(count)
    return path, values[0]


def together(
    problem: PlanProblem, prefill: RoleArrays, decode: RoleArrays
) -> tuple[list[int], list[int], Costs]:
    """Both roles at once; states: pairs of counts."""
    bound = binding(problem, prefill, decode)
    values: list[Costs] = []
    for slot in range(len(bound) - 1, -1, -1):
        value = prefill.stages[slot][:, None] + decode.stages[slot][None, :] + bound[slot]
        if values:
            value += decode.before(prefill.before(values[-1], slot + 1).T, slot + 1).T
        values.append(value)
    values.reverse()
    path_p, path_d = [], []
    p, d = prefill.now, decode.now
    for slot, value in enumerate(values):
        total = value + prefill.into(p, slot)[:, None] + decode.into(d, slot)[None, :]
        p, d = (int(i) for i in np.unravel_index(int(np.argmin(total)), total.shape))
        path_p.append(p)
        path_d.append(d)
    return path_p, path_d, values[0]


def binding(problem: PlanProblem, prefill: RoleArrays, decode: RoleArrays) -> list[Costs]:
    """What binds the roles together, as a cost of each pair, by slot."""
    made: dict[tuple[int, int], Costs] = {}
    p = np.arange(len(prefill.level), dtype=np.float64)[:, None]
    d = np.arange(len(decode.level), dtype=np.float64)[None, :]
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


def first_steps(
    problem: PlanProblem,
    prefill: RoleArrays,
    decode: RoleArrays,
    value: Costs,
    chosen: tuple[int, int],
) -> list[tuple[int, int, float]]:
    """What the whole way costs from some first steps: the chosen one first, then cheapest first."""
    now = (prefill.now, decode.now)
    into = value + prefill.into(now[0], 0)[:, None] + decode.into(now[1], 0)[None, :]
    steps = {now, chosen}
    for p, d in (now, chosen):
        steps |= {(p + 1, d), (p - 1, d), (p, d + 1), (p, d - 1)}
    costed = [
        ((p, d) != chosen, float(into[p, d]), p, d)
        for p, d in steps
        if 0 <= p < into.shape[0]
        and 0 <= d < into.shape[1]
        and ((p, d) == chosen or allowed(problem, 0, p, d))
    ]
    return [(p, d, cost) for _, cost, p, d in sorted(costed)]
