"""The journal of a core: every event in the order it was consumed, and what followed.

A segment file is a run of frames; a frame is `length, crc32c, zstd(payload)`. The
first frame is the header with the core's state at that point, so that each segment
replays alone and old ones can be deleted. A file may end anywhere: reading stops at
the last whole frame.

Ordering: `append` is called by the one thread that steps the core. A background
thread compresses and writes. Bounds: `BUFFER_BYTES` waiting to be written; beyond
that records are dropped, and the next segment starts from a fresh state, so what is
on disk always replays. `total_bytes` on disk; beyond that the oldest segments go.
"""

import errno
import itertools
import logging
import os
import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import crc32c
import msgspec
import xxhash
import zstandard

from argosy.domain.core import CoreSpec, to_snapshot

log = logging.getLogger(__name__)

FORMAT = 1
FRAME = struct.Struct("<II")
BUFFER_BYTES = 16 << 20
FRAME_BYTES = 256 << 10
FLUSH_S = 0.05
SUFFIX = ".argj"


class SegmentHeader(msgspec.Struct, frozen=True):
    """The first frame of a segment."""

    format: int
    core: str
    segment: int
    started_ms: int
    state: bytes
    digest: int


class StepRecord(msgspec.Struct, frozen=True, array_like=True):
    """One step of a core. `digest` chains over the effects of all steps before."""

    sequence: int
    event: msgspec.Raw
    effects: msgspec.Raw
    digest: int


def chain(digest: int, effects: bytes) -> int:
    """The running digest after a step whose encoded effects are `effects`."""
    return xxhash.xxh3_64_intdigest(digest.to_bytes(8, "little") + effects)


class JournalWriter:
    """Appends one core's steps to segment files in `directory`.

    Promises that `append` does no I/O and that what reached disk replays.
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
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.dropped = 0
        self._spec = spec
        self._segment_bytes = segment_bytes
        self._header_bytes = 0
        self._total_bytes = total_bytes
        self._started_ms = time.time_ns() // 1_000_000
        self._encoder = msgspec.msgpack.Encoder(enc_hook=to_snapshot)
        self._sequence = 0
        self._digest = 0
        self._segment = 0
        self._pending: list[tuple[bool, bytes]] = [(True, self._header(state))]
        self._pending_bytes = 0
        self._rotate = False
        self._missed = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._thread.start()

    def append(self, event: Any, effects: Sequence[Any], state: Any) -> None:
        """Record one step; `state` is the core's state after it."""
        encoded = self._encoder.encode(effects)
        self._digest = chain(self._digest, encoded)
        self._sequence += 1
        if self._pending_bytes > BUFFER_BYTES:
            self.dropped += 1
            self._missed = True
            return
        with self._lock:
            if self._missed:
                # No replay can step from before the gap to here: go on from the state after.
                self.dropped += 1
            else:
                raw_event = msgspec.Raw(self._encoder.encode(event))
                record = StepRecord(self._sequence, raw_event, msgspec.Raw(encoded), self._digest)
                data = self._encoder.encode(record)
                self._pending.append((False, data))
                self._pending_bytes += len(data)
            if self._rotate or self._missed:
                self._rotate = self._missed = False
                self._segment += 1
                self._pending.append((True, self._header(state)))
        if self._pending_bytes > FRAME_BYTES:
            self._wake.set()

    def close(self) -> None:
        """Write what is waiting and stop. Safe to call twice."""
        self._closed = True
        self._wake.set()
        self._thread.join(timeout=10)

    def _header(self, state: Any) -> bytes:
        header = SegmentHeader(
            FORMAT,
            self._spec.name,
            self._segment,
            self._started_ms,
            self._encoder.encode(state),
            self._digest,
        )
        return self._encoder.encode(header)

    def _write_all(self) -> None:
        out: BinaryIO | None = None
        closing = False
        while not closing:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            closing = self._closed
            with self._lock:
                batch, self._pending, self._pending_bytes = self._pending, [], 0
            try:
                out = self._write_batch(out, batch)
            except OSError as error:
                # Nothing may follow the gap in its segment: a new one goes on after it.
                log.error("journal in %s: lost %d records: %s", self.directory, len(batch), error)
                self.dropped += len(batch)
                self._rotate = True
                if out is not None:
                    out.close()
                out = None
            # Since its header: a state larger than a segment must not fill one by itself.
            if out is not None and out.tell() - self._header_bytes > self._segment_bytes:
                self._rotate = True
        if out is not None:
            out.close()

    def _write_batch(
        self, out: BinaryIO | None, batch: list[tuple[bool, bytes]]
    ) -> BinaryIO | None:
        for is_header, group in itertools.groupby(batch, key=lambda entry: entry[0]):
            payloads = [data for _, data in group]
            if is_header:
                out = self._next_segment(out, payloads[-1])
            elif out is not None:
                raws = [msgspec.Raw(data) for data in payloads]
                write_whole(out, frame(msgspec.msgpack.encode(raws)))
            else:
                self.dropped += len(payloads)
        return out

    def _next_segment(self, current: BinaryIO | None, header: bytes) -> BinaryIO:
        if current is not None:
            current.close()
        self._prune()
        decoded = msgspec.msgpack.decode(header, type=SegmentHeader)
        name = f"{self._spec.name}-{self._started_ms}-{decoded.segment:06d}{SUFFIX}"
        path = self.directory / name
        out = path.open("ab", buffering=0)
        try:
            write_whole(out, frame(header))
        except OSError:
            out.close()
            path.unlink()
            raise
        self._header_bytes = out.tell()
        return out

    def _prune(self) -> None:
        paths = sorted(self.directory.glob(f"*{SUFFIX}"), key=lambda p: p.stat().st_mtime)
        kept_bytes = sum(p.stat().st_size for p in paths)
        while paths and kept_bytes > self._total_bytes:
            oldest = paths.pop(0)
            kept_bytes -= oldest.stat().st_size
            log.info("journal over %d bytes: deleting %s", self._total_bytes, oldest.name)
            oldest.unlink()


def write_whole(out: BinaryIO, data: bytes) -> None:
    """Write all of `data`. Raises OSError also when a full disk takes only a part."""
    if out.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def frame(payload: bytes) -> bytes:
    """`payload` compressed, with its length and checksum before it."""
    packed = zstandard.compress(payload, 1)
    return FRAME.pack(len(packed), crc32c.crc32c(packed)) + packed
