"""`argosy plan` and `argosy why` as they are typed, against a served autoscaler."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console
from typer.testing import CliRunner

from argosy.cli import console
from argosy.cli.app import app
from argosy.cli.plan.scaler import iso, lasting
from argosy.cli.plan.show import next_time
from argosy.cli.plan.source import moments
from argosy.cli.plan.why import alternatives, weighed
from argosy.domain.errors import ArgosyError, Reason
from argosy.fleet.plans import OperationalPlan, Plans
from argosy.launcher.home import FleetHome, RunningFleet
from argosy.mesh import rpc
from argosy.wire.autoscaler.v1 import autoscaler_pb2, autoscaler_pb2_grpc, events_pb2

S, MINUTE = 1_000_000, 60_000_000
HOUR = 60 * MINUTE
DECISION = events_pb2.ScaleDecided(
    id="19abc-7",
    generation=7,
    reason="decode 2 to 3 awake: 4.00 requests/s now",
    at_us=1_767_571_200 * S,
    pools=[
        events_pb2.PoolDecided(
            role="decode",
            awake=3,
            exist=4,
            awake_before=2,
            exist_before=4,
            wake=["decode-2"],
            at_most=6,
        ),
        events_pb2.PoolDecided(
            role="prefill", awake=1, exist=1, awake_before=1, exist_before=1, at_most=4
        ),
    ],
    forecast=events_pb2.ForecastMade(
        rate_now=4,
        rate_mean=5.5,
        rate_upper=7.25,
        quantile=0.9,
        ahead_s=240,
        prompt_tokens=1024,
        output_tokens=128,
        hit_share=0.25,
        weights={"last": 0.5, "day": 0.3, "week": 0.15, "drift": 0.05},
    ),
    chosen=events_pb2.Alternative(
        name="1 prefill, 3 decode",
        prefill=1,
        decode=3,
        silent=1,
        cost=12_345,
        ttft_p90_ms=210,
        tpot_p90_ms=31.5,
        attained=0.998,
    ),
    rejected=[
        events_pb2.Alternative(
            name="1 prefill, 2 decode",
            prefill=1,
            decode=2,
            silent=2,
            cost=13_000,
            ttft_p90_ms=900,
            tpot_p90_ms=55,
            attained=0.8,
            rejected="655 instance-seconds more",
        )
    ],
    constraints=["plan friday", "decode: none taken away for 40 s more"],
    load_traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)


def shown_plan(plans: Plans, plan: OperationalPlan, now_us: int) -> autoscaler_pb2.Plan:
    """A plan as the service shows it, with the first of its windows."""
    shown = autoscaler_pb2.Plan(name=plan.name, text=plan.text, source=plan.source)
    for window in plans.windows_of(plan, now_us)[:1]:
        shown.from_us, shown.until_us = window.from_us, window.until_us
    return shown


class Autoscaler(autoscaler_pb2_grpc.AutoscalerServicer):
    """Answers as an autoscaler does: its own plans, one decision, half an hour of history."""

    def __init__(self) -> None:
        self.plans = Plans()
        self.began_us = time.time_ns() // 1000 // MINUTE * MINUTE - HOUR

    @rpc.handler("add", traced=False)
    async def AddPlan(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        now_us = time.time_ns() // 1000
        name = self.plans.check(request.name, request.text, now_us)
        self.plans.changed(name, request.text, now_us)
        return shown_plan(self.plans, self.plans.all()[-1], now_us)

    @rpc.handler("list", traced=False)
    async def ListPlans(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        now_us = time.time_ns() // 1000
        plans = [shown_plan(self.plans, plan, now_us) for plan in self.plans.all()]
        return autoscaler_pb2.ListPlansReply(plans=plans)

    @rpc.handler("remove", traced=False)
    async def RemovePlan(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        plan = self.plans.get(request.name)
        if plan is None:
            raise ArgosyError(Reason.NO_DECISION, f"no plan '{request.name}'; there is friday")
        self.plans.changed(plan.name, "", 0)
        return shown_plan(self.plans, plan, time.time_ns() // 1000)

    @rpc.handler("explain", traced=False)
    async def Explain(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        if not DECISION.id.startswith(request.id):
            message = f"no decision '{request.id}'; the last ones: {DECISION.id}"
            raise ArgosyError(Reason.NO_DECISION, message)
        outcomes = ["08:00:07 decode-2 woke in 6,100 ms"]
        return autoscaler_pb2.ExplainReply(decision=DECISION, outcomes=outcomes)

    @rpc.handler("status", traced=False)
    async def Status(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        return autoscaler_pb2.StatusReply(last=DECISION)

    async def History(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        for number in range(30):
            yield events_pb2.DemandMeasured(
                start_us=self.began_us + number * MINUTE,
                seconds=60,
                requests=120,
                prompt_tokens=120_000,
                prompt_tokens_squared=150e6,
                finished=100,
                output_tokens=20_000,
                output_tokens_squared=5e6,
            )


@pytest.fixture
async def server() -> AsyncIterator[rpc.GrpcServer]:
    server = rpc.GrpcServer()
    descriptor = autoscaler_pb2.DESCRIPTOR.services_by_name["Autoscaler"]
    server.add(autoscaler_pb2_grpc.add_AutoscalerServicer_to_server, Autoscaler(), descriptor)
    await server.start("127.0.0.1:0")
    yield server
    await server.stop(0)


@pytest.fixture
def argosy(server: rpc.GrpcServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line, for a fleet whose autoscaler is that server."""
    address = f"127.0.0.1:{server.port}"
    save(tmp_path, address)
    monkeypatch.setattr(console, "out", Console(highlight=False, width=200))

    async def run(*words: object) -> Any:
        line = [*map(str, words), "--home", str(tmp_path)]
        return await asyncio.to_thread(CliRunner().invoke, app, line)

    return run


def save(home: Path, autoscaler: str) -> None:
    """A fleet that is up, as this very process."""
    folder = FleetHome(home, "demo")
    folder.path.mkdir()
    folder.save(
        RunningFleet(
            "demo",
            "sim",
            os.getpid(),
            psutil.Process().create_time(),
            autoscaler,
            "http://127.0.0.1:1",
            autoscaler,
            autoscaler,
            "nats://127.0.0.1:1",
            "sim",
            autoscaler,
        )
    )


async def test_a_plan_is_added_listed_and_removed_by_its_name(argosy: Any) -> None:
    text = "Friday 20:00-23:00 at least 6"
    added = await argosy("plan", "add", text, "--name", "friday")
    assert added.exit_code == 0, added.output
    assert added.stdout.startswith(f"friday holds: {text}; next ")
    await argosy("plan", "add", "no scale-down until Monday")
    shown = (await argosy("plan", "list")).stdout
    assert text in shown
    assert "operator" in shown
    assert "no-scale-down-until-monday" in shown
    assert "T20:00Z to 23:00Z" in shown
    listed = json.loads((await argosy("plan", "list", "--json")).stdout)
    assert {plan["name"]: plan["text"] for plan in listed}["friday"] == text
    assert all(plan["until_us"] > plan["from_us"] > 0 for plan in listed)
    removed = await argosy("plan", "remove", "friday")
    assert removed.stdout.startswith("friday is no more")
    assert "friday" not in (await argosy("plan", "list")).stdout.replace("until-monday", "")


async def test_no_plans_say_how_to_add_one(argosy: Any) -> None:
    assert "argosy plan add" in (await argosy("plan", "list")).stdout
    assert json.loads((await argosy("plan", "list", "--json")).stdout) == []


async def test_a_refused_plan_says_what_the_autoscaler_said(argosy: Any) -> None:
    await argosy("plan", "add", "daily 10:00-12:00 at least 6", "--name", "least")
    ran = await argosy("plan", "add", "daily 11:00-13:00 at most 4", "--name", "most")
    assert isinstance(ran.exception, ArgosyError)
    assert ran.exception.reason is Reason.PLAN_CONFLICT
    assert "contradicts plan 'least'" in ran.exception.message
    ran = await argosy("plan", "add", "more on Friday")
    assert ran.exception.reason is Reason.BAD_REQUEST
    assert "write such as" in ran.exception.message
    ran = await argosy("plan", "remove", "none")
    assert "there is friday" in ran.exception.message


async def test_why_explains_the_last_decision_in_a_few_lines(argosy: Any) -> None:
    shown = (await argosy("why")).stdout
    for text in (
        "2026-01-05T00:00:00Z",
        "19abc-7, generation 7",
        "2 to 3 awake; 4 in all (at most 6); wake decode-2",
        "1 awake; 1 in all (at most 4)",
        "decode 2 to 3 awake: 4.00 requests/s now",
        "4.00 requests/s now; within 240 s 5.50",
        "at most 7.25 (90% sure)",
        "1,024 tokens (25% cached)",
        "last 50%, day 30%, week 15%",
        "plan friday",
        "decode: none taken away for 40 s more",
        "decode-2 woke in 6,100 ms",
        "argosy trace 4bf92f3577b3",
        "210 ms",
        "31.5 ms",
        "99.8%",
        "12,345",
        "chosen",
        "900 ms",
        "655 instance-seconds more",
    ):
        assert text in shown, shown
    assert "drift" not in shown, "the fourth of the experts"
    assert "advice" not in shown


async def test_why_for_programs_has_numbers_as_numbers(argosy: Any) -> None:
    found = json.loads((await argosy("why", "19a", "--json")).stdout)
    decision = found["decision"]
    assert (decision["generation"], decision["at_us"]) == (7, 1_767_571_200 * S)
    assert decision["forecast"]["weights"]["drift"] == 0.05
    assert decision["rejected"][0]["rejected"] == "655 instance-seconds more"
    assert found["outcomes"] == ["08:00:07 decode-2 woke in 6,100 ms"]


async def test_an_unknown_decision_is_answered_with_those_there_are(argosy: Any) -> None:
    ran = await argosy("why", "77")
    assert ran.exception.reason is Reason.NO_DECISION
    assert ran.exception.message == "no decision '77'; the last ones: 19abc-7"


def test_a_step_that_a_bound_forbids_has_no_cost_to_compare() -> None:
    decision = events_pb2.ScaleDecided()
    decision.CopyFrom(DECISION)
    decision.rejected[0].cost = 1e12
    decision.rejected[0].rejected = "999,999,987,655 instance-seconds more than what was chosen"
    with console.out.capture() as shown:
        console.out.print(alternatives(decision))
    assert "a bound or a plan forbids it" in " ".join(shown.get().split())
    assert "999" not in shown.get()


def test_only_the_experts_that_counted_are_named() -> None:
    assert weighed({"last": 1.0, "day": 0.0, "holt": 0.0}) == "last 100%"
    assert weighed({"b": 0.25, "a": 0.25, "c": 0.3, "d": 0.2}) == "c 30%, a 25%, b 25%"


def test_a_plans_time_is_told_in_utc_and_from_now() -> None:
    plan = autoscaler_pb2.Plan(from_us=20 * HOUR, until_us=23 * HOUR)
    span = "1970-01-01T20:00Z to 23:00Z"
    assert next_time(plan, 0) == (span, "in 20 h")
    assert next_time(plan, 21 * HOUR) == (span, "now, 2 h more")
    assert next_time(plan, 23 * HOUR) == ("-", "over")
    night = autoscaler_pb2.Plan(from_us=22 * HOUR, until_us=26 * HOUR)
    assert next_time(night, 0)[0] == "1970-01-01T22:00Z to 1970-01-02T02:00Z"
    assert next_time(autoscaler_pb2.Plan(), 0) == ("-", "over")


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (0, "0 s"),
        (59 * S, "59 s"),
        (61 * S, "1 min 1 s"),
        (HOUR, "1 h"),
        (26 * HOUR, "1 d 2 h"),
        (-5, "0 s"),
    ],
)
def test_spans_are_told_in_two_units(span: int, said: str) -> None:
    assert lasting(span) == said


def test_a_time_beyond_calendars_is_far() -> None:
    assert iso(1 << 62) == "far"


def rates(path: Path) -> Path:
    """A trace of rates that double for a while."""
    rows = [f"{60 * n},{2 if 10 <= n < 15 else 1}" for n in range(20)]
    path.write_text("offset_s,req_per_s\n" + "\n".join(rows) + "\n")
    return path


def simulate(*words: object) -> Any:
    return CliRunner().invoke(app, ["plan", "simulate", *map(str, words)])


def test_a_plan_keeps_instances_where_nothing_else_would(tmp_path: Path) -> None:
    trace = rates(tmp_path / "rates.csv")
    asked = ("--trace", trace, "--replicas", 8, "--json")
    without = json.loads(simulate(*asked).stdout)
    ran = simulate(*asked, "--plan", "Monday 00:05-00:20 at least 8")
    found = json.loads(ran.stdout)
    assert found["plans"] == ["Monday 00:05-00:20 at least 8"]
    assert found["workload"] == without["workload"]
    assert found["workload"]["began"] == "2026-01-05T00:00:00Z"
    fewer, more = (ran["policies"]["argosy"]["mean_replicas"] for ran in (without, found))
    assert more > fewer + 0.5


def test_other_policies_stand_beside_argosy_and_the_picture_is_the_same_each_time(
    tmp_path: Path,
) -> None:
    trace = rates(tmp_path / "rates.csv")
    pictures = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for picture in pictures:
        ran = simulate("--trace", trace, "--replicas", 6, "--policy", "static", "--plot", picture)
        assert ran.exit_code == 0, ran.output
    assert "argosy" in ran.stdout
    assert "static" in ran.stdout
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    assert "forecast, one lead before" in pictures[0].read_text()
    assert "static, used" in pictures[0].read_text()


async def test_history_is_run_as_it_was_for_as_many_as_the_fleet_may_have(argosy: Any) -> None:
    ran = await argosy("plan", "simulate", "--history", "--json")
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found["workload"]["source"] == "history of demo"
    assert found["workload"]["factor"] == 1
    assert found["replicas"] == 10
    assert found["workload"]["span_s"] == 1800
    assert found["workload"]["requests"] == pytest.approx(3600, rel=0.1)
    assert found["policies"]["argosy"]["attainment"] > 0.9


def test_lengths_have_the_mean_and_spread_that_were_measured() -> None:
    slots = [
        events_pb2.DemandMeasured(requests=2, prompt_tokens=20, prompt_tokens_squared=250),
        events_pb2.DemandMeasured(requests=2, prompt_tokens=20, prompt_tokens_squared=250),
    ]
    assert moments(slots, "requests", "prompt_tokens", 1) == (10, 5)
    assert moments(slots, "finished", "output_tokens", 128) == (128, 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--policy", "best"], "no best: there are argosy, "),
        (["--timezone", "Mars/Base"], "no time zone Mars/Base"),
        (["--plot", "a.png"], "write --plot a.svg"),
        (["--history"], "write --trace FILE, or --history"),
    ],
)
def test_what_cannot_be_simulated_is_refused_first(
    tmp_path: Path, wrong: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ran = simulate("--trace", rates(tmp_path / "rates.csv"), *wrong)
    assert ran.exit_code == 2
    assert message in ran.stderr


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("daily 00:10-00:20 at least 9", "is beyond the 8 there may be: raise --replicas"),
        ("drain rack 3 at 00:10", "simulated instances have no racks"),
    ],
)
def test_plans_that_a_simulation_cannot_keep_are_refused(
    tmp_path: Path, plan: str, message: str
) -> None:
    ran = simulate("--trace", rates(tmp_path / "r.csv"), "--replicas", 8, "--plan", plan)
    assert ran.exit_code == 1
    assert message in ran.stderr
