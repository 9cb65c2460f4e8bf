"""What `argosy bench forecast` reads and how it scores."""

import json
import math
import random
from pathlib import Path

import pytest

from argosy.bench.scaling.forecast import run_forecast
from argosy.bench.scaling.forecast_trace import Series, read_series
from argosy.bench.scaling.forecast_walk import report_of, trained, walk
from argosy.sim.traces.trace import TraceError

SLOT_S = 1800


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def rates(days: int) -> list[float]:
    chance, count = random.Random(1), days * 86_400 // SLOT_S
    wave = [1 + 0.6 * math.sin(2 * math.pi * slot * SLOT_S / 86_400) for slot in range(count)]
    return [100 * height * chance.gauss(1, 0.1) for height in wave]


def test_rates_are_read_as_they_are_and_missing_rows_are_unknown(tmp_path: Path) -> None:
    rows = ["offset_s,req_per_s", "600,2", "1200,0", "2400,4.5"]
    series = read_series(write(tmp_path / "rates.csv", rows))
    assert series == Series(600, [2, 0, None, 4.5])


@pytest.mark.parametrize("rows", [[], ["0,1"], ["0,1", "600,nan"], ["0,1", "x,2"], ["0,1", "0,2"]])
def test_rates_that_are_none_are_refused(tmp_path: Path, rows: list[str]) -> None:
    with pytest.raises(TraceError):
        read_series(write(tmp_path / "rates.csv", ["offset_s,req_per_s", *rows]))


def test_requests_are_counted_by_the_minute_and_nobody_is_zero(tmp_path: Path) -> None:
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    rows += [f"2023-11-16 18:{at}.0000000,10,10" for at in ("00:00", "00:30", "02:10", "03:01")]
    series = read_series(write(tmp_path / "azure.csv", rows))
    assert series == Series(60, [2 / 60, 0, 1 / 60])


def test_all_are_scored_at_the_same_slots_after_training() -> None:
    series = Series(SLOT_S, list(rates(7)))
    scores = walk(series, {})
    assert trained(series) == len(series.values) * 4 // 7
    assert all(
        score.n == len(series.values) - trained(series) - ahead for ahead, score in scores.items()
    )
    report = report_of(series, scores)
    assert [row["minutes"] for row in report["horizons"]] == [30, 60, 120, 180, 360, 720]
    assert report["never_above_last"]
    assert report["gain_from_3h"] > 0.1


def test_a_run_reports_every_horizon_with_prophet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{slot * SLOT_S},{rate:.3f}" for slot, rate in enumerate(rates(4))]
    run_forecast(write(tmp_path / "rates.csv", ["offset_s,req_per_s", *rows]), as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert report["trace"] == "rates.csv"
    for row in report["horizons"]:
        assert set(row["wape"]) == {"argosy", "last", "holt", "seasonal", "prophet"}
        assert row["wape"]["prophet"] < 0.3
        assert 0 <= row["coverage"] <= 1
