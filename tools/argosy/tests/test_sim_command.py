"""`argosy sim` as it is typed: what it refuses, what it prints."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from argosy.cli import console
from argosy.cli.app import app
from argosy.cli.sim import show
from argosy.cli.sim.app import check_policy, check_shape
from argosy.domain.demand import Slo
from argosy.sim.reports.outcome import RequestOutcome
from argosy.sim.traces.trace import TraceRequest

LINE = '{"timestamp": 0, "input_length": 100, "output_length": 11, "hash_ids": [0]}\n'


class SimReport:
    """Stands where the simulation would: every request is served alike; keeps what it got."""

    def __init__(self) -> None:
        self.trace: list[TraceRequest] = []
        self.fleet: Any = None

    def __call__(
        self, trace: list[TraceRequest], fleet: Any, progress: Callable[[int, int], None]
    ) -> SimpleNamespace:
        self.trace, self.fleet = trace, fleet
        progress(len(trace), len(trace))
        outcomes = [
            RequestOutcome(r.arrived_us, r.prompt_tokens, r.output_tokens, 64, 100_000, 200_000)
            for r in trace
        ]
        return SimpleNamespace(outcomes=outcomes, virtual_us=200_000, instance_seconds=3600.0)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> SimReport:
    simulated = SimReport()
    monkeypatch.setattr(show, "simulate", simulated)
    return simulated


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    path.write_text(LINE)
    return path


def sim(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["sim", *map(str, arguments)])


def test_json_is_one_object_on_stdout(simulated: SimReport, trace: Path) -> None:
    ran = sim("--trace", trace, "--aggregated", 2, "--json")
    assert ran.exit_code == 0
    report = json.loads(ran.stdout)
    assert report["ttft_ms"]["p50"] == 100
    assert report["slo"] == {"ttft_ms": 2000, "itl_ms": 50, "share": 1}
    assert report["instance_hours"] == 1
    assert (simulated.fleet.slo, simulated.fleet.ttft_limit_ms) == (Slo(), 0)


def test_options_reach_the_fleet_and_the_trace(simulated: SimReport, trace: Path) -> None:
    trace.write_text(LINE + LINE.replace('"timestamp": 0', '"timestamp": 80'))
    ran = sim(
        "--trace",
        trace,
        "--prefill",
        3,
        "--decode",
        4,
        "--dp",
        2,
        "--kv-tokens",
        4096,
        "--block-tokens",
        32,
        "--policy",
        "dynamo_kv_cost",
        "--timing",
        "dynamo-mocker",
        "--speedup",
        8,
        "--slo-ttft",
        90,
        "--slo-itl",
        10,
        "--ttft-limit",
        900,
        "--seed",
        5,
        "--json",
    )
    fleet = simulated.fleet
    assert (fleet.aggregated, fleet.prefill, fleet.decode, fleet.flexible) == (0, 3, 4, 0)
    assert (fleet.dp_ranks, fleet.kv_tokens, fleet.block_tokens) == (2, 4096, 32)
    assert (fleet.policy, fleet.slo, fleet.seed) == ("dynamo_kv_cost", Slo(90, 10), 5)
    assert fleet.ttft_limit_ms == 900
    assert simulated.trace[1].arrived_us == 10_000
    assert json.loads(ran.stdout)["slo"] == {"ttft_ms": 90, "itl_ms": 10, "share": 0.5}


def test_people_get_tables_and_a_picture(simulated: SimReport, trace: Path, tmp_path: Path) -> None:
    picture = tmp_path / "ttft.svg"
    ran = sim("--trace", trace, "--flexible", 2, "--plot", picture)
    assert ran.exit_code == 0
    for text in ("TTFT, ms", "ITL, ms", "E2E, ms", "1 completed, 0 rejected", "64.0% of prompt"):
        assert text in ran.stdout
    assert "trace.jsonl at 1×: 2 flexible, least_cost" in picture.read_text()


def test_a_bad_trace_ends_in_one_message(simulated: SimReport, trace: Path) -> None:
    trace.write_text("{")
    ran = sim("--trace", trace, "--aggregated", 2)
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr == f"argosy: {trace}, line 1: Input data was truncated\n"


def test_a_picture_that_cannot_be_written_costs_no_report(
    simulated: SimReport, trace: Path, tmp_path: Path
) -> None:
    ran = sim("--trace", trace, "--flexible", 2, "--json", "--plot", tmp_path / "none" / "a.svg")
    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["requests"] == 1
    assert "cannot write the picture" in ran.stderr


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (0, 0, 0, 0),
            "the fleet is empty: write --aggregated 16, --prefill 6 --decode 10, or --flexible 16",
        ),
        ((0, 6, 0, 0), "prefill instances alone cannot answer: write --prefill 6 --decode 6"),
        (
            (0, 0, 3, 0),
            "decode without prefill has nothing to decode: write --prefill 3 "
            "--decode 3, or --aggregated 3",
        ),
        ((4, 0, 0, 5), "a fleet has one shape: write either --aggregated 4 or --flexible 5"),
        (
            (4, 1, 2, 0),
            "a fleet has one shape: write either --aggregated 4 or --prefill 1 --decode 2",
        ),
    ],
)
def test_a_fleet_has_exactly_one_shape(shape: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        check_shape(*shape)
    assert refused.value.message == message


@pytest.mark.parametrize("shape", [(1, 0, 0, 0), (0, 1, 1, 0), (0, 0, 0, 1)])
def test_each_shape_is_a_fleet(shape: tuple[int, int, int, int]) -> None:
    check_shape(*shape)


def test_an_unknown_policy_is_answered_with_those_there_are() -> None:
    with pytest.raises(typer.BadParameter, match=r"no routing policy 'best'; .* dynamo_kv_cost"):
        check_policy("best")


@pytest.mark.parametrize("wrong", [["--plot", "a.png"], ["--flexible", "1"], ["--policy", "best"]])
def test_what_is_refused_ends_with_code_2(
    simulated: SimReport, trace: Path, wrong: list[str]
) -> None:
    ran = sim("--trace", trace, "--aggregated", 2, *wrong)
    assert ran.exit_code == 2
    assert not simulated.trace


@pytest.mark.parametrize(("after_s", "shown"), [(3600.0, False), (0.0, True)])
def test_only_a_long_run_shows_a_progress_bar(
    simulated: SimReport, trace: Path, monkeypatch: pytest.MonkeyPatch, after_s: float, shown: bool
) -> None:
    terminal = StringIO()
    monkeypatch.setattr(console, "err", Console(file=terminal, force_terminal=True))
    monkeypatch.setattr(show, "BAR_AFTER_S", after_s)
    sim("--trace", trace, "--flexible", 2, "--json")
    assert ("simulating" in terminal.getvalue()) is shown
    assert shown or not terminal.getvalue()
