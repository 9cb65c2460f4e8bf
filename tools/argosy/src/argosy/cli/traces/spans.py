"""Read span files and join them into traces."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec


class SpanLine(msgspec.Struct, frozen=True):
    """One line of a span file: a span that started (end_ns None) or ended."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    service: str
    start_ns: int
    end_ns: int | None
    status: str
    error: str | None
    attributes: dict[str, str | int | float | bool]


@dataclass(frozen=True)
class Trace:
    """All spans of one trace id, by start time."""

    trace_id: str
    spans: tuple[SpanLine, ...]

    @property
    def services(self) -> list[str]:
        """Who took part, in order of appearance."""
        return list(dict.fromkeys(span.service for span in self.spans))

    @property
    def roots(self) -> list[SpanLine]:
        """Spans without a parent, by right."""
        return [span for span in self.spans if span.parent_id is None]

    @property
    def orphans(self) -> list[SpanLine]:
        """Spans whose parent should be here and is not."""
        known = {span.span_id for span in self.spans}
        return [s for s in self.spans if s.parent_id is not None and s.parent_id not in known]

    @property
    def lost(self) -> list[SpanLine]:
        """Spans that never ended: their process was killed, or still runs."""
        return [span for span in self.spans if span.end_ns is None]

    def children(self, parent: SpanLine) -> list[SpanLine]:
        """Spans directly below another."""
        return [span for span in self.spans if span.parent_id == parent.span_id]


def read_lines(directory: Path) -> Iterator[SpanLine]:
    """Every whole line of every span file below `directory`; a torn last line is skipped."""
    decode = msgspec.json.Decoder(SpanLine).decode
    for path in sorted(directory.rglob("*.spans.jsonl*")):
        for line in path.read_bytes().splitlines():
            try:
                yield decode(line)
            except msgspec.DecodeError:
                continue


def join(lines: Iterable[SpanLine]) -> dict[str, Trace]:
    """Traces by id, in order of their first span."""
    spans: dict[str, dict[str, SpanLine]] = {}
    for line in lines:
        trace = spans.setdefault(line.trace_id, {})
        if line.span_id not in trace or line.end_ns is not None:
            trace[line.span_id] = line
    traces = [
        Trace(trace_id, tuple(sorted(by_id.values(), key=lambda s: (s.start_ns, s.span_id))))
        for trace_id, by_id in spans.items()
    ]
    return {trace.trace_id: trace for trace in sorted(traces, key=lambda t: t.spans[0].start_ns)}


def find(directory: Path, prefix: str) -> list[Trace]:
    """Traces whose id begins with `prefix`; the last one for `last`."""
    traces = join(read_lines(directory))
    if prefix == "last":
        return [t for t in traces.values() if any(s.name == "client.generate" for s in t.spans)][
            -1:
        ]
    return [trace for trace_id, trace in traces.items() if trace_id.startswith(prefix)]
