"""What a journal's segment file holds.

A file is a run of frames; a frame is `length, crc32c, zstd(payload)`. The payloads are,
in this order: one SegmentHeader; any number of Slices; one SegmentState; then lists of
StepRecords. Slices and state together are the core's state just before the first record,
so that each segment replays alone. A file may end anywhere: a reader stops at the last
whole frame.
"""

import errno
import os
import struct
from typing import BinaryIO

import crc32c
import msgspec
import xxhash
import zstandard

FORMAT = 2
FRAME = struct.Struct("<II")
SUFFIX = ".argj"
PARTIAL_SUFFIX = ".argj.part"
"""Of a segment whose beginning is not whole yet; nothing reads it."""


class SegmentHeader(msgspec.Struct, frozen=True):
    """The first frame of a segment."""

    format: int
    core: str
    segment: int
    started_ms: int


class Slice(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Some of a Sliceable part of the state. Later slices replace what earlier ones said."""

    part: str
    """The field of the state."""
    data: bytes


class SegmentState(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The state, without what the slices before it hold."""

    state: bytes
    digest: int
    """The running digest before the first record."""


class StepRecord(msgspec.Struct, frozen=True, array_like=True):
    """One step of a core. `digest` chains over the effects of all steps before."""

    sequence: int
    event: msgspec.Raw
    effects: msgspec.Raw
    digest: int
    raised: str = ""
    """What the core raised instead of deciding; then `effects` is empty, and no record follows."""


def chain(digest: int, effects: bytes) -> int:
    """The running digest after a step whose encoded effects are `effects`."""
    return xxhash.xxh3_64_intdigest(digest.to_bytes(8, "little") + effects)


def described(error: BaseException) -> str:
    """An exception as a record says it."""
    return f"{type(error).__name__}: {error}"


def frame(payload: bytes) -> bytes:
    """`payload` compressed, with its length and checksum before it."""
    packed = zstandard.compress(payload, 1)
    return FRAME.pack(len(packed), crc32c.crc32c(packed)) + packed


def write_whole(out: BinaryIO, data: bytes) -> None:
    """Write all of `data`. Raises OSError also when a full disk takes only a part."""
    if out.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
