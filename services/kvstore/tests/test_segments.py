"""The SSD tier's files: whatever became of them, a block is what was stored, or a miss."""

import os
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from argosy.domain.kv_blocks import block_checksum
from argosy.kvstore.core.effects import Move
from argosy.kvstore.core.events import Recovered
from argosy.kvstore.core.slots import PAGE_BYTES
from argosy.kvstore.shell.segments import HEADER, Segments, header_of, read_header
from argosy.transfer.bytes_plane import BytesPlane, TransferFailed
from argosy.transfer.memory import Memory

BLOCK_BYTES = 5000
SLOT_BYTES = 3 * PAGE_BYTES
SLOTS = 4
SEGMENTS = 3
SEGMENT_BYTES = SLOTS * SLOT_BYTES
BLOCKS = SLOTS * (SEGMENTS - 1)
MUTATIONS = 10_000
NAMES = [f"segment-{number:06}-{SLOT_BYTES}.kv" for number in range(SEGMENTS)]
FIELDS = {
    "magic": (0, 8),
    "version": (8, 4),
    "key": (12, 16),
    "chained": (28, 1),
    "parent": (29, 16),
    "hash": (45, 8),
    "tokens": (53, 4),
    "bytes": (57, 8),
    "checksum": (65, 8),
    "digest": (73, 8),
}


def key_of(number: int) -> bytes:
    return Random(number).randbytes(16)


def bytes_of(number: int) -> bytes:
    return Random(1000 + number).randbytes(BLOCK_BYTES)


KEYS = {key_of(number): bytes_of(number) for number in range(BLOCKS)}


def move(number: int, slot: int | None = None) -> Move:
    """Block `number` from its place in memory to a slot, its own if not said."""
    at = number if slot is None else slot
    key, parent = key_of(number), key_of(number - 1) if number else b""
    return Move(
        key,
        parent,
        number * 7,
        32,
        BLOCK_BYTES,
        block_checksum(key, bytes_of(number)),
        number * BLOCK_BYTES,
        at // SLOTS * SEGMENT_BYTES + at % SLOTS * SLOT_BYTES,
    )


def as_move(found: Recovered, dram_offset: int) -> Move:
    return Move(
        found.key,
        found.parent,
        found.hash,
        found.tokens,
        found.block_bytes,
        found.checksum,
        dram_offset,
        found.offset,
    )


MOVES = {move(number).key: move(number) for number in range(BLOCKS)}


def is_as_stored(found: Recovered) -> bool:
    stored = MOVES[found.key]
    return (found.parent, found.hash, found.tokens, found.block_bytes, found.checksum) == (
        stored.parent,
        stored.hash,
        stored.tokens,
        stored.block_bytes,
        stored.checksum,
    )


@pytest.fixture
def memory() -> Iterator[Memory]:
    """All blocks, one after the other; and as much room behind them."""
    memory = Memory(2 * BLOCKS * BLOCK_BYTES)
    for number in range(BLOCKS):
        memory.view[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES] = bytes_of(number)
    yield memory
    memory.close()


@pytest.fixture(scope="session")
def no_plane() -> BytesPlane:
    """For scans and checks, which need none."""
    return BytesPlane("none")


@pytest.fixture
async def plane(memory: Memory) -> AsyncIterator[BytesPlane]:
    plane = BytesPlane("store", files=True)
    await plane.register(memory)
    yield plane
    await plane.close()


Make = Callable[[BytesPlane], Segments]


@pytest.fixture
def make(tmp_path: Path, memory: Memory) -> Iterator[Make]:
    """Opens the folder, as each start of a store does."""
    made: list[Segments] = []

    def open_folder(plane: BytesPlane) -> Segments:
        while made:
            made.pop().close()
        made.append(Segments(tmp_path / "kv", SEGMENT_BYTES, SEGMENTS, plane, memory))
        return made[-1]

    yield open_folder
    while made:
        made.pop().close()


def written_plainly(folder: Path) -> list[bytes]:
    """Segments as a store leaves them; their bytes."""
    folder.mkdir(exist_ok=True)
    images = []
    for segment in range(SEGMENTS - 1):
        slots = [
            header_of(move(number)) + bytes_of(number).ljust(SLOT_BYTES - PAGE_BYTES, b"\0")
            for number in range(segment * SLOTS, (segment + 1) * SLOTS)
        ]
        images.append(b"".join(slots))
        (folder / NAMES[segment]).write_bytes(images[-1])
    return images


def good(segments: Segments) -> list[Recovered]:
    """What a scan finds and a plain read confirms; wrong bytes among them fail the test."""
    fine = []
    for found in segments.scan()[1]:
        if segments.check(as_move(found, 0)):
            file, _ = segments._files[found.offset // SEGMENT_BYTES]
            at = found.offset % SEGMENT_BYTES + PAGE_BYTES
            assert os.pread(file, BLOCK_BYTES, at) == KEYS[found.key]
            assert is_as_stored(found)
            fine.append(found)
    return fine


async def read(segments: Segments, moves: list[Move]) -> tuple[list[bytes], list[bytes]]:
    """Keys of those that were read and check, and of the others."""
    fine = segments.check_read((await segments.read(moves))[0])
    return fine, [m.key for m in moves if m.key not in fine]


def mutate(random: Random, slot: bytes, others: list[bytes]) -> bytes:
    """A slot's bytes, of which some are not what they were."""
    kind = random.choice([*FIELDS, "payload", "payload", "bits", "swap", "torn", "zeros"])
    if kind in FIELDS:
        at, width = FIELDS[kind]
        return slot[:at] + random.randbytes(width) + slot[at + width :]
    if kind == "payload":
        at = PAGE_BYTES + random.randrange(BLOCK_BYTES)
        return slot[:at] + bytes([slot[at] ^ random.randrange(1, 256)]) + slot[at + 1 :]
    if kind == "bits":
        at = random.choice([random.randrange(HEADER.size + 8), PAGE_BYTES + random.randrange(99)])
        return slot[:at] + bytes([slot[at] ^ 1 << random.randrange(8)]) + slot[at + 1 :]
    other = random.choice(others)
    if kind == "swap":  # a header that is stale, or over the bytes of another
        return slot[:PAGE_BYTES] + other[PAGE_BYTES:]
    if kind == "torn":
        at = random.randrange(1, PAGE_BYTES + BLOCK_BYTES)
        return slot[:at] + other[at:]
    at = random.randrange(PAGE_BYTES + BLOCK_BYTES)
    return slot[:at] + bytes(SLOT_BYTES - at)


def test_ten_thousand_mutations_make_misses_and_never_wrong_bytes(
    tmp_path: Path, make: Make, no_plane: BytesPlane
) -> None:
    images = written_plainly(tmp_path / "kv")
    assert {found.key for found in good(make(no_plane))} == set(KEYS)
    slots = [
        image[at : at + SLOT_BYTES] for image in images for at in range(0, len(image), SLOT_BYTES)
    ]
    files = [os.open(tmp_path / "kv" / name, os.O_RDWR) for name in NAMES[:-1]]
    random = Random(0)
    for _ in range(MUTATIONS):
        number = random.randrange(BLOCKS)
        file, at = files[number // SLOTS], number % SLOTS * SLOT_BYTES
        others = [slot for slot in slots if slot is not slots[number]]
        mutated = mutate(random, slots[number], others)
        os.pwrite(file, mutated, at)
        found = {block.key for block in good(make(no_plane))}
        assert found >= set(KEYS) - {key_of(number)}, "another was lost with it"
        length = PAGE_BYTES + BLOCK_BYTES
        whole = mutated[: HEADER.size + 8] == slots[number][: HEADER.size + 8]
        whole = whole and mutated[PAGE_BYTES:length] == slots[number][PAGE_BYTES:length]
        assert (key_of(number) in found) == whole
        os.pwrite(file, slots[number], at)
    for file in files:
        os.close(file)


def test_a_header_that_was_sealed_anew_over_another_key_does_not_check(
    tmp_path: Path, make: Make, no_plane: BytesPlane
) -> None:
    """The checksum is over the key, too: bytes of another block, though whole, are a miss."""
    written_plainly(tmp_path / "kv")
    file = os.open(tmp_path / "kv" / NAMES[0], os.O_RDWR)
    for number in range(SLOTS):
        moved = Move(
            key_of(number + SLOTS),
            b"",
            0,
            32,
            BLOCK_BYTES,
            block_checksum(key_of(number), bytes_of(number)),
            0,
            number * SLOT_BYTES,
        )
        os.pwrite(file, header_of(moved), number * SLOT_BYTES)
    os.close(file)
    segments = make(no_plane)
    assert len(segments.scan()[1]) == BLOCKS
    again = make(no_plane)
    assert {found.offset for found in good(again)} == {
        MOVES[key_of(number)].ssd_offset for number in range(SLOTS, BLOCKS)
    }


async def test_only_what_is_whole_is_read_as_good(
    tmp_path: Path, make: Make, plane: BytesPlane, memory: Memory
) -> None:
    images = written_plainly(tmp_path / "kv")
    random = Random(1)
    room = BLOCKS * BLOCK_BYTES
    misses = 0
    for _ in range(60):
        for name, image in zip(NAMES, images, strict=False):
            slots = [image[at : at + SLOT_BYTES] for at in range(0, len(image), SLOT_BYTES)]
            mutated = [
                mutate(random, slot, slots) if random.random() < 0.3 else slot for slot in slots
            ]
            (tmp_path / "kv" / name).write_bytes(b"".join(mutated))
        segments = make(plane)
        found = segments.scan()[1]
        moves = [as_move(block, room + n * BLOCK_BYTES) for n, block in enumerate(found)]
        fine, bad = await read(segments, moves)
        assert sorted([*fine, *bad]) == sorted(m.key for m in moves)
        for m in moves:
            if m.key in fine:
                got = memory.view[m.dram_offset : m.dram_offset + BLOCK_BYTES]
                assert got == KEYS[m.key]
        misses += len(bad)
    assert misses > 20


async def test_what_was_written_is_found_again_and_read_back(
    make: Make, plane: BytesPlane, memory: Memory
) -> None:
    segments = make(plane)
    await segments.write(list(MOVES.values()), SLOT_BYTES)
    memory.view[: BLOCKS * BLOCK_BYTES] = bytes(BLOCKS * BLOCK_BYTES)
    segments = make(plane)
    found_segments, found = segments.scan()
    assert [(s.number, s.slot_bytes) for s in found_segments] == [(0, SLOT_BYTES), (1, SLOT_BYTES)]
    assert {block.key for block in found} == set(KEYS)
    assert all(is_as_stored(block) for block in found)
    fine, bad = await read(segments, list(MOVES.values()))
    assert (set(fine), bad) == (set(KEYS), [])
    for number in range(BLOCKS):
        assert memory.view[number * BLOCK_BYTES :][:BLOCK_BYTES] == bytes_of(number)


async def test_a_slot_that_was_cleared_or_written_to_without_a_seal_holds_nothing(
    make: Make, plane: BytesPlane
) -> None:
    segments = make(plane)
    await segments.write(list(MOVES.values()), SLOT_BYTES)
    segments.clear([move(0).ssd_offset])
    # As when killed between the bytes and the header.
    (file,) = segments._prepare([move(2, slot=1)], SLOT_BYTES)
    os.pwrite(file, bytes_of(2), SLOT_BYTES + PAGE_BYTES)
    assert {found.key for found in good(make(plane))} == set(KEYS) - {key_of(0), key_of(1)}


async def test_a_block_moved_to_another_slot_or_file_is_itself_or_a_miss(
    tmp_path: Path, make: Make, no_plane: BytesPlane
) -> None:
    images = written_plainly(tmp_path / "kv")
    (tmp_path / "kv" / NAMES[0]).write_bytes(images[1])
    (tmp_path / "kv" / NAMES[1]).rename(tmp_path / "kv" / NAMES[2])
    found = good(make(no_plane))
    assert {block.key for block in found} == {key_of(n) for n in range(SLOTS, BLOCKS)}
    assert len(found) == 2 * SLOTS


@pytest.mark.parametrize("slot_bytes", [2, 4, 5, 12])
def test_a_file_named_for_slots_of_another_size_yields_no_wrong_bytes(
    tmp_path: Path, make: Make, no_plane: BytesPlane, slot_bytes: int
) -> None:
    written_plainly(tmp_path / "kv")
    odd = tmp_path / "kv" / f"segment-000000-{slot_bytes * PAGE_BYTES}.kv"
    (tmp_path / "kv" / NAMES[0]).rename(odd)
    found = good(make(no_plane))
    assert {block.key for block in found} >= {key_of(n) for n in range(SLOTS, BLOCKS)}
    for block in found:
        assert PAGE_BYTES + block.block_bytes <= slot_bytes * PAGE_BYTES or (
            block.offset >= SEGMENT_BYTES
        )


def test_of_a_truncated_file_what_is_left_is_good(
    tmp_path: Path, make: Make, no_plane: BytesPlane
) -> None:
    written_plainly(tmp_path / "kv")
    for left in [*range(SEGMENT_BYTES, 0, -1111), 1, 0]:
        os.truncate(tmp_path / "kv" / NAMES[1], left)
        whole = [n for n in range(SLOTS) if n * SLOT_BYTES + PAGE_BYTES + BLOCK_BYTES <= left]
        keys = {block.key for block in good(make(no_plane)) if block.offset >= SEGMENT_BYTES}
        assert keys == {key_of(SLOTS + n) for n in whole}


async def test_a_read_past_the_end_of_a_file_is_a_miss(
    tmp_path: Path, make: Make, plane: BytesPlane
) -> None:
    written_plainly(tmp_path / "kv")
    segments = make(plane)
    segments.scan()
    os.truncate(tmp_path / "kv" / NAMES[1], SLOT_BYTES)
    fine, bad = await read(segments, list(MOVES.values()))
    assert set(fine) >= {key_of(number) for number in range(SLOTS)}
    assert set(bad) >= {key_of(number) for number in range(SLOTS + 1, BLOCKS)}
    assert sorted([*fine, *bad]) == sorted(KEYS)


def test_segments_that_do_not_fit_are_removed_and_what_is_none_is_left_alone(
    tmp_path: Path, make: Make, no_plane: BytesPlane
) -> None:
    written_plainly(tmp_path / "kv")
    known = {path.name for path in (tmp_path / "kv").iterdir()}
    wrong = [
        f"segment-000009-{SLOT_BYTES}.kv",
        "segment-000002-4096.kv",
        f"segment-000002-{SEGMENT_BYTES + 1}.kv",
    ]
    others = {"notes.txt", f"segment-000001-{2 * SLOT_BYTES}.kv.old"}
    for odd in [*wrong, *others]:
        (tmp_path / "kv" / odd).write_bytes(b"odd")
    (tmp_path / "kv" / "lost+found").mkdir()
    assert {found.key for found in good(make(no_plane))} == set(KEYS)
    left = {path.name for path in (tmp_path / "kv").iterdir()}
    assert left == {*known, *others, "lost+found", ".lock"}


def test_a_folder_is_one_stores_alone(tmp_path: Path, make: Make, no_plane: BytesPlane) -> None:
    make(no_plane)
    with pytest.raises(OSError, match="temporarily unavailable"):
        Segments(tmp_path / "kv", SEGMENT_BYTES, 1, no_plane, Memory(SEGMENT_BYTES))


def test_a_segment_of_two_files_is_read_from_one(
    tmp_path: Path, make: Make, no_plane: BytesPlane
) -> None:
    written_plainly(tmp_path / "kv")
    (tmp_path / "kv" / f"segment-000000-{2 * SLOT_BYTES}.kv").write_bytes(b"odd")
    segments = make(no_plane)
    good(segments)
    assert len(list((tmp_path / "kv").glob("*.kv"))) == 2


async def test_a_full_disk_fails_the_batch_and_leaves_none_of_it(
    make: Make, plane: BytesPlane
) -> None:
    segments = make(plane)
    await segments.write([move(0)], SLOT_BYTES)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # In the midst of slot 2's bytes.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * SLOT_BYTES + PAGE_BYTES + 999, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            await segments.write([move(1), move(SLOTS)], SLOT_BYTES)  # Needs a new segment.
        with pytest.raises(TransferFailed, match="disk full"):
            await segments.write([move(2)], SLOT_BYTES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {found.key for found in good(make(plane))} == {key_of(0)}
    await make(plane).write([move(1), move(SLOTS)], SLOT_BYTES)
    assert {found.key for found in good(make(plane))} == {key_of(0), key_of(1), key_of(SLOTS)}


async def test_a_segment_cut_anew_forgets_what_it_held(make: Make, plane: BytesPlane) -> None:
    segments = make(plane)
    await segments.write([move(number) for number in range(SLOTS)], SLOT_BYTES)
    await segments.write([move(5, slot=0)], 2 * SLOT_BYTES)
    assert {found.key for found in good(make(plane))} == {key_of(5)}


def test_headers_of_another_version_are_not_read() -> None:
    page = header_of(move(1))
    found = read_header(page, 3)
    assert found is not None
    assert is_as_stored(found)
    assert found.offset == 3
    assert read_header(page[: HEADER.size], 0) is None
    assert read_header(b"", 0) is None
    assert read_header(bytes(PAGE_BYTES), 0) is None
