"""What the store's core is told."""

import msgspec

from argosy.domain.core import Event, TimerFired


class Offered(msgspec.Struct, frozen=True):
    """A block somebody would like to store."""

    key: bytes
    parent: bytes
    """Empty for the first of a chain, or of a part of one kept here."""
    hash: int
    tokens: int


class Recovered(msgspec.Struct, frozen=True):
    """A block found again on SSD."""

    key: bytes
    parent: bytes
    hash: int
    tokens: int
    block_bytes: int
    checksum: int
    offset: int


class SegmentFound(msgspec.Struct, frozen=True):
    """A segment file found again, and the size of its slots."""

    number: int
    slot_bytes: int


class SsdRecovered(Event, frozen=True, kw_only=True, tag=True):
    """The scan of the SSD tier at start is over."""

    segments: list[SegmentFound]
    blocks: list[Recovered]


class BlocksRequested(Event, frozen=True, kw_only=True, tag=True):
    """Somebody wants the longest stored prefix of `keys`; `before` they have already."""

    lease: int
    keys: list[bytes]
    block_bytes: int
    before: list[bytes] = msgspec.field(default_factory=list)


class RoomRequested(Event, frozen=True, kw_only=True, tag=True):
    """Somebody wants to store these blocks."""

    lease: int
    block_bytes: int
    blocks: list[Offered]


class BlocksWritten(Event, frozen=True, kw_only=True, tag=True):
    """The blocks a lease got room for are in memory. checksums: in order; 0: it is not."""

    lease: int
    checksums: list[int]


class LeaseEnded(Event, frozen=True, kw_only=True, tag=True):
    """Whoever had the lease gave it back, hung up or died."""

    lease: int


class SsdRead(Event, frozen=True, kw_only=True, tag=True):
    """Blocks were read from SSD and checked; `bad` could not be, or were corrupt."""

    good: list[bytes]
    bad: list[bytes]
    trouble: str = ""
    """What SSD itself has failed at, if it has."""


class SsdWritten(Event, frozen=True, kw_only=True, tag=True):
    """Blocks are on SSD for good, or `trouble` says why they are not."""

    keys: list[bytes]
    trouble: str = ""


class BlockCorrupt(Event, frozen=True, kw_only=True, tag=True):
    """A block's copy in that tier is not what was stored."""

    key: bytes
    tier: int


class FlushRequested(Event, frozen=True, kw_only=True, tag=True):
    """Write to SSD whatever is only in memory; or drop all that is not in use."""

    flush: int
    drop: bool = False


class FetchMeasured(Event, frozen=True, kw_only=True, tag=True):
    """Somebody fetched blocks of a tier: how much, in how long."""

    tier: int
    fetched_bytes: int
    took_us: int


StoreEvent = (
    SsdRecovered
    | BlocksRequested
    | RoomRequested
    | BlocksWritten
    | LeaseEnded
    | SsdRead
    | SsdWritten
    | BlockCorrupt
    | FlushRequested
    | FetchMeasured
    | TimerFired
)
