"""What happens to the store, as its core takes it in."""

import msgspec

from argosy.domain.core import Event, TimerFired


class Offered(msgspec.Struct, frozen=True):
    """A block that a writer offers to store."""

    key: bytes
    parent: bytes
    """The key of the block it continues; empty for the first of a chain or of its part here."""
    hash: int
    tokens: int


class Recovered(msgspec.Struct, frozen=True):
    """A block that the scan of SSD found."""

    key: bytes
    parent: bytes
    hash: int
    tokens: int
    block_bytes: int
    checksum: int
    offset: int


class SegmentFound(msgspec.Struct, frozen=True):
    """A segment file that the scan of SSD found, and the size of its slots."""

    number: int
    slot_bytes: int


class SsdRecovered(Event, frozen=True, kw_only=True, tag=True):
    """The scan of SSD at the start has ended."""

    segments: list[SegmentFound]
    blocks: list[Recovered]


class BlocksRequested(Event, frozen=True, kw_only=True, tag=True):
    """A reader requests the longest stored prefix of `keys`, which continue `before`.

    The reader has the blocks of `before` already.
    """

    lease: int
    keys: list[bytes]
    block_bytes: int
    before: list[bytes] = msgspec.field(default_factory=list)


class RoomRequested(Event, frozen=True, kw_only=True, tag=True):
    """A writer offers these blocks."""

    lease: int
    block_bytes: int
    blocks: list[Offered]


class BlocksWritten(Event, frozen=True, kw_only=True, tag=True):
    """A writer has written its blocks. checksums: in order of its rooms; 0: it was not written."""

    lease: int
    checksums: list[int]


class LeaseEnded(Event, frozen=True, kw_only=True, tag=True):
    """The holder of the lease gave it back, hung up or died."""

    lease: int


class SsdRead(Event, frozen=True, kw_only=True, tag=True):
    """Reads from SSD have ended. `bad`: keys of blocks that could not be read, or are corrupt."""

    good: list[bytes]
    bad: list[bytes]
    trouble: str = ""
    """What failed, if it was SSD itself."""


class SsdWritten(Event, frozen=True, kw_only=True, tag=True):
    """Writes to SSD have ended: the blocks are synced, or `trouble` says why they are not there."""

    keys: list[bytes]
    trouble: str = ""


class BlockCorrupt(Event, frozen=True, kw_only=True, tag=True):
    """The copy of a block in that tier is not what was stored."""

    key: bytes
    tier: int


class FlushRequested(Event, frozen=True, kw_only=True, tag=True):
    """All that is only in memory is to be written to SSD; or, with `drop`, all is to be dropped."""

    flush: int
    drop: bool = False


class FetchMeasured(Event, frozen=True, kw_only=True, tag=True):
    """A reader has fetched blocks of one tier."""

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
