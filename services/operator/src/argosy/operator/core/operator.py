"""Which instances there shall be: what the file asks for, placed on nodes that are there.

A decision carries the generation of the file it follows, or a higher one where an instance
is decided on again under the same file: nodes act on each once. An instance that shall be
as it is keeps running: through a new generation, more or fewer beside it, and a
restart of the operator, which recalls its decisions from the control log.
"""

from argosy.domain.core import CoreSpec, Effect
from argosy.domain.lifecycle_view import LifecycleFact
from argosy.domain.pools import Template
from argosy.operator.core import effects, events, scale
from argosy.operator.core.state import OperatorState, PlacedInstance


class OperatorCore:
    """See the module. All methods are pure on `state`."""

    def __init__(self, state: OperatorState) -> None:
        self.state = state

    def step(self, event: events.OperatorEvent) -> list[Effect]:
        """Decide on one event."""
        match event:
            case events.FleetApplied():
                return self._applied(event)
            case events.InstanceDecisionRecalled():
                return self._recalled(event)
            case events.NodeSeen():
                return self._node_seen(event)
            case events.InstanceChanged():
                self._changed(event)
                return []
            case events.ScaleSeen():
                if not scale.seen(self.state, event):
                    return []
                return self._want(scale.wanted(self.state), event.now_us)

    def _applied(self, event: events.FleetApplied) -> list[Effect]:
        state = self.state
        if event.generation <= state.generation:
            return []
        scale.applied(state, event)
        state.generation, state.pools = event.generation, event.pools
        wanted = {name: pool.template for pool in event.pools for name in scale.names(state, pool)}
        return self._want(wanted, event.now_us)

    def _want(self, wanted: dict[str, Template], now_us: int) -> list[Effect]:
        """Let exactly these be, as they are to be."""
        state, found = self.state, list[Effect]()
        for name, instance in state.instances.items():
            if instance.wanted and name not in wanted:
                instance.wanted = False
                found.append(self._decide(name, instance, "there are to be fewer"))
        for name, template in wanted.items():
            before = state.instances.get(name)
            if before is not None and before.wanted and before.template == template:
                continue
            instance = state.instances[name] = PlacedInstance(template, since_us=now_us)
            instance.decided = before.decided if before is not None else 0
            if before is not None and before.node:
                # Same node: there it replaces the one that runs.
                why = "the fleet file changed"
                found.append(self._put(name, instance, before.node, why, now_us))
        return found + self._place(now_us)

    def _recalled(self, event: events.InstanceDecisionRecalled) -> list[Effect]:
        if event.instance not in self.state.instances:
            self.state.instances[event.instance] = PlacedInstance(
                event.template,
                event.run,
                event.node,
                "loading",
                "",
                event.now_us,
                decided=event.generation,
            )
        return []

    def _node_seen(self, event: events.NodeSeen) -> list[Effect]:
        if self.state.nodes.get(event.node) == event.memory_bytes:
            return []
        self.state.nodes[event.node] = event.memory_bytes
        return self._place(event.now_us)

    def _changed(self, event: events.InstanceChanged) -> None:
        instance = self.state.instances.get(event.instance)
        if instance is None:
            return
        if event.restarts >= 0:
            instance.restarts = event.restarts
        is_news = instance.lifecycle.apply(
            LifecycleFact(
                state=event.state,
                at_us=event.at_us or event.now_us,
                epoch=event.epoch,
                change=event.change,
                cause=event.reason,
            )
        )
        if not is_news:
            return
        if instance.state != event.state:
            instance.state, instance.since_us = event.state, event.at_us or event.now_us
        instance.reason, instance.refused = event.reason, event.state == "pending"

    def _place(self, now_us: int) -> list[Effect]:
        """Put every instance that has no node on the one with the most memory left."""
        found: list[Effect] = []
        for name, instance in self.state.instances.items():
            if instance.node or not instance.wanted or not self.state.nodes:
                continue
            best = max(sorted(self.state.nodes), key=self._left_bytes)
            found.append(self._put(name, instance, best, "the fleet file asks for it", now_us))
        return found

    def _left_bytes(self, node: str) -> int:
        placed = (i for i in self.state.instances.values() if i.wanted and i.node == node)
        return self.state.nodes[node] - sum(i.template.memory_bytes for i in placed)

    def _put(
        self, name: str, instance: PlacedInstance, node: str, why: str, now_us: int
    ) -> effects.DecideInstance:
        instance.node, instance.since_us = node, now_us
        instance.state, instance.reason = "pending", "decided"
        return self._decide(name, instance, why)

    def _decide(self, name: str, instance: PlacedInstance, why: str) -> effects.DecideInstance:
        template = instance.template
        instance.decided = max(self.state.generation, instance.decided + 1)
        return effects.DecideInstance(
            instance=name,
            generation=instance.decided,
            run=instance.wanted,
            node=instance.node,
            role=template.role,
            memory_bytes=template.memory_bytes,
            cores=template.cores,
            settings=template.settings,
            reason=why,
            devices=template.devices,
        )


SPEC = CoreSpec("operator", events.OperatorEvent, OperatorState, OperatorCore)
