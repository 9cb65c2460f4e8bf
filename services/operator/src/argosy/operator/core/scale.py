"""How many instances there are to be, where an autoscaler says it, within the file's bounds.

A decision is absolute, so that the last one holds, and is done once: an older generation, or the
same one heard again, changes nothing. Those it names go first, then the highest numbers; new ones
take the lowest that are free.
"""

from argosy.domain.pools import Pool, Template
from argosy.operator.core import events
from argosy.operator.core.state import OperatorState


def applied(state: OperatorState, event: events.FleetApplied) -> None:
    """A new file. Where it asks for other replicas than before, that is what there is to be."""
    before = {pool.template.role: pool.replicas for pool in state.pools}
    for pool in event.pools:
        role = pool.template.role
        if role not in event.bounds or before.get(role, pool.replicas) != pool.replicas:
            state.scaled.pop(role, None)
    state.bounds = event.bounds


def seen(state: OperatorState, event: events.ScaleSeen) -> bool:
    """Take in a decision; whether anything is to be done for it now."""
    if event.generation <= state.scale_generation:
        return False
    state.scale_generation = event.generation
    state.scaled, state.stopped = dict(event.exist), event.stop
    # While the control log is read, the file comes after the decisions made under it.
    return bool(state.pools)


def wanted(state: OperatorState) -> dict[str, Template]:
    """All that there are to be."""
    return {name: pool.template for pool in state.pools for name in names(state, pool)}


def names(state: OperatorState, pool: Pool) -> list[str]:
    """Those of a pool that there are to be."""
    role = pool.template.role
    if role not in state.scaled or role not in state.bounds:
        return [f"{role}-{number}" for number in range(pool.replicas)]
    low, high = state.bounds[role]
    count = min(max(state.scaled[role], low), high)
    there = {
        int(name.rpartition("-")[2])
        for name, instance in state.instances.items()
        if instance.wanted and instance.template.role == role and name not in state.stopped
    }
    numbers = sorted(there)[:count]
    free = (number for number in range(len(there) + count + 1) if number not in there)
    while len(numbers) < count:
        numbers.append(next(free))
    return [f"{role}-{number}" for number in sorted(numbers)]
