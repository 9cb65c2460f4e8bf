"""Read journals back and feed them through their cores again.

A core is deterministic, so every step must reproduce the digest that was recorded.
The first that does not is where the bug (or the change of logic) is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import crc32c
import msgspec
import zstandard

from argosy.domain.core import CoreSpec, from_snapshot
from argosy.mesh.journal import FORMAT, FRAME, SUFFIX, SegmentHeader, StepRecord, chain


class JournalError(Exception):
    """A journal cannot be replayed at all: says which and why."""


@dataclass(frozen=True)
class Difference:
    """The first step whose effects are not the recorded ones."""

    sequence: int
    event: Any
    expected: Any
    got: Any


@dataclass
class Replayed:
    """What came of one segment. `cut`: it ended inside a frame, as after a crash."""

    path: Path
    core: str
    steps: int = 0
    cut: bool = False
    difference: Difference | None = None
    digests: list[int] = field(default_factory=list)


def frames(path: Path) -> Iterator[bytes | None]:
    """Payloads of the whole frames of a file; a last None when more bytes follow."""
    data = path.read_bytes()
    offset = 0
    while offset < len(data):
        start = offset + FRAME.size
        if start > len(data):
            yield None
            return
        length, checksum = FRAME.unpack_from(data, offset)
        packed = data[start : start + length]
        if len(packed) < length or crc32c.crc32c(packed) != checksum:
            yield None
            return
        yield zstandard.decompress(packed)
        offset = start + length


def replay_segment(path: Path, specs: Mapping[str, CoreSpec]) -> Replayed:
    """Step a new core through every recorded event and compare every digest.

    Raises JournalError for a core that is not in `specs` or an unknown format.
    """
    payloads = frames(path)
    first = next(payloads, None)
    if first is None:
        return Replayed(path, core="?", cut=True)
    header = msgspec.msgpack.decode(first, type=SegmentHeader)
    if header.format != FORMAT or header.core not in specs:
        known = ", ".join(sorted(specs))
        raise JournalError(
            f"{path}: journal of core '{header.core}', format {header.format}; "
            f"this version replays format {FORMAT} of: {known}"
        )
    try:
        return replay_records(Replayed(path, header.core), header, payloads, specs[header.core])
    except msgspec.ValidationError as error:
        raise JournalError(
            f"{path}: written by another version of core '{header.core}' ({error}). "
            "Replay it with the version that wrote it"
        ) from error


def replay_records(
    result: Replayed, header: SegmentHeader, payloads: Iterator[bytes | None], spec: CoreSpec
) -> Replayed:
    """Step through the frames after the header; stops at the first difference."""
    core = spec.build(msgspec.msgpack.decode(header.state, type=spec.state, dec_hook=from_snapshot))
    decode_event = msgspec.msgpack.Decoder(spec.events).decode
    decode_records = msgspec.msgpack.Decoder(list[StepRecord]).decode
    digest = header.digest
    for payload in payloads:
        if payload is None:
            result.cut = True
            break
        for record in decode_records(payload):
            event = decode_event(record.event)
            effects = core.step(event)
            encoded = msgspec.msgpack.encode(effects)
            digest = chain(digest, encoded)
            result.steps += 1
            result.digests.append(digest)
            if digest != record.digest:
                expected = msgspec.msgpack.decode(record.effects)
                got = msgspec.msgpack.decode(encoded)
                result.difference = Difference(record.sequence, event, expected, got)
                return result
    return result


def replay_directory(directory: Path, specs: Mapping[str, CoreSpec]) -> Iterator[Replayed]:
    """Replay every segment below `directory`, in path order."""
    for path in segment_paths(directory):
        yield replay_segment(path, specs)


def segment_paths(directory: Path) -> list[Path]:
    """Every segment below `directory`, in path order. Raises JournalError if there is none."""
    paths = sorted(directory.rglob(f"*{SUFFIX}"))
    if not paths:
        raise JournalError(f"no journals ({SUFFIX} files) below {directory}")
    return paths
