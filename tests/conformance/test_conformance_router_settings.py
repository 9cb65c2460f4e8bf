"""A fleet file means the same to a live router and to a simulated one."""

from pathlib import Path

import msgspec
import pytest

from argosy.domain.demand import Slo
from argosy.fleet.file import parse_fleet
from argosy.launcher import launch
from argosy.operator.shell.scaling_fact import scaling_fact
from argosy.router.core.state import RouterLimits, new_state
from argosy.router.policies import new_core
from argosy.router.settings import RouterSettings
from argosy.router.shell.service import limits_of
from argosy.router.shell.subscriptions import objectives_of
from argosy.sim.fleet.simulation import SimFleet, router_limits
from argosy.wire.operator.v1 import events_pb2

FLEET = """
apiVersion: argosy.dev/v1alpha1
kind: FedDeployment
metadata: {{name: same}}
spec:
  model: {{name: sim-model}}
  engine: {{kind: sim}}
  split:
    prefill: {{replicas: 1}}
    decode: {{replicas: 1}}
{more}
"""
UNBOUNDED = {"queue_limit", "attempts_max", "wait_us"}
"""A simulated trace is served whole: no request of it is refused or given up."""


def bring_up(text: str, folder: Path) -> RouterLimits:
    """The limits of a live router's core, once it has heard of the fleet it is in."""
    path = folder / "fleet.yaml"
    path.write_text(text)
    entries = launch.boot_entries(launch.plan(path, folder / "home", 0, 0))
    router: dict[str, dict[str, str]] = entries["router"]  # type: ignore[assignment]
    settings = RouterSettings(fleet_secret="s", **router["settings"])  # type: ignore[arg-type]
    core = new_core(new_state(limits_of(settings)))
    fact = events_pb2.FleetApplied(generation=1, scaling=scaling_fact(parse_fleet(text)))
    core.step(objectives_of(fact, now_us=1))
    return core.state.limits


@pytest.mark.parametrize(
    ("more", "simulated"),
    [
        ("", SimFleet()),
        ("  scaling: {silent: 1}", SimFleet()),
        ("  scaling: {slo: {}}", SimFleet()),
        ("  scaling: {slo: {tpotP99: 100ms}}", SimFleet(slo=Slo(tpot_ms=100))),
        ("  scaling: {slo: {ttftP99: 3s}}", SimFleet(slo=Slo(ttft_ms=3000))),
        (
            "  routing: {policy: lmetric}\n"
            "  scaling: {mode: advise, slo: {ttftP99: 1s, tpotP99: 20ms}}",
            SimFleet(policy="lmetric", slo=Slo(1000, 20)),
        ),
    ],
)
def test_a_simulated_router_has_the_limits_of_the_live_one(
    more: str, simulated: SimFleet, tmp_path: Path
) -> None:
    live = msgspec.structs.asdict(bring_up(FLEET.format(more=more), tmp_path))
    virtual = msgspec.structs.asdict(router_limits(simulated))
    differ = {name for name in live if live[name] != virtual[name]}
    assert differ <= UNBOUNDED


def test_an_unknown_routing_policy_is_refused_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET.format(more="  routing: {policy: best}"))
    with pytest.raises(launch.UpError, match="no 'best'; write one of: dynamo_kv_cost"):
        launch.plan(path, tmp_path / "home", 0, 0)


@pytest.mark.parametrize("told_ms", [0.0, -1.0, float("nan"), float("inf")])
def test_objectives_that_cannot_be_are_the_defaults(told_ms: float) -> None:
    """What an older operator, or a broken one, writes must not reach the router's prices."""
    scaling = events_pb2.Scaling(ttft_ms=told_ms, tpot_ms=told_ms)
    fact = events_pb2.FleetApplied(generation=1, scaling=scaling)
    assert objectives_of(fact, now_us=1).slo == Slo()
    assert objectives_of(events_pb2.FleetApplied(generation=1), now_us=1).slo == Slo()
