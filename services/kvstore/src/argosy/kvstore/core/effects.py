"""What the store's core wants done."""

import msgspec

from argosy.domain.core import Effect


class PlacedBlock(msgspec.Struct, frozen=True):
    """A block in memory: where, and what its bytes must add up to."""

    key: bytes
    offset: int
    checksum: int
    tier: int
    """Where it was found."""


class Move(msgspec.Struct, frozen=True):
    """A block on its way between memory and SSD."""

    key: bytes
    parent: bytes
    hash: int
    tokens: int
    block_bytes: int
    checksum: int
    dram_offset: int
    ssd_offset: int


class Room(msgspec.Struct, frozen=True):
    """Where an offered block may be written."""

    index: int
    offset: int


class GrantBlocks(Effect, frozen=True, kw_only=True, tag=True):
    """Tell the holder of a lease where its next blocks are; `total` will come in all."""

    lease: int
    blocks: list[PlacedBlock]
    total: int
    last: bool
    """Nothing more will come."""
    before_held: int = 0
    """Leading ones of the blocks before that are here."""


class GrantRoom(Effect, frozen=True, kw_only=True, tag=True):
    """Tell a writer where it may write what is wanted."""

    lease: int
    rooms: list[Room]
    full: bool = False
    """Some were wanted, and there was no room for them."""


class ConfirmStored(Effect, frozen=True, kw_only=True, tag=True):
    """Tell a writer how many of its blocks are stored now."""

    lease: int
    stored: int


class EndLease(Effect, frozen=True, kw_only=True, tag=True):
    """A lease's time is over: its holder may not touch the memory any more."""

    lease: int


class ReadSsd(Effect, frozen=True, kw_only=True, tag=True):
    """Read blocks into memory; ends in SsdRead."""

    moves: list[Move]


class WriteSsd(Effect, frozen=True, kw_only=True, tag=True):
    """Write blocks to SSD; ends in SsdWritten."""

    moves: list[Move]
    slot_bytes: int


class ClearSsd(Effect, frozen=True, kw_only=True, tag=True):
    """Forget what is in these slots: it is corrupt, or has to go."""

    offsets: list[int]


class PublishStored(Effect, frozen=True, kw_only=True, tag=True):
    """Tell the mesh that a tier has these blocks, by hash."""

    tier: int
    hashes: list[int]


class PublishEvicted(Effect, frozen=True, kw_only=True, tag=True):
    """Tell the mesh that a tier has them no more."""

    tier: int
    hashes: list[int]


class PublishFlushed(Effect, frozen=True, kw_only=True, tag=True):
    """A flush is over."""

    flush: int
    written: int
    dropped: int
