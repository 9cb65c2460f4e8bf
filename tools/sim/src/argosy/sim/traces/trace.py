"""Traces of real services: who arrived when, with how many tokens, sharing which prefix."""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from argosy.sim.traces.formats import TraceFormat
from argosy.sim.traces.trace_blocks import split_blocks, unique_blocks

MOONCAKE_BLOCK_TOKENS = 512
AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


class TraceError(Exception):
    """A trace cannot be used; says which file and line, and what is wrong with it."""


class TraceRequest(msgspec.Struct, frozen=True):
    """One request of a trace."""

    arrived_us: int
    """Since the first request of the trace."""
    prompt_tokens: int
    output_tokens: int
    blocks: list[int]
    """A 64-bit hash for every full KV block of the prompt; equal hashes: equal prefixes."""
    tenant: str = ""
    priority: int = 0


class _MooncakeLine(msgspec.Struct):
    timestamp: Annotated[float, msgspec.Meta(ge=0)]
    input_length: Annotated[int, msgspec.Meta(ge=0)]
    output_length: Annotated[int, msgspec.Meta(ge=0)]
    hash_ids: list[Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]]


def read_trace(
    path: Path, trace_format: TraceFormat | None, block_tokens: int, speedup: float = 1.0
) -> list[TraceRequest]:
    """Every request by arrival, the first at 0; `speedup` above 1 brings them closer together.

    Without a format, it is inferred from the file. Lengths of 0 count as 1: who asks sends
    something and gets something. Raises TraceError.
    """
    try:
        if (trace_format or guess_format(path)) == "mooncake":
            requests = sorted(_read_mooncake(path, block_tokens), key=_arrival)
        else:
            requests = sorted(_read_azure(path, block_tokens), key=_arrival)
    except OSError as error:
        raise TraceError(f"cannot read the trace {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path} is not a text file: {error}") from error
    if not requests:
        raise TraceError(f"{path} has no requests")
    zero_us = requests[0].arrived_us
    return [
        msgspec.structs.replace(request, arrived_us=round((request.arrived_us - zero_us) / speedup))
        for request in requests
    ]


def guess_format(path: Path) -> TraceFormat:
    """By the file's suffix, or else by its first line. Raises TraceError when neither tells."""
    if path.suffix in {".jsonl", ".csv"}:
        return "mooncake" if path.suffix == ".jsonl" else "azure"
    with path.open(encoding="utf-8-sig") as lines:
        first = lines.readline()
    if first.startswith("{"):
        return "mooncake"
    if first.startswith(AZURE_COLUMNS[0]):
        return "azure"
    raise TraceError(f"cannot tell the format of {path}: give --format mooncake or azure")


def _arrival(request: TraceRequest) -> int:
    return request.arrived_us


def _read_mooncake(path: Path, block_tokens: int) -> Iterator[TraceRequest]:
    """One JSON object a line: timestamp (ms), input_length, output_length, hash_ids."""
    if MOONCAKE_BLOCK_TOKENS % block_tokens:
        raise TraceError(
            f"{path} names blocks of {MOONCAKE_BLOCK_TOKENS} tokens, which blocks of "
            f"{block_tokens} do not divide: give --block-tokens 16, 32, 64, 128, 256 or 512"
        )
    decoder = msgspec.json.Decoder(_MooncakeLine)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.isspace():
                continue
            try:
                row = decoder.decode(line)
            except msgspec.DecodeError as error:
                raise TraceError(f"{path}, line {number}: {error}") from error
            needed = -(-row.input_length // MOONCAKE_BLOCK_TOKENS)
            if len(row.hash_ids) != needed:
                raise TraceError(
                    f"{path}, line {number}: {row.input_length} prompt tokens need {needed} "
                    f"hash_ids, one per {MOONCAKE_BLOCK_TOKENS}, and there are {len(row.hash_ids)}"
                )
            blocks = split_blocks(row.hash_ids, MOONCAKE_BLOCK_TOKENS // block_tokens)
            # The last id may stand for fewer than 512 tokens.
            del blocks[row.input_length // block_tokens :]
            yield TraceRequest(
                arrived_us=round(row.timestamp * 1000),
                prompt_tokens=max(1, row.input_length),
                output_tokens=max(1, row.output_length),
                blocks=blocks,
            )


def _read_azure(path: Path, block_tokens: int) -> Iterator[TraceRequest]:
    """A CSV file of times and lengths; it knows nothing of prefixes, so no two share a block."""
    used = 0
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines)
        if missing := [name for name in AZURE_COLUMNS if name not in (rows.fieldnames or ())]:
            raise TraceError(
                f"{path}, line 1: no column {', '.join(missing)}; an azure trace begins with "
                f"{','.join(AZURE_COLUMNS)}"
            )
        for row in rows:
            arrived_us, prompt, output = _azure_row(f"{path}, line {rows.line_num}", row)
            blocks = unique_blocks(used, prompt // block_tokens)
            used += len(blocks)
            yield TraceRequest(arrived_us, max(1, prompt), max(1, output), blocks)


def _azure_row(where: str, row: dict[str, str]) -> tuple[int, int, int]:
    """Arrival in microseconds since 1970, prompt tokens, output tokens."""
    values = [row[name] for name in AZURE_COLUMNS]
    try:
        arrived = datetime.fromisoformat(values[0])
        prompt, output = int(values[1]), int(values[2])
        if prompt < 0 or output < 0:
            raise ValueError("negative")
    except (TypeError, ValueError) as error:
        got = ",".join(value or "" for value in values)
        raise TraceError(f"{where}: expected a time and two token counts, got {got}") from error
    # These traces' clock is UTC; only some of them say so.
    return (arrived.replace(tzinfo=arrived.tzinfo or UTC) - _EPOCH) // _US, prompt, output
