"""What the store's core asks its shell to do."""

import msgspec

from argosy.domain.core import Effect


class PlacedBlock(msgspec.Struct, frozen=True):
    """A block in memory: its offset, and the checksum its bytes must have."""

    key: bytes
    offset: int
    checksum: int
    tier: int
    """The tier it was found in."""


class Move(msgspec.Struct, frozen=True):
    """The move of a block between memory and SSD."""

    key: bytes
    parent: bytes
    hash: int
    tokens: int
    block_bytes: int
    checksum: int
    dram_offset: int
    ssd_offset: int


class Room(msgspec.Struct, frozen=True):
    """The offset in memory to which an offered block may be written."""

    index: int
    offset: int


class GrantBlocks(Effect, frozen=True, kw_only=True, tag=True):
    """Send a reader the places of its next blocks; its lease has `total` in all."""

    lease: int
    blocks: list[PlacedBlock]
    total: int
    last: bool
    """Whether this is the last grant of the lease."""
    before_held: int = 0
    """How many of the request's `before`, from the first on, the store has."""


class GrantRoom(Effect, frozen=True, kw_only=True, tag=True):
    """Send a writer the places of the blocks that the store takes."""

    lease: int
    rooms: list[Room]
    full: bool = False
    """Whether there was no room for some blocks."""


class ConfirmStored(Effect, frozen=True, kw_only=True, tag=True):
    """Send a writer the number of its blocks that are stored now."""

    lease: int
    stored: int


class EndLease(Effect, frozen=True, kw_only=True, tag=True):
    """End a reader's stream: its lease has expired, and it may not touch the memory any more."""

    lease: int


class ReadSsd(Effect, frozen=True, kw_only=True, tag=True):
    """Read blocks into memory; SsdRead follows."""

    moves: list[Move]


class WriteSsd(Effect, frozen=True, kw_only=True, tag=True):
    """Write blocks to SSD; SsdWritten follows."""

    moves: list[Move]
    slot_bytes: int


class ClearSsd(Effect, frozen=True, kw_only=True, tag=True):
    """Invalidate what is in these slots of SSD."""

    offsets: list[int]


class PublishStored(Effect, frozen=True, kw_only=True, tag=True):
    """Publish that a tier has these blocks, by hash."""

    tier: int
    hashes: list[int]


class PublishEvicted(Effect, frozen=True, kw_only=True, tag=True):
    """Publish that a tier no longer has these blocks, by hash."""

    tier: int
    hashes: list[int]


class PublishFlushed(Effect, frozen=True, kw_only=True, tag=True):
    """Answer a flush request: how many blocks were written to SSD, or dropped."""

    flush: int
    written: int
    dropped: int
