"""Routing policies are found by their entry points: one file and one line add one."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from argosy.domain import plugins
from argosy.domain.errors import ArgosyError, Reason
from argosy.router.core.placement.policies import RoutingPolicy
from argosy.router.core.state import RouterLimits
from argosy.router.policies import GROUP, policy_named, policy_names
from argosy.router.settings import RouterSettings

BUILT_IN = ["dynamo_kv_cost", "least_cost", "least_loaded", "lmetric", "round_robin"]
MODULE = """
from argosy.router.core.fleet.candidates import Choice
from argosy.router.core.placement.policies import RoutingPolicy


def choose(state, candidates, request, now_us, planned):
    last = candidates.decode[-1]
    return Choice(last, last, request.prompt_tokens, "always the last one")


POLICY = RoutingPolicy(choose, staggered=False)
"""


@pytest.fixture
def outside_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A distribution of somebody else's, with a routing policy in it."""
    (tmp_path / "outside_routing.py").write_text(MODULE)
    metadata = tmp_path / "outside_routing-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-routing\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\nlast = outside_routing:POLICY\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    plugins.forget()
    yield "last"
    plugins.forget()


def test_a_policy_from_outside_is_found_by_name_and_places_requests(
    new_router: Any, outside_policy: str
) -> None:
    assert policy_names() == sorted([*BUILT_IN, outside_policy])
    settings = RouterSettings(policy=outside_policy, fleet_secret="s")
    router = new_router(policy=settings.policy)
    for number in range(3):
        router.join(f"decode-{number}")
    dispatch = router.arrive("a").dispatch
    assert (dispatch.decode, dispatch.why) == ("decode-2", "always the last one")


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_policy_is_an_entry_point(name: str) -> None:
    assert isinstance(policy_named(name), RoutingPolicy)


def test_the_default_is_a_policy_there_is() -> None:
    assert RouterLimits().policy in BUILT_IN


def test_a_policy_that_is_not_installed_is_refused_with_those_that_are() -> None:
    with pytest.raises(ArgosyError, match="no routing policy 'best'; there are: ") as refused:
        policy_named("best")
    assert refused.value.reason is Reason.BAD_REQUEST
    for name in BUILT_IN:
        assert name in refused.value.message
    with pytest.raises(ValidationError, match=r"no routing policy 'best'; there are: .*least_cost"):
        RouterSettings(policy="best", fleet_secret="s")
