"""Spans in rotating files, for processes without a collector.

A file holds one JSON line when a span starts and one when it ends. A process that is killed
leaves its started spans behind, so a trace keeps its shape and shows who died.
"""

import json
import logging
import os
import threading
from pathlib import Path

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import format_span_id, format_trace_id

log = logging.getLogger(__name__)

FILE_BYTES = 32 << 20
FILES_KEPT = 4
"""With FILE_BYTES: some hours of traces, and no more disk than a small log takes."""
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
