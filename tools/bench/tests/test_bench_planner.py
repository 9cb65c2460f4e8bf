"""`argosy bench plan`: what it measures, and what it says of it."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from argosy.bench.scaling import capacity_model, planner_time
from argosy.bench.scaling.planner import report_of
from argosy.cli.app import app

TOOK = {"cold": {"wall_s": 0.3, "cpu_s": 0.2}, "warm": {"wall_s": 0.01, "cpu_s": 0.01}}
PLANNED = {"slots": 240, "free": TOOK, "bound": TOOK, "asked_s": 1.0, "ok": True}


def case(error: float, lengths: str = "short") -> dict[str, Any]:
    return {"profile": "dynamo-mocker", "lengths": lengths, "error": error}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """Stands where what takes long would; keeps the cases that were asked for."""
    asked: list[list[Any]] = []

    def compare(cases: list[Any], progress: Any) -> list[dict[str, Any]]:
        asked.append(cases)
        progress(len(cases), len(cases))
        return [case(0.05), case(-0.15), case(0.02, "long")]

    monkeypatch.setattr(planner_time, "measure", lambda runs: PLANNED)
    monkeypatch.setattr(capacity_model, "compare", compare)
    return asked


def test_errors_are_told_of_all_cases_and_of_each_group() -> None:
    model = report_of(PLANNED, [case(0.05), case(-0.15), case(0.02, "long")])["model"]
    assert (model["worst"], model["cases"]) == (0.15, 3)
    assert model["mean"] == pytest.approx(0.0733, abs=1e-4)
    assert [group["within_asked"] for group in model["groups"]] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("planned_ok", "error", "ok"), [(True, 0.1, True), (True, -0.11, False), (False, 0.0, False)]
)
def test_it_is_ok_only_if_both_are_as_asked(planned_ok: bool, error: float, ok: bool) -> None:
    assert report_of({**PLANNED, "ok": planned_ok}, [case(error)])["ok"] is ok


def test_json_is_one_object_on_stdout(measured: list[list[Any]]) -> None:
    ran = CliRunner().invoke(app, ["bench", "plan", "--json"])
    report = json.loads(ran.stdout)
    assert report["plan"] == PLANNED
    assert report["ok"] is False
    assert len(measured[0]) == 120


def test_people_get_tables_and_a_quick_run_few_cases(measured: list[list[Any]]) -> None:
    ran = CliRunner().invoke(app, ["bench", "plan", "--quick"])
    assert len(measured[0]) == 6
    for text in ("64 + 64 instances, 240 slots", "0.300", "budget and ratio bind", "15.0%", "67%"):
        assert text in ran.stdout
    assert ran.stdout.endswith("not as asked\n")


def test_roles_are_planned_together_where_budget_and_ratio_bind() -> None:
    rates = planner_time.demand_rates()
    free = planner_time.bounds(2 * planner_time.INSTANCES, 0)
    costs = planner_time.new_costs()
    path = planner_time.solve(costs, rates, 0, free)
    most = max(map(sum, zip(path.prefill, path.decode, strict=True)))
    assert most > 0.9 * 2 * planner_time.INSTANCES
    tight = planner_time.bounds(most - 10, 0)
    kept = planner_time.solve(costs, rates, 0, tight)
    assert max(map(sum, zip(kept.prefill, kept.decode, strict=True))) == most - 10
