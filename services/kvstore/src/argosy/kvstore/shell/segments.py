"""The SSD tier's files: segments cut into slots, each a header page and a block's bytes.

A block is on SSD when its header is, which is written after its bytes are synced; whatever
header was there before is blanked first. So a killed process leaves no header over torn
bytes, and a machine that loses power none but an old one, whose checksum of the bytes
fails: every read checks it.

    segment-<number>-<slot bytes>.kv     slots: header (a page) | bytes (whole pages) | ...

Bounds: one batch of writes at a time; the core bounds what waits. A segment's file is
allocated whole when its first slot is used, so a full disk shows before anything is written.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import xxhash

from argosy.domain.kv_blocks import block_checksum
from argosy.kvstore.core.effects import Move
from argosy.kvstore.core.events import Recovered, SegmentFound
from argosy.kvstore.core.slots import PAGE_BYTES
from argosy.transfer.bytes_plane import BytesPlane, TransferFailed
from argosy.transfer.memory import Memory

MAGIC = b"ARGOSYKV"
VERSION = 1
HEADER = struct.Struct("<8sI16sB16sQIQQ")
"""Magic, version, key, whether it has a parent, parent, hash, tokens, bytes, checksum."""
DIGEST = struct.Struct("<Q")
NAME = re.compile(r"segment-(\d{6})-(\d+)\.kv")
LOCK = ".lock"
TIMEOUT_S = 30
READ_S = 5
BLANK = bytes(PAGE_BYTES)


class Segments:
    """Files below `folder`, which is this process's alone. `segment_bytes` as in the core's
    tier: it rules the offsets. Raises OSError when the folder cannot be had.
    """

    def __init__(
        self, folder: Path, segment_bytes: int, segments: int, plane: BytesPlane, memory: Memory
    ) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._segments = segments
        self._plane = plane
        self._memory = memory
        self._files: dict[int, tuple[int, int]] = {}
        """By number: descriptor and slot bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise

    def scan(self) -> tuple[list[SegmentFound], list[Recovered]]:
        """What was on SSD when the last process ended. Segments that do not fit are removed."""
        segments: list[SegmentFound] = []
        blocks: list[Recovered] = []
        for path in sorted(self._folder.iterdir()):
            name = NAME.fullmatch(path.name)
            if name is None or not path.is_file():
                continue
            number, slot_bytes = int(name[1]), int(name[2])
            known = any(found.number == number for found in segments)
            fits = PAGE_BYTES < slot_bytes <= self._segment_bytes and number < self._segments
            if known or not fits:
                path.unlink()
                continue
            file = os.open(path, os.O_RDWR)
            os.posix_fallocate(file, 0, self._segment_bytes)
            os.ftruncate(file, self._segment_bytes)
            self._files[number] = (file, slot_bytes)
            segments.append(SegmentFound(number, slot_bytes))
            blocks += self._scan_segment(file, number, slot_bytes)
        return segments, blocks

    def _scan_segment(self, file: int, number: int, slot_bytes: int) -> Iterator[Recovered]:
        start = number * self._segment_bytes
        for at in range(0, self._segment_bytes - slot_bytes + 1, slot_bytes):
            found = read_header(os.pread(file, PAGE_BYTES, at), start + at)
            if found is not None and PAGE_BYTES + found.block_bytes <= slot_bytes:
                yield found

    async def write(self, moves: Sequence[Move], slot_bytes: int) -> None:
        """Write blocks from memory. They are there for good on return; raises OSError or
        TransferFailed otherwise, and then none of them is.
        """
        files = await asyncio.to_thread(self._prepare, moves, slot_bytes)
        try:
            for file, batch in files.items():
                pieces = [
                    (self._memory.address + m.dram_offset, at + PAGE_BYTES, m.block_bytes)
                    for m, at in batch
                ]
                await self._plane.write_file(file, pieces, TIMEOUT_S)
            await asyncio.to_thread(self._seal, files)
        except (OSError, TransferFailed) as error:
            await at_rest(error)
            await asyncio.to_thread(self.clear, [m.ssd_offset for m in moves])
            raise

    def _prepare(self, moves: Sequence[Move], slot_bytes: int) -> "Batches":
        files: Batches = {}
        for m in moves:
            file = self._open(m.ssd_offset // self._segment_bytes, slot_bytes)
            at = m.ssd_offset % self._segment_bytes
            # Whatever the slot held ends here: its header must not vouch for new bytes.
            os.pwrite(file, BLANK, at)
            files.setdefault(file, []).append((m, at))
        return files

    def _seal(self, files: "Batches") -> None:
        for file in files:
            os.fdatasync(file)
        for file, batch in files.items():
            for m, at in batch:
                os.pwrite(file, header_of(m), at)
        for file in files:
            os.fdatasync(file)

    async def read(self, moves: Sequence[Move]) -> tuple[list[Move], str]:
        """Read blocks into memory: those that could be, which `check_read` has to look at; and
        what was in the way of the others.
        """
        trouble = ""
        files: dict[int, list[Move]] = {}
        read: list[Move] = []
        for m in moves:
            file, _ = self._files.get(m.ssd_offset // self._segment_bytes, (-1, 0))
            files.setdefault(file, []).append(m)
        for file, batch in files.items():
            pieces = [
                (
                    self._memory.address + m.dram_offset,
                    m.ssd_offset % self._segment_bytes + PAGE_BYTES,
                    m.block_bytes,
                )
                for m in batch
            ]
            try:
                await self._plane.read_file(file, pieces, READ_S)
            except (OSError, TransferFailed) as error:
                await at_rest(error)
                trouble = str(error)
                continue
            read += batch
        return read, trouble

    def check_read(self, moves: Sequence[Move]) -> list[bytes]:
        """Keys of those that are now in memory as they were stored."""
        view = self._memory.view
        return [
            m.key
            for m in moves
            if block_checksum(m.key, view[m.dram_offset : m.dram_offset + m.block_bytes])
            == m.checksum
        ]

    def clear(self, offsets: Sequence[int]) -> None:
        """Nothing is in these slots any more."""
        for offset in offsets:
            file, _ = self._files.get(offset // self._segment_bytes, (-1, 0))
            if file >= 0:
                with contextlib.suppress(OSError):
                    os.pwrite(file, BLANK, offset % self._segment_bytes)

    def check(self, m: Move) -> bool:
        """Whether the file still holds just this block: header and bytes, read plainly."""
        file, _ = self._files.get(m.ssd_offset // self._segment_bytes, (-1, 0))
        at = m.ssd_offset % self._segment_bytes
        try:
            found = read_header(os.pread(file, PAGE_BYTES, at), m.ssd_offset)
            data = os.pread(file, m.block_bytes, at + PAGE_BYTES)
        except OSError:
            return False
        whole = found is not None and found.key == m.key and found.checksum == m.checksum
        return whole and len(data) == m.block_bytes and block_checksum(m.key, data) == m.checksum

    def close(self) -> None:
        """Let go of the files."""
        for file, _ in self._files.values():
            os.close(file)
        self._files.clear()
        os.close(self._lock)

    def _open(self, number: int, slot_bytes: int) -> int:
        file, cut = self._files.get(number, (-1, 0))
        if cut == slot_bytes:
            return file
        if file >= 0:
            os.close(file)
            del self._files[number]
            (self._folder / f"segment-{number:06}-{cut}.kv").unlink()
        path = self._folder / f"segment-{number:06}-{slot_bytes}.kv"
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(file, 0, self._segment_bytes)
        except OSError:
            os.close(file)
            path.unlink()
            raise
        self._files[number] = (file, slot_bytes)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)
        return file


async def at_rest(error: Exception) -> None:
    """Return once nothing moves any more: a disk that hangs cannot be told to stop."""
    if isinstance(error, TransferFailed) and error.settled is not None:
        await error.settled


Batches = dict[int, list[tuple[Move, int]]]
"""By file: blocks, with where in the file their slots start."""


def header_of(m: Move) -> bytes:
    """A slot's header page."""
    fields = HEADER.pack(
        MAGIC, VERSION, m.key, bool(m.parent), m.parent, m.hash, m.tokens, m.block_bytes, m.checksum
    )
    return (fields + DIGEST.pack(xxhash.xxh3_64_intdigest(fields))).ljust(PAGE_BYTES, b"\0")


def read_header(page: bytes, offset: int) -> Recovered | None:
    """What a header page says; None for one that is empty, torn or of another version."""
    fields, digest = page[: HEADER.size], page[HEADER.size : HEADER.size + DIGEST.size]
    if digest != DIGEST.pack(xxhash.xxh3_64_intdigest(fields)) or len(fields) != HEADER.size:
        return None
    magic, version, key, chained, parent, hash_, tokens, block_bytes, checksum = HEADER.unpack(
        fields
    )
    if (magic, version) != (MAGIC, VERSION):
        return None
    return Recovered(key, parent if chained else b"", hash_, tokens, block_bytes, checksum, offset)
