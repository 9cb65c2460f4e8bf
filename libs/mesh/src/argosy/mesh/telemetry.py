"""Traces out of every process: OTLP to a collector, or rotating files without one.

The process that begins a trace decides whether it is recorded, for all that take part: a caller
that records its own has the whole of it; of the rest ROOTS_PER_S are recorded, so that
tracing costs little however many requests there are. What is not recorded costs next
to nothing, and its ids travel all the same.
"""

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Token
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from argosy.domain.errors import ArgosyError
from argosy.mesh.span_file import SpanFile

log = logging.getLogger(__name__)

ROOTS_PER_S = 5
ROOTS_AT_ONCE = 100
"""Recorded of traces that begin here: more than people read, less than load is made of."""
PROPAGATOR = TraceContextTextMapPropagator()
PARENT = "traceparent"


class Tracer(trace.Tracer):
    """An SDK tracer that knows how many traces it may begin."""

    def __init__(self, tracer: trace.Tracer, *, exports: bool) -> None:
        self._tracer = tracer
        self._exports = exports
        self._roots = float(ROOTS_AT_ONCE)
        self._counted_s = time.monotonic()

    def may_begin(self) -> bool:
        """Whether a trace that begins now is recorded; if so it counts."""
        if not self._exports:
            return False
        now_s = time.monotonic()
        roots = self._roots + ROOTS_PER_S * (now_s - self._counted_s)
        self._roots, self._counted_s = min(roots, ROOTS_AT_ONCE), now_s
        if self._roots < 1:
            return False
        self._roots -= 1
        return True

    def start_span(self, *args: Any, **kwargs: Any) -> trace.Span:
        """As the SDK's."""
        return self._tracer.start_span(*args, **kwargs)

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:
        """As the SDK's."""
        return self._tracer.start_as_current_span(*args, **kwargs)


@dataclass
class Telemetry:
    """A process's tracer. Close it last."""

    tracer: trace.Tracer
    provider: TracerProvider | None = None

    def close(self) -> None:
        """Flush and stop exporting."""
        if self.provider is not None:
            self.provider.shutdown()


def start_telemetry(
    service: str, instance: str, *, traces_dir: Path | None, otlp_endpoint: str = ""
) -> Telemetry:
    """A tracer that exports to the collector if one is named, else to files.

    With neither, nothing is recorded; contexts go on as they came.
    """
    resource = Resource.create({"service.name": service, "service.instance.id": instance})
    provider = TracerProvider(resource=resource)
    if otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=otlp_endpoint)))
    elif traces_dir is not None:
        provider.add_span_processor(SpanFile(traces_dir, instance))
    exports = bool(otlp_endpoint) or traces_dir is not None
    return Telemetry(Tracer(provider.get_tracer("argosy"), exports=exports), provider)


def inject(context: Context | None = None) -> tuple[tuple[str, str], ...]:
    """The trace context (the current one by default) as gRPC metadata."""
    carrier: dict[str, str] = {}
    PROPAGATOR.inject(carrier, context)
    return tuple(carrier.items())


def extract(metadata: object) -> Context:
    """The trace context in gRPC metadata, NATS headers or HTTP headers."""
    carrier: dict[str, str] = dict(metadata or ())  # type: ignore[call-overload]
    return PROPAGATOR.extract(carrier) if PARENT in carrier else Context()


def traceparent() -> str:
    """The current trace context as one W3C header value, to go inside a message."""
    carrier: dict[str, str] = {}
    PROPAGATOR.inject(carrier)
    return carrier.get(PARENT, "")


def child_of(parent: str) -> Context:
    """The trace context of a `traceparent`; one without a trace for none."""
    return PROPAGATOR.extract({PARENT: parent}) if parent else Context()


@contextmanager
def detached_span(tracer: trace.Tracer, name: str) -> Iterator[Context]:
    """A span that is not made current, and its context: for use across a `yield`.

    An async generator may be closed from anywhere, so it must not leave a span current.
    """
    parent = trace.get_current_span().get_span_context()
    recorded = parent.trace_flags.sampled if parent.is_valid else begins(tracer)
    started = tracer.start_span(name) if recorded else unread_root()
    try:
        yield trace.set_span_in_context(started)
    except BaseException as error:
        record(started, error)
        raise
    finally:
        started.end()


class span:  # noqa: N801 - used as a function is
    """A current span that ends with the block and records how it failed.

    context: of the parent; the current one by default.
    """

    __slots__ = ("_arguments", "_opened", "_token", "_tracer")

    def __init__(
        self,
        tracer: trace.Tracer,
        name: str,
        context: Context | None = None,
        **attributes: str | int | bool,
    ) -> None:
        self._tracer = tracer
        self._arguments = (name, context, attributes)
        self._opened: trace.Span | None = None
        self._token: Token[Context] | None = None

    def __enter__(self) -> trace.Span:
        name, context, attributes = self._arguments
        parent = trace.get_current_span(context)
        about = parent.get_span_context()
        if about.is_valid and not about.trace_flags.sampled:
            if context is not None:
                self._token = attach(context)
            return parent
        if not about.is_valid and not begins(self._tracer):
            opened = unread_root()
        else:
            opened = self._opened = self._tracer.start_span(name, context, attributes=attributes)
        self._token = attach(trace.set_span_in_context(opened, context))
        return opened

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any
    ) -> None:
        if self._token is not None:
            detach(self._token)
        if self._opened is not None:
            if error is not None:
                record(self._opened, error)
            self._opened.end()


def begins(tracer: trace.Tracer) -> bool:
    """Whether a trace that begins now is recorded."""
    return not isinstance(tracer, Tracer) or tracer.may_begin()


def unread_root() -> trace.Span:
    """The first span of a trace nobody records: ids that travel, and nothing else."""
    ids = random.getrandbits(128) or 1, random.getrandbits(64) or 1
    return NonRecordingSpan(SpanContext(*ids, is_remote=False))


def record(failed: trace.Span, error: BaseException) -> None:
    """Note on a span how it failed."""
    text = type(error).__name__
    if isinstance(error, ArgosyError):
        text = f"{error.reason.name}: {error.message}"
    failed.set_status(Status(StatusCode.ERROR, text))
