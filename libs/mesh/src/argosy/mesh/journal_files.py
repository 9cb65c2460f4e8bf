"""The journal's files: one that records go to, and one whose beginning is being written.

Used by the journal's thread alone. A segment's file has another name until header, slices
and state are in it; so every file that a reader finds replays. Beyond `total_bytes` the
oldest segments are deleted.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from argosy.mesh.journal_format import (
    PARTIAL_SUFFIX,
    SUFFIX,
    SegmentHeader,
    SegmentState,
    Slice,
    frame,
    write_whole,
)

log = logging.getLogger(__name__)


class JournalFiles:
    """See the module. Methods raise OSError; `abandon` the segment concerned then."""

    def __init__(self, directory: Path, total_bytes: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._total_bytes = total_bytes
        self._current: BinaryIO | None = None
        self._next: BinaryIO | None = None
        self._next_path = directory
        self._beginning_bytes = 0
        for left_behind in directory.glob(f"*{PARTIAL_SUFFIX}"):
            left_behind.unlink()

    @property
    def has_current(self) -> bool:
        """Whether records can be written."""
        return self._current is not None

    @property
    def has_next(self) -> bool:
        """Whether the next segment was begun."""
        return self._next is not None

    @property
    def record_bytes(self) -> int:
        """In the current segment, after its beginning: a large state must not fill one alone."""
        return self._current.tell() - self._beginning_bytes if self._current is not None else 0

    def write_records(self, records: Sequence[bytes]) -> None:
        """Append records to the current segment."""
        assert self._current is not None
        raws = [msgspec.Raw(record) for record in records]
        write_whole(self._current, frame(msgspec.msgpack.encode(raws)))

    def begin(self, header: SegmentHeader) -> None:
        """Open the next segment's file; an earlier one that was not finished is dropped."""
        self.abandon_next()
        self._prune()
        name = f"{header.core}-{header.started_ms}-{header.segment:06d}"
        self._next_path = self._directory / f"{name}{PARTIAL_SUFFIX}"
        self._next = self._next_path.open("wb", buffering=0)
        write_whole(self._next, frame(msgspec.msgpack.encode(header)))

    def write_slice(self, part: Slice) -> None:
        """Add a slice to the next segment."""
        assert self._next is not None
        write_whole(self._next, frame(msgspec.msgpack.encode(part)))

    def finish(self, state: SegmentState) -> None:
        """Complete the next segment's beginning: records go to it from now on."""
        assert self._next is not None
        write_whole(self._next, frame(msgspec.msgpack.encode(state)))
        self._next_path.rename(self._next_path.with_suffix(""))
        self.abandon_current()
        self._current, self._next = self._next, None
        self._beginning_bytes = self._current.tell()

    def abandon_current(self) -> None:
        """Write no more to the current segment."""
        if self._current is not None:
            self._current.close()
            self._current = None

    def abandon_next(self) -> None:
        """Drop the segment that was begun."""
        if self._next is not None:
            self._next.close()
            self._next = None
            self._next_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close what is open."""
        self.abandon_next()
        self.abandon_current()

    def _prune(self) -> None:
        paths = sorted(self._directory.glob(f"*{SUFFIX}"), key=lambda p: p.stat().st_mtime)
        kept_bytes = sum(p.stat().st_size for p in paths)
        # The newest may be the current one.
        while len(paths) > 1 and kept_bytes > self._total_bytes:
            oldest = paths.pop(0)
            kept_bytes -= oldest.stat().st_size
            log.info("journal over %d bytes: deleting %s", self._total_bytes, oldest.name)
            oldest.unlink()
