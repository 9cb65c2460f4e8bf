"""Span files: both ends of every span, bounded, and whole up to the instant of a kill."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh import span_file, telemetry
from argosy.mesh.telemetry import Telemetry, start_telemetry

DIE_INSIDE_A_SPAN = """
import os, sys
from pathlib import Path
from argosy.mesh import telemetry
tracer = telemetry.start_telemetry("node", "node-1", traces_dir=Path(sys.argv[1])).tracer
with telemetry.span(tracer, "outer"):
    with telemetry.span(tracer, "done"):
        pass
    with telemetry.span(tracer, "inner"):
        os._exit(9)
"""


@pytest.fixture
def traces(tmp_path: Path) -> Telemetry:
    return start_telemetry("node", "node-1", traces_dir=tmp_path)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_span_leaves_a_line_when_it_starts_and_one_when_it_ends(
    traces: Telemetry, tmp_path: Path
) -> None:
    with telemetry.span(traces.tracer, "work", tokens=3):
        pass

    started, ended = read(tmp_path / "node-1.spans.jsonl")
    assert started["end_ns"] is None
    assert ended["end_ns"] >= ended["start_ns"] == started["start_ns"]
    assert ended["span_id"] == started["span_id"]
    assert (ended["name"], ended["service"], ended["attributes"]) == (
        "work",
        "node-1",
        {"tokens": 3},
    )


def test_a_span_inside_another_names_it_as_parent(traces: Telemetry, tmp_path: Path) -> None:
    with telemetry.span(traces.tracer, "outer"), telemetry.span(traces.tracer, "inner"):
        pass

    outer, inner, *_ = read(tmp_path / "node-1.spans.jsonl")
    assert (outer["parent_id"], inner["parent_id"]) == (None, outer["span_id"])
    assert inner["trace_id"] == outer["trace_id"]


def test_a_failed_span_says_why(traces: Telemetry, tmp_path: Path) -> None:
    with pytest.raises(ArgosyError), telemetry.span(traces.tracer, "work"):
        raise ArgosyError(Reason.KV_LOST, "expired")

    *_, ended = read(tmp_path / "node-1.spans.jsonl")
    assert (ended["status"], ended["error"]) == ("ERROR", "KV_LOST: expired")


def test_a_killed_process_leaves_the_spans_it_had_started(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DIE_INSIDE_A_SPAN, str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == 9

    spans = {span["name"]: span for span in read(tmp_path / "node-1.spans.jsonl")}
    assert spans["done"]["end_ns"] is not None
    assert spans["outer"]["end_ns"] is spans["inner"]["end_ns"] is None
    assert spans["inner"]["parent_id"] == spans["outer"]["span_id"]


def test_files_rotate_and_the_oldest_spans_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_file, "FILE_BYTES", 2000)
    traces = start_telemetry("node", "node-1", traces_dir=tmp_path)
    for number in range(60):
        with telemetry.span(traces.tracer, "work", number=number):
            pass

    files = list(tmp_path.iterdir())
    assert len(files) == span_file.FILES_KEPT
    assert all(path.stat().st_size <= 2000 for path in files)
    kept = {span["attributes"]["number"] for path in files for span in read(path)}
    assert kept == set(range(min(kept), 60))
    assert min(kept) > 0


def test_a_restarted_process_appends_to_its_file(traces: Telemetry, tmp_path: Path) -> None:
    traces.tracer.start_span("before").end()
    traces.close()
    again = start_telemetry("node", "node-1", traces_dir=tmp_path)
    again.tracer.start_span("after").end()

    names = [span["name"] for span in read(tmp_path / "node-1.spans.jsonl")]
    assert names == ["before", "before", "after", "after"]


def test_a_full_disk_costs_spans_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "node-1.spans.jsonl").symlink_to("/dev/full")
    traces = start_telemetry("node", "node-1", traces_dir=tmp_path)
    with telemetry.span(traces.tracer, "work"):
        pass
    traces.close()

    (complaint,) = caplog.messages
    assert "node-1.spans.jsonl" in complaint
    assert "No space left" in complaint


def test_a_span_that_ends_after_the_end_is_harmless(traces: Telemetry, tmp_path: Path) -> None:
    late = traces.tracer.start_span("late")
    traces.close()
    late.end()
    assert [span["end_ns"] for span in read(tmp_path / "node-1.spans.jsonl")] == [None]


def test_a_detached_span_is_nobodys_current_one_but_can_be_a_parent(
    traces: Telemetry, tmp_path: Path
) -> None:
    with telemetry.detached_span(traces.tracer, "stream") as context:
        with telemetry.span(traces.tracer, "apart"):
            pass
        with telemetry.span(traces.tracer, "within", context):
            pass

    spans = {span["name"]: span for span in read(tmp_path / "node-1.spans.jsonl")}
    assert spans["apart"]["parent_id"] is None
    assert spans["within"]["parent_id"] == spans["stream"]["span_id"]
    assert spans["stream"]["end_ns"] >= spans["within"]["end_ns"]


def test_without_files_or_collector_context_still_gets_across() -> None:
    traces = start_telemetry("node", "node-1", traces_dir=None)
    with telemetry.span(traces.tracer, "caller") as caller:
        metadata = telemetry.inject()
    with telemetry.span(traces.tracer, "callee", telemetry.extract(metadata)) as callee:
        assert callee.get_span_context().trace_id == caller.get_span_context().trace_id


@pytest.mark.parametrize("metadata", [None, (), (("traceparent", "rubbish"),)])
def test_a_call_without_a_usable_trace_begins_one(traces: Telemetry, metadata: Any) -> None:
    with telemetry.span(traces.tracer, "work", telemetry.extract(metadata)) as span:
        assert span.parent is None  # type: ignore[attr-defined]


def test_of_many_traces_that_begin_here_a_few_are_recorded(
    traces: Telemetry, tmp_path: Path
) -> None:
    for _ in range(2 * telemetry.ROOTS_AT_ONCE):
        with telemetry.span(traces.tracer, "work"):
            pass

    recorded = len(read(tmp_path / "node-1.spans.jsonl")) // 2
    assert telemetry.ROOTS_AT_ONCE <= recorded < 2 * telemetry.ROOTS_AT_ONCE


def test_a_caller_that_records_its_trace_is_always_recorded(
    traces: Telemetry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces.tracer, "may_begin", lambda: False)
    parent = telemetry.child_of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    with telemetry.span(traces.tracer, "work", parent), telemetry.span(traces.tracer, "inner"):
        pass
    with telemetry.span(traces.tracer, "nobody's"):
        pass

    assert {span["name"] for span in read(tmp_path / "node-1.spans.jsonl")} == {"work", "inner"}


def test_a_trace_that_is_not_recorded_here_is_recorded_nowhere(traces: Telemetry) -> None:
    elsewhere = start_telemetry("other", "other-1", traces_dir=None)
    with telemetry.span(elsewhere.tracer, "caller") as caller:
        metadata = dict(telemetry.inject())
        with telemetry.span(elsewhere.tracer, "inner") as inner:
            assert inner is caller
    with telemetry.span(traces.tracer, "callee", telemetry.extract(metadata)) as callee:
        assert callee.get_span_context().trace_id == caller.get_span_context().trace_id
        assert not callee.is_recording()


def test_a_trace_context_survives_inside_a_message(traces: Telemetry) -> None:
    with telemetry.span(traces.tracer, "caller") as caller:
        parent = telemetry.child_of(telemetry.traceparent())
    with telemetry.span(traces.tracer, "callee", parent) as callee:
        assert callee.get_span_context().trace_id == caller.get_span_context().trace_id
    assert telemetry.traceparent() == ""
