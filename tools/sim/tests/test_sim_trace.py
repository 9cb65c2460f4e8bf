"""Traces as they are written down, and as the simulation gets them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from argosy.sim.traces.trace import TraceError, TraceRequest, read_trace
from argosy.sim.traces.trace_blocks import split_blocks, unique_blocks

AZURE_HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens"
IDS = st.lists(st.integers(0, 2**63 - 1), max_size=6)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A file of these lines; a mapping is a line of JSON."""

    def write(*lines: str | dict[str, Any], name: str = "trace.jsonl") -> Path:
        text = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
        path = tmp_path / name
        path.write_text("\n".join([*text, ""]))
        return path

    return write


def asked(
    at_ms: float = 0, prompt: int = 1000, output: int = 10, ids: list[int] | None = None
) -> dict[str, Any]:
    hash_ids = list(range(-(-prompt // 512))) if ids is None else ids
    return {
        "timestamp": at_ms,
        "input_length": prompt,
        "output_length": output,
        "hash_ids": hash_ids,
    }


def refusal(path: Path, *, block_tokens: int = 64, trace_format: Any = None) -> str:
    with pytest.raises(TraceError) as refused:
        read_trace(path, trace_format, block_tokens)
    return str(refused.value)


def test_a_mooncake_line_is_a_request(write: Write) -> None:
    [request] = read_trace(write(asked(prompt=1000, output=10)), None, 64)
    assert request == TraceRequest(0, 1000, 10, split_blocks([0, 1], 8)[:15])
    assert (request.tenant, request.priority) == ("", 0)


def test_an_azure_line_is_a_request_that_shares_nothing(write: Write) -> None:
    rows = ["2023-11-16 18:15:46.6805900,374,44", "2023-11-16 18:15:50.9951690,396,109"]
    first, second = read_trace(write(AZURE_HEAD, *rows, name="trace.csv"), None, 64)
    assert (first.arrived_us, first.prompt_tokens, first.output_tokens) == (0, 374, 44)
    assert second.arrived_us == 4_314_579
    assert (len(first.blocks), len(second.blocks)) == (5, 6)
    assert len({*first.blocks, *second.blocks}) == 11


def test_azure_times_without_a_zone_are_utc(write: Write) -> None:
    rows = ["2024-05-10 00:00:00,8,1", "2024-05-10 02:00:01+02:00,8,1"]
    trace = read_trace(write(AZURE_HEAD, *rows, name="trace.csv"), None, 8)
    assert [request.arrived_us for request in trace] == [0, 1_000_000]


def test_requests_come_by_arrival_and_the_first_at_zero(write: Write) -> None:
    path = write(asked(700, output=3), asked(500, output=1), asked(500, output=2))
    trace = read_trace(path, None, 64)
    assert [(request.arrived_us, request.output_tokens) for request in trace] == [
        (0, 1),
        (0, 2),
        (200_000, 3),
    ]


def test_speedup_brings_arrivals_closer(write: Write) -> None:
    path = write(asked(500), asked(700))
    assert [request.arrived_us for request in read_trace(path, None, 64, 8)] == [0, 25_000]


def test_no_prompt_and_no_answer_is_empty(write: Write) -> None:
    of_mooncake = read_trace(write(asked(prompt=0, output=0)), None, 64)
    path = write(AZURE_HEAD, "2023-11-16 18:15:46,0,0", name="trace.csv")
    assert of_mooncake == read_trace(path, None, 64) == [TraceRequest(0, 1, 1, [])]


@pytest.mark.parametrize("name", ["trace", "trace.txt"])
def test_the_first_line_tells_the_format_where_the_suffix_does_not(write: Write, name: str) -> None:
    assert read_trace(write(asked(), name=name), None, 64)[0].prompt_tokens == 1000
    path = write(AZURE_HEAD, "2023-11-16 18:15:46,8,1", name=name)
    assert read_trace(path, None, 64)[0].prompt_tokens == 8


def test_a_format_given_is_not_guessed(write: Write) -> None:
    path = write(asked(), name="trace.csv")
    assert len(read_trace(path, "mooncake", 64)) == 1


def test_blank_lines_are_no_requests(write: Write) -> None:
    assert len(read_trace(write(asked(), "", asked()), None, 64)) == 2


@given(shared=IDS, one=IDS, other=IDS, parts=st.sampled_from([1, 4, 8, 32]))
def test_equal_ids_are_equal_blocks_and_only_they(
    shared: list[int], one: list[int], other: list[int], parts: int
) -> None:
    ids, others = shared + one, shared + other
    blocks, other_blocks = split_blocks(ids, parts), split_blocks(others, parts)
    for index, pair in enumerate(zip(blocks, other_blocks, strict=False)):
        same = ids[index // parts] == others[index // parts]
        assert (pair[0] == pair[1]) is same
    assert len(set(blocks)) == len(set(ids)) * parts
    assert all(0 <= block < 2**64 for block in blocks)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=st.integers(0, 5000), block_tokens=st.sampled_from([16, 64, 512]))
def test_only_full_blocks_of_the_prompt_have_a_hash(
    write: Write, prompt: int, block_tokens: int
) -> None:
    [request] = read_trace(write(asked(prompt=prompt)), None, block_tokens)
    assert len(request.blocks) == prompt // block_tokens


@given(first=st.integers(0, 2**40), count=st.integers(0, 50), more=st.integers(0, 50))
def test_unique_blocks_never_meet(first: int, count: int, more: int) -> None:
    blocks = unique_blocks(first, count) + unique_blocks(first + count, more)
    assert len(set(blocks)) == count + more


def test_block_hashes_are_the_same_on_every_machine() -> None:
    # Of (0, 0), (0, 1), (7, 0), (7, 1); and splitmix64's own first number from seed 0.
    assert split_blocks([0, 7], 2) == [
        12035550249420947055,
        3069472533636442495,
        13309476754707697221,
        2875738036014693257,
    ]
    assert unique_blocks(0, 1) == [0xE220A8397B1DCDAF]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    assert refusal(path) == f"cannot read the trace {path}: No such file or directory"


def test_an_empty_file_is_no_trace(write: Write) -> None:
    path = write()
    assert refusal(path) == f"{path} has no requests"


def test_an_unknown_format_must_be_given(write: Write) -> None:
    path = write("offset_s,req_per_s", name="trace.txt")
    assert refusal(path) == f"cannot tell the format of {path}: give --format mooncake or azure"


def test_bytes_are_no_csv(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xff\xfe\x00")
    assert refusal(path).startswith(f"{path} is not a text file: ")


def test_blocks_that_do_not_divide_512_are_refused(write: Write) -> None:
    path = write(asked())
    assert refusal(path, block_tokens=48) == (
        f"{path} names blocks of 512 tokens, which blocks of 48 do not divide: "
        "give --block-tokens 16, 32, 64, 128, 256 or 512"
    )


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("{", "Input data was truncated"),
        ("[]", "Expected `object`, got `array`"),
        ({"timestamp": 0}, "Object missing required field `input_length`"),
        (asked(at_ms=-1), "Expected `float` >= 0.0 - at `$.timestamp`"),
        (asked(prompt=-5, ids=[]), "Expected `int` >= 0 - at `$.input_length`"),
        (asked(output=-5), "Expected `int` >= 0 - at `$.output_length`"),
        (asked(ids=[0, -1]), "Expected `int` >= 0 - at `$.hash_ids[1]`"),
        (asked(ids=[0, 2**64]), "Expected `int` <= 9223372036854775807 - at `$.hash_ids[1]`"),
        (asked(ids=[4]), "1000 prompt tokens need 2 hash_ids, one per 512, and there are 1"),
        (asked(ids=[4, 5, 6]), "1000 prompt tokens need 2 hash_ids, one per 512, and there are 3"),
    ],
)
def test_a_bad_mooncake_line_is_named(write: Write, line: str | dict[str, Any], wrong: str) -> None:
    path = write(asked(), line)
    assert refusal(path) == f"{path}, line 2: {wrong}"


def test_a_csv_file_without_the_columns_is_refused(write: Write) -> None:
    path = write("TIMESTAMP,ContextTokens", "0,1", name="trace.csv")
    assert refusal(path) == (
        f"{path}, line 1: no column GeneratedTokens; an azure trace begins with {AZURE_HEAD}"
    )


@pytest.mark.parametrize(
    "row", ["yesterday,8,1", "2023-11-16 18:15:46,8", "2023-11-16,x,1", "2023-11-16,8,-1", "7,,"]
)
def test_a_bad_azure_line_is_named(write: Write, row: str) -> None:
    path = write(AZURE_HEAD, "2023-11-16 18:15:46,8,1", row, name="trace.csv")
    said = refusal(path)
    assert said.startswith(f"{path}, line 3: expected a time and two token counts, got {row}")
