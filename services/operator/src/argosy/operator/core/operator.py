"""Which instances there shall be: what the file asks for, placed on nodes that are there.

A decision carries the generation of the file it follows. An instance whose pool did
not change keeps running through a new generation.
"""

import msgspec
from argosy.mesh.core import CoreSpec, Effect
from argosy.operator.core import effects as do
from argosy.operator.core import events as on


class Instance(msgspec.Struct):
    """An instance that shall exist, or did."""

    pool: on.Pool
    wanted: bool = True
    node: str = ""
    state: str = "pending"
    reason: str = "no node is known yet"
    since_us: int = 0
    restarts: int = 0


class Node(msgspec.Struct):
    """A node and what it can still take."""

    memory_bytes: int
    placed_bytes: int = 0


class OperatorState(msgspec.Struct):
    """All that the operator's core knows."""

    generation: int = 0
    pools: list[on.Pool] = []
    instances: dict[str, Instance] = {}
    nodes: dict[str, Node] = {}


class OperatorCore:
    """See the module. All methods are pure on `state`."""

    def __init__(self, state: OperatorState) -> None:
        self.state = state

    def step(self, event: on.OperatorEvent) -> list[Effect]:
        """Decide on one event."""
        match event:
            case on.FleetApplied():
                return self._applied(event)
            case on.NodeSeen():
                return self._node_seen(event)
            case on.InstanceChanged():
                return self._changed(event)

    def _applied(self, event: on.FleetApplied) -> list[Effect]:
        state = self.state
        if event.generation <= state.generation:
            return []
        state.generation, state.pools = event.generation, event.pools
        wanted = {
            f"{pool.role}-{index}": pool for pool in event.pools for index in range(pool.replicas)
        }
        found: list[Effect] = []
        for name, instance in state.instances.items():
            if instance.wanted and name not in wanted:
                instance.wanted = False
                found.append(self._decide(name, instance, "the fleet file does not ask for it"))
        for name, pool in wanted.items():
            before = state.instances.get(name)
            if before is not None and before.wanted and before.pool == pool:
                continue
            why = "the fleet file asks for it" if before is None else "the fleet file changed"
            state.instances[name] = Instance(pool, since_us=event.now_us)
            if before is not None and before.node:
                # Same node: there it replaces the one that runs.
                state.instances[name].node = before.node
                found.append(self._decide(name, state.instances[name], why))
        return found + self._place(event.now_us)

    def _node_seen(self, event: on.NodeSeen) -> list[Effect]:
        node = self.state.nodes.get(event.node)
        if node is not None and node.memory_bytes == event.memory_bytes:
            return []
        self.state.nodes[event.node] = Node(event.memory_bytes)
        return self._place(event.now_us)

    def _changed(self, event: on.InstanceChanged) -> list[Effect]:
        instance = self.state.instances.get(event.instance)
        if instance is None:
            return []
        if event.restarts >= 0:
            instance.restarts = event.restarts
        if instance.state != event.state:
            instance.state, instance.since_us = event.state, event.now_us
        instance.reason = event.reason
        return []

    def _place(self, now_us: int) -> list[Effect]:
        """Put every instance that has no node on the one with the most memory left."""
        found: list[Effect] = []
        for name, instance in self.state.instances.items():
            if instance.node or not instance.wanted or not self.state.nodes:
                continue
            best = max(
                sorted(self.state.nodes),
                key=lambda node: (
                    self.state.nodes[node].memory_bytes - self.state.nodes[node].placed_bytes
                ),
            )
            self.state.nodes[best].placed_bytes += instance.pool.memory_bytes
            instance.node, instance.since_us = best, now_us
            instance.state, instance.reason = "starting", ""
            found.append(self._decide(name, instance, "the fleet file asks for it"))
        return found

    def _decide(self, name: str, instance: Instance, why: str) -> do.DecideInstance:
        pool = instance.pool
        return do.DecideInstance(
            name, self.state.generation, instance.wanted, instance.node, pool.role,
            pool.memory_bytes, pool.cores, pool.settings, why,
        )  # fmt: skip


SPEC = CoreSpec("operator", on.OperatorEvent, OperatorState, OperatorCore)
