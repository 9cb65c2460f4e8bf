"""What a simulation is reported to have come to."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.sim.reports.outcome import RequestOutcome
from argosy.sim.reports.plot import plot
from argosy.sim.reports.report import digest_of, report_of

OUTCOMES = st.builds(
    RequestOutcome,
    arrived_us=st.integers(0, 10**10),
    prompt_tokens=st.integers(1, 10**6),
    output_tokens=st.integers(1, 10**5),
    cached_tokens=st.integers(0, 10**6),
    first_us=st.integers(0, 10**10),
    ended_us=st.integers(0, 10**10),
    rejected=st.booleans(),
    instance=st.text(max_size=8),
)
OTHER: dict[str, Any] = {
    "arrived_us": 7,
    "prompt_tokens": 7,
    "output_tokens": 7,
    "cached_tokens": 7,
    "first_us": None,
    "ended_us": None,
    "rejected": True,
    "instance": "decode-7",
}


def served(ttft_ms: int = 100, itl_ms: int = 10, tokens: int = 11, **fields: Any) -> RequestOutcome:
    """Arrived at one second, 1,000 prompt tokens of which 250 were cached."""
    first_us = 1_000_000 + ttft_ms * 1000
    ended_us = first_us + itl_ms * 1000 * (tokens - 1)
    return msgspec.structs.replace(
        RequestOutcome(1_000_000, 1000, tokens, 250, first_us, ended_us, instance="a"), **fields
    )


def turned_away() -> RequestOutcome:
    return RequestOutcome(1_000_000, 1000, 0, 0, None, None, rejected=True)


def cut_short() -> RequestOutcome:
    return served(ended_us=None)


def reported(*outcomes: RequestOutcome) -> dict[str, Any]:
    return report_of(
        outcomes,
        slo_ttft_ms=200,
        slo_itl_ms=20,
        instance_seconds=7200,
        virtual_us=10_000_000,
        wall_s=0.5,
    )


def test_the_report_says_all_of_it() -> None:
    report = reported(served(100, 10), served(300, 30, tokens=21), turned_away())
    assert report == {
        "requests": 3,
        "completed": 2,
        "rejected": 1,
        "reuse": 0.25,
        "ttft_ms": {"mean": 200, "p50": 200, "p90": 280, "p99": 298},
        "itl_ms": {"mean": 20, "p50": 20, "p90": 28, "p99": 29.8},
        "e2e_ms": {"mean": 550, "p50": 550, "p90": 830, "p99": 893},
        "slo": {"ttft_ms": 200, "itl_ms": 20, "share": 0.333333},
        "throughput": {"requests_per_s": 0.2, "output_tokens_per_s": 3.2},
        "instance_hours": 2,
        "virtual_s": 10,
        "wall_s": 0.5,
        "digest": report["digest"],
    }
    assert json.loads(json.dumps(report)) == report


@pytest.mark.parametrize("outcomes", [[], [turned_away()], [cut_short()]])
def test_what_there_is_none_of_is_none_or_zero(outcomes: list[RequestOutcome]) -> None:
    report = report_of(
        outcomes, slo_ttft_ms=200, slo_itl_ms=20, instance_seconds=0, virtual_us=0, wall_s=0
    )
    nothing = {"mean": None, "p50": None, "p90": None, "p99": None}
    assert report["ttft_ms"] == report["itl_ms"] == report["e2e_ms"] == nothing
    assert report["reuse"] == report["slo"]["share"] == report["completed"] == 0
    assert report["throughput"] == {"requests_per_s": 0, "output_tokens_per_s": 0}


def test_a_request_with_one_token_has_no_itl_and_can_meet_the_slo() -> None:
    report = reported(served(100, tokens=1))
    assert report["itl_ms"]["mean"] is None
    assert report["slo"]["share"] == 1


@pytest.mark.parametrize(
    ("outcome", "share"),
    [
        (served(200, 20), 1),
        (served(201, 20), 0),
        (served(200, 21), 0),
        (turned_away(), 0),
        (cut_short(), 0),
    ],
)
def test_the_slo_is_met_by_who_completes_within_both(outcome: RequestOutcome, share: int) -> None:
    assert reported(outcome)["slo"]["share"] == share


def test_only_completed_requests_count_as_reuse_and_throughput() -> None:
    report = reported(served(), cut_short(), turned_away())
    assert (report["requests"], report["completed"], report["rejected"]) == (3, 1, 1)
    assert report["reuse"] == 0.25
    assert report["throughput"] == {"requests_per_s": 0.1, "output_tokens_per_s": 1.1}


@given(waits_ms=st.lists(st.integers(0, 10**6), min_size=1, max_size=50))
def test_percentiles_are_in_order_and_within_what_was_seen(waits_ms: list[int]) -> None:
    ttft = reported(*(served(wait_ms) for wait_ms in waits_ms))["ttft_ms"]
    assert min(waits_ms) <= ttft["p50"] <= ttft["p90"] <= ttft["p99"] <= max(waits_ms)
    assert min(waits_ms) <= ttft["mean"] <= max(waits_ms)


@given(outcome=OUTCOMES, field=st.sampled_from(sorted(OTHER)))
def test_the_digest_changes_with_every_field(outcome: RequestOutcome, field: str) -> None:
    changed = msgspec.structs.replace(outcome, **{field: OTHER[field]})
    assert (digest_of([changed]) == digest_of([outcome])) is (changed == outcome)


@given(outcomes=st.lists(OUTCOMES, max_size=5))
def test_the_digest_is_of_the_outcomes_in_their_order(outcomes: list[RequestOutcome]) -> None:
    assert digest_of(outcomes) == digest_of(msgspec.structs.replace(o) for o in outcomes)
    backwards = outcomes[::-1]
    assert (digest_of(backwards) == digest_of(outcomes)) is (backwards == outcomes)


def test_the_digest_is_the_same_on_every_machine_and_knows_no_wall_time() -> None:
    outcomes = [served(), turned_away(), cut_short()]
    digest = "2311b3475cc9455c"
    assert digest_of(outcomes) == digest
    for wall_s in (0.5, 7.0):
        report = report_of(
            outcomes, slo_ttft_ms=1, slo_itl_ms=1, instance_seconds=1, virtual_us=1, wall_s=wall_s
        )
        assert report["digest"] == digest


@pytest.mark.parametrize(
    "outcomes", [[], [turned_away()], [served()], [served(n + 1) for n in range(200)]]
)
def test_the_same_outcomes_are_the_same_picture(
    tmp_path: Path, outcomes: list[RequestOutcome]
) -> None:
    one, other = tmp_path / "one.svg", tmp_path / "other.svg"
    plot(outcomes, one, "a title", 2000)
    plot(outcomes, other, "a title", 2000)
    assert one.read_bytes().startswith(b"<?xml")
    assert one.read_bytes() == other.read_bytes()


def test_a_picture_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        plot([served()], tmp_path / "nowhere" / "one.svg", "a title", 2000)
