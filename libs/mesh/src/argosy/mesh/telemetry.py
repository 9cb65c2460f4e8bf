"""Traces out of every process: OTLP to a collector, or rotating files without one.

The files hold one JSON line when a span starts and one when it ends. A process that is
killed leaves its started spans behind, so a trace keeps its shape and shows who died.
"""

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode, format_span_id, format_trace_id

from argosy.mesh.errors import ArgosyError

log = logging.getLogger(__name__)

FILE_BYTES = 32 << 20
FILES_KEPT = 4
SUFFIX = ".spans.jsonl"


class SpanFile(SpanProcessor):
    """Appends spans to `directory/<service>.spans.jsonl`, rotated at FILE_BYTES.

    Lines are written at once, unbuffered: a kill loses none. At most FILES_KEPT files
    stay; the oldest goes first. A disk that refuses them costs spans, never a request.
    """

    def __init__(self, directory: Path, service: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / f"{service}{SUFFIX}"
        self._service = service
        self._lock = threading.Lock()
        self._file = -1
        self._bytes = 0
        self._lost = 0
        self._open()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Write that the span began."""
        self._write(describe(span, self._service))

    def on_end(self, span: ReadableSpan) -> None:
        """Write the whole span."""
        self._write(describe(span, self._service))

    def shutdown(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits to be flushed."""
        return True

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._bytes = os.fstat(self._file).st_size

    def _write(self, line: dict[str, object]) -> None:
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._file < 0:
                return
            try:
                if self._bytes + len(data) > FILE_BYTES:
                    self._rotate()
                self._bytes += os.write(self._file, data)
            except OSError as error:
                if not self._lost:
                    log.error("spans are being lost: %s: %s", self._path, error)
                self._lost += 1

    def _rotate(self) -> None:
        os.close(self._file)
        self._file = -1
        for index in range(FILES_KEPT - 1, 0, -1):
            older = self._path.with_suffix(f".jsonl.{index}")
            newer = self._path.with_suffix(f".jsonl.{index - 1}") if index > 1 else self._path
            if newer.exists():
                newer.rename(older)
        self._open()


def describe(span: ReadableSpan, service: str) -> dict[str, object]:
    """A span as a flat JSON object; `end_ns` is null while it runs."""
    context = span.get_span_context()
    assert context is not None
    return {
        "trace_id": format_trace_id(context.trace_id),
        "span_id": format_span_id(context.span_id),
        "parent_id": format_span_id(span.parent.span_id) if span.parent else None,
        "name": span.name,
        "service": service,
        "start_ns": span.start_time,
        "end_ns": span.end_time,
        "status": span.status.status_code.name,
        "error": span.status.description,
        "attributes": dict(span.attributes or {}),
    }


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

    With neither, spans are made (so context still propagates) and go nowhere.
    """
    resource = Resource.create({"service.name": service, "service.instance.id": instance})
    provider = TracerProvider(resource=resource)
    if otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
            OTLPSpanExporter,
        )

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=otlp_endpoint)))
    elif traces_dir is not None:
        provider.add_span_processor(SpanFile(traces_dir, instance))
    return Telemetry(provider.get_tracer("argosy"), provider)


def inject(context: Context | None = None) -> tuple[tuple[str, str], ...]:
    """The trace context (the current one by default) as gRPC metadata."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context=context)
    return tuple(carrier.items())


def extract(metadata: object) -> Context:
    """The trace context in gRPC metadata, NATS headers or HTTP headers."""
    return propagate.extract(dict(metadata or ()))  # type: ignore[call-overload]


@contextmanager
def detached_span(tracer: trace.Tracer, name: str) -> Iterator[Context]:
    """A span that is not made current, and its context: for use across a `yield`.

    An async generator may be closed from anywhere, so it must not leave a span current.
    """
    started = tracer.start_span(name)
    try:
        yield trace.set_span_in_context(started)
    except BaseException as error:
        record(started, error)
        raise
    finally:
        started.end()


@contextmanager
def span(
    tracer: trace.Tracer, name: str, context: Context | None = None, **attributes: str | int | bool
) -> Iterator[trace.Span]:
    """A current span that ends with the block and records how it failed."""
    with tracer.start_as_current_span(
        name, context=context, attributes=attributes,
        record_exception=False, set_status_on_exception=False,
    ) as current:  # fmt: skip
        try:
            yield current
        except BaseException as error:
            record(current, error)
            raise


def record(failed: trace.Span, error: BaseException) -> None:
    """Note on a span how it failed."""
    text = type(error).__name__
    if isinstance(error, ArgosyError):
        text = f"{error.reason.name}: {error.message}"
    failed.set_status(Status(StatusCode.ERROR, text))
