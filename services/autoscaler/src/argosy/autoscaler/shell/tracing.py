"""One trace from load to wake: what was seen, what was expected of it, what was decided, who acts.

Load is reported several times a second and mostly leads to nothing, so that a report carries no
trace of its own. When a decision comes of one, its trace is begun then, at the time of the report:
`autoscaler.load` names the router's fact, `autoscaler.forecast` and `autoscaler.decide` follow, and
the facts of the decision carry the trace on to nodes and instances.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context

from argosy.autoscaler.core import effects
from argosy.autoscaler.core.state import AutoscalerState
from argosy.mesh import telemetry

KEPT = 64


class DecisionTraces:
    """Traces of the last decisions."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._contexts: dict[str, Context] = {}

    @contextmanager
    def decision(
        self, effect: effects.DecideScale, state: AutoscalerState, now_us: int
    ) -> Iterator[str]:
        """Within it facts belong to the decision; gives the trace context of the load behind it."""
        heard_us = min(state.heard_us, now_us) if state.heard_us > 0 else now_us
        load = self._tracer.start_span("autoscaler.load", Context(), start_time=heard_us * 1000)
        load.set_attributes({"fact": effect.trace, "rate_now": effect.expected.rate_now})
        above = trace.set_span_in_context(load, Context())
        with telemetry.span(
            self._tracer,
            "autoscaler.forecast",
            above,
            rate_mean=str(effect.expected.rate_mean),
            rate_upper=str(effect.expected.rate_upper),
            ahead_s=effect.expected.ahead_s,
        ):
            parent = telemetry.traceparent()
            with telemetry.span(
                self._tracer, "autoscaler.decide", decision=effect.id, reason=effect.reason
            ) as decided:
                self._contexts[effect.id] = trace.set_span_in_context(decided, Context())
                if len(self._contexts) > KEPT:
                    del self._contexts[next(iter(self._contexts))]
                yield parent
        load.end()

    @contextmanager
    def part(self, decision: str) -> Iterator[None]:
        """Within it facts belong to an earlier decision."""
        with telemetry.span(self._tracer, "autoscaler.tell", self._contexts.get(decision)):
            yield
