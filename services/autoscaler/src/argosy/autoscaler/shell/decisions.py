"""Decisions made lately, and what came of them: for `argosy why`.

Bounds: the last DECISIONS_KEPT, and OUTCOMES_KEPT lines of each; older ones are on the bus.
"""

from datetime import UTC, datetime
from typing import Any

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh.bus import Bus, Envelope
from argosy.wire.autoscaler.v1 import autoscaler_pb2, events_pb2
from argosy.wire.instance.v1 import events_pb2 as instance_pb2
from argosy.wire.node_agent.v1 import events_pb2 as node_pb2

DECISIONS_KEPT = 512
OUTCOMES_KEPT = 64
NAMED = 5


class Decisions:
    """See the module."""

    def __init__(self) -> None:
        self._known: dict[str, events_pb2.ScaleDecided] = {}
        self._outcomes: dict[str, list[str]] = {}
        self._decided: dict[tuple[str, int], str] = {}
        """(instance, decision sequence): the decision that it was part of."""

    def follow(self, bus: Bus, durable: str) -> None:
        """Hear what becomes of decisions from now on."""
        bus.follow(events_pb2.SleepDecided, self._on_part, f"{durable}-why-sleep")
        bus.follow(events_pb2.WakeDecided, self._on_part, f"{durable}-why-wake")
        bus.follow(instance_pb2.InstanceSlept, self._on_change, f"{durable}-why-slept")
        bus.follow(instance_pb2.InstanceWoke, self._on_change, f"{durable}-why-woke")
        bus.follow(node_pb2.SleepDecisionRefused, self._on_refused, f"{durable}-why-refused")

    def add(self, fact: events_pb2.ScaleDecided) -> None:
        """Keep a decision."""
        self._known[fact.id] = fact
        while len(self._known) > DECISIONS_KEPT:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._outcomes.pop(oldest, None)

    def recent(self, count: int) -> list[events_pb2.ScaleDecided]:
        """The last ones, oldest first."""
        return list(self._known.values())[-count:]

    def explain(self, id_: str) -> autoscaler_pb2.ExplainReply:
        """One, by its id or the beginning of it; the last for none. Raises NO_DECISION."""
        matching = [known for known in self._known if known.startswith(id_)]
        exact = [id_] if id_ in self._known else matching if id_ else matching[-1:]
        if len(exact) == 1:
            outcomes = self._outcomes.get(exact[0], [])
            return autoscaler_pb2.ExplainReply(decision=self._known[exact[0]], outcomes=outcomes)
        recent = ", ".join(list(self._known)[-NAMED:])
        message = f"no decision '{id_}'; the last ones: {recent}"
        if exact:
            message = f"'{id_}' is how {len(exact)} decisions begin: write more of it"
        elif not recent:
            message = "no decision was made yet"
        raise ArgosyError(Reason.NO_DECISION, message)

    def _on_part(
        self, fact: events_pb2.SleepDecided | events_pb2.WakeDecided, envelope: Envelope
    ) -> None:
        if not fact.decision:
            return  # No plan decided it.
        self._decided[fact.instance_id, fact.decision_sequence] = fact.decision
        while len(self._decided) > DECISIONS_KEPT * 8:
            del self._decided[next(iter(self._decided))]

    def _on_change(self, fact: Any, envelope: Envelope) -> None:
        slept = isinstance(fact, instance_pb2.InstanceSlept)
        steps = ", ".join(f"{step.name} {step.ms} ms" for step in fact.change.steps)
        what = f"{fact.instance_id} {'slept' if slept else 'woke'} in {fact.change.took_ms} ms"
        self._note(fact.instance_id, fact.change.decision_sequence, f"{what} ({steps})", envelope)

    def _on_refused(self, fact: node_pb2.SleepDecisionRefused, envelope: Envelope) -> None:
        what = f"{fact.instance_id} could not {'wake' if fact.wake else 'sleep'}: {fact.reason}"
        self._note(fact.instance_id, fact.decision_sequence, what, envelope)

    def _note(self, instance: str, sequence: int, what: str, envelope: Envelope) -> None:
        decision = self._decided.get((instance, sequence))
        if decision not in self._known:
            return
        at = datetime.fromtimestamp(envelope.time_ms / 1e3, UTC)
        lines = self._outcomes.setdefault(decision, [])
        lines.append(f"{at:%H:%M:%S} {what}")
        del lines[:-OUTCOMES_KEPT]
