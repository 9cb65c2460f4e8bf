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

from argosy.domain.core import Core, CoreSpec, from_snapshot
from argosy.mesh.journal_format import (
    FORMAT,
    FRAME,
    SUFFIX,
    SegmentHeader,
    SegmentState,
    Slice,
    StepRecord,
    chain,
    described,
)

NO_EFFECTS = msgspec.msgpack.encode(())


class JournalError(Exception):
    """A journal cannot be replayed at all: says which and why."""


@dataclass(frozen=True)
class Difference:
    """The first step whose effects are not the recorded ones.

    Where a core raised, `expected` or `got` is "raised ..." instead of effects.
    """

    sequence: int
    event: Any
    expected: Any
    got: Any


@dataclass(frozen=True)
class Raised:
    """The step on which the core raised in the original and raised the same again."""

    sequence: int
    event: Any
    error: str


@dataclass
class Replayed:
    """What came of one segment."""

    path: Path
    core: str
    steps: int = 0
    cut: bool = False
    """It ended inside a frame or before its first step, as after a crash."""
    difference: Difference | None = None
    raised: Raised | None = None
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
        return replay_records(Replayed(path, header.core), payloads, specs[header.core])
    except msgspec.ValidationError as error:
        raise JournalError(
            f"{path}: written by another version of core '{header.core}' ({error}). "
            "Replay it with the version that wrote it"
        ) from error


def replay_records(result: Replayed, payloads: Iterator[bytes | None], spec: CoreSpec) -> Replayed:
    """Step through the frames after the header; stops at the first difference."""
    start = begin_replay(payloads, spec)
    if start is None:
        result.cut = True
        return result
    core, digest = start
    decode_event = msgspec.msgpack.Decoder(spec.events).decode
    decode_records = msgspec.msgpack.Decoder(list[StepRecord]).decode
    for payload in payloads:
        if payload is None:
            result.cut = True
            break
        for record in decode_records(payload):
            event = decode_event(record.event)
            encoded, raised = step_again(core, event)
            digest = chain(digest, encoded)
            result.steps += 1
            result.digests.append(digest)
            if digest != record.digest or raised != record.raised:
                result.difference = Difference(
                    record.sequence,
                    event,
                    outcome(bytes(record.effects), record.raised),
                    outcome(encoded, raised),
                )
                return result
            if raised:
                result.raised = Raised(record.sequence, event, raised)
                return result
    return result


def begin_replay(payloads: Iterator[bytes | None], spec: CoreSpec) -> tuple[Core, int] | None:
    """A core as it was before the first record, and the digest; None when the file ends first."""
    slices: list[Slice] = []
    decode = msgspec.msgpack.Decoder(Slice | SegmentState).decode
    for payload in payloads:
        if payload is None:
            return None
        found = decode(payload)
        if isinstance(found, Slice):
            slices.append(found)
            continue
        state = msgspec.msgpack.decode(found.state, type=spec.state, dec_hook=from_snapshot)
        for taken in slices:
            getattr(state, taken.part).add_slice(taken.data)
        return spec.build(state), found.digest
    return None


def step_again(core: Core, event: Any) -> tuple[bytes, str]:
    """The encoded effects of a step, and what the core raised if it did."""
    try:
        effects = core.step(event)
    except Exception as error:  # noqa: BLE001 - what the core raises is what is asked for
        return NO_EFFECTS, described(error)
    return msgspec.msgpack.encode(effects), ""


def outcome(encoded: bytes, raised: str) -> Any:
    """What a step came to, for people."""
    return f"raised {raised}" if raised else msgspec.msgpack.decode(encoded)


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
