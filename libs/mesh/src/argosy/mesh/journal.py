"""The journal of a core: every event in the order it was consumed, and what followed.

Ordering: `append` and `advance` are called by the one thread that steps the core, after
each step. A thread of the journal's own compresses and writes (see `journal_files`).

A segment begins with the core's state, so that each replays alone and old ones can be
deleted. When a segment is full, the state for the next one is taken in slices, one every
SLICE_EVERY_S, while steps go on and are recorded in the full segment. The step that takes
the last slice is the last one in the full segment.

Bounds: BUFFER_BYTES wait to be written; beyond that no slice is taken and records are
dropped. After a dropped record nothing is recorded until a new segment has begun, so what
is on disk always replays.
"""

import itertools
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from argosy.domain.core import CoreSpec, Sliceable, sliceable_parts, to_snapshot
from argosy.mesh.journal_files import JournalFiles
from argosy.mesh.journal_format import (
    FORMAT,
    SegmentHeader,
    SegmentState,
    Slice,
    StepRecord,
    chain,
    described,
)

log = logging.getLogger(__name__)

BUFFER_BYTES = 16 << 20
"""Some seconds of a busy router's records: a disk that is slower for longer is too slow."""
FRAME_BYTES = 256 << 10
"""Records are written when there are as many bytes of them: larger frames compress no better."""
FLUSH_S = 0.05
"""Or after this time: what a process that is killed may lose."""
SLICE_EVERY_S = 0.01
"""A slice takes about a millisecond: a snapshot takes a tenth of the event loop, for seconds."""

Entry = bytes | SegmentHeader | Slice | SegmentState
"""What waits to be written; bytes are an encoded StepRecord."""


class JournalWriter:
    """Appends one core's steps to segment files in `directory`.

    Promises that `append` and `advance` do no I/O and that what reached disk replays.
    """

    def __init__(
        self,
        directory: Path,
        spec: CoreSpec,
        state: Any,
        *,
        segment_bytes: int = 64 << 20,
        total_bytes: int = 1 << 30,
    ) -> None:
        self.directory = directory
        self.dropped = 0
        """Steps that were not recorded."""
        self._spec = spec
        self._segment_bytes = segment_bytes
        self._started_ms = time.time_ns() // 1_000_000
        self._encoder = msgspec.msgpack.Encoder(enc_hook=to_snapshot)
        self._sequence = 0
        self._digest = 0
        self._segment = 0
        self._parts: dict[str, Sliceable] | None = None
        """While the next segment's state is taken: its parts that are taken in slices."""
        self._slice_at_s = 0.0
        self._missed = False
        """A record was dropped: none may follow in this segment."""
        self._files = JournalFiles(directory, total_bytes)
        self._pending: list[Entry] = []
        self._pending_bytes = 0
        self._full = False
        """The current segment is. Set by the journal's thread, like the next two."""
        self._failed = False
        self._switching = False
        """A whole beginning waits to be written: `_full` says nothing of its segment yet."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._begin(state)
        while self._parts is not None:
            self._take_slice(state)
        self._thread = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._thread.start()

    def append(self, event: Any, effects: Sequence[Any]) -> None:
        """Record one step."""
        self._record(event, effects, "")

    def append_failure(self, event: Any, error: Exception) -> None:
        """Record that the core raised on this event. Nothing may be recorded after it."""
        self._record(event, (), described(error))

    def advance(self, state: Any) -> None:
        """Begin a new segment if one is needed, a slice at a time; `state` is as of now."""
        if self._failed:
            self._failed, self._missed = False, True
            self._stop_slices()
        if self._parts is None:
            if not self._missed and (self._switching or not self._full):
                return
            self._begin(state)
        now_s = time.monotonic()
        if now_s >= self._slice_at_s and self._pending_bytes <= BUFFER_BYTES:
            self._slice_at_s = now_s + SLICE_EVERY_S
            self._take_slice(state)

    def close(self) -> None:
        """Write what is waiting and stop. Safe to call twice."""
        self._stop_slices()
        self._closed = True
        self._wake.set()
        self._thread.join(timeout=10)

    def _record(self, event: Any, effects: Sequence[Any], raised: str) -> None:
        encoded = self._encoder.encode(effects)
        self._digest = chain(self._digest, encoded)
        self._sequence += 1
        if self._pending_bytes > BUFFER_BYTES or self._failed:
            self._missed = True
        if self._missed:
            self.dropped += 1
            return
        raw_event = msgspec.Raw(self._encoder.encode(event))
        step = StepRecord(self._sequence, raw_event, msgspec.Raw(encoded), self._digest, raised)
        data = self._encoder.encode(step)
        self._put(data, len(data))

    def _put(self, entry: Entry, size: int) -> None:
        with self._lock:
            self._pending.append(entry)
            self._pending_bytes += size
        if self._pending_bytes > FRAME_BYTES:
            self._wake.set()

    # -- the state a segment begins with

    def _begin(self, state: Any) -> None:
        self._put(SegmentHeader(FORMAT, self._spec.name, self._segment, self._started_ms), 0)
        self._segment += 1
        self._slice_at_s = 0
        self._parts = sliceable_parts(state)
        for part in self._parts.values():
            part.start_slices()

    def _take_slice(self, state: Any) -> None:
        """Take the next slice; when there is none, the rest, which begins the segment."""
        assert self._parts is not None
        for name, part in self._parts.items():
            if (data := part.next_slice()) is not None:
                self._put(Slice(name, data), len(data))
                return
        for name, part in self._parts.items():
            data = part.last_slice()
            self._put(Slice(name, data), len(data))
        encoded = self._encoder.encode(state)
        self._stop_slices()
        self._switching, self._missed = True, False
        self._put(SegmentState(encoded, self._digest), len(encoded))

    def _stop_slices(self) -> None:
        for part in (self._parts or {}).values():
            part.stop_slices()
        self._parts = None

    # -- the journal's thread

    def _write_all(self) -> None:
        closing = False
        while not closing:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            closing = self._closed
            with self._lock:
                batch, self._pending, self._pending_bytes = self._pending, [], 0
            for kind, entries in itertools.groupby(batch, key=type):
                self._write(kind, list(entries))
            self._full = self._files.record_bytes > self._segment_bytes
            if any(isinstance(entry, SegmentState) for entry in batch):
                self._switching = False
        self._files.close()

    def _write(self, kind: type[Entry], entries: list[Any]) -> None:
        try:
            if kind is bytes:
                self._write_records(entries)
            for entry in entries:
                if isinstance(entry, SegmentHeader):
                    self._files.begin(entry)
                elif isinstance(entry, Slice) and self._files.has_next:
                    self._files.write_slice(entry)
                elif isinstance(entry, SegmentState) and self._files.has_next:
                    self._files.finish(entry)
        except OSError as error:
            # Nothing may follow the gap in its segment: a new one goes on after it.
            lost = len(entries) if kind is bytes else 0
            log.error("journal in %s: lost %d records: %s", self.directory, lost, error)
            self.dropped += lost
            self._files.close()
            self._failed = True

    def _write_records(self, records: list[bytes]) -> None:
        if self._files.has_current:
            self._files.write_records(records)
        else:
            self.dropped += len(records)
