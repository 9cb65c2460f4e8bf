"""Fleets that get hurt, and heal."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def hurt_fleet(new_fleet_launcher: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Slow enough to be hit in the middle of an answer."""
    launcher = new_fleet_launcher(tmp_path_factory.mktemp("chaos"))
    yield asyncio.run(launcher.launch(speed=0.4, max_running=8))
    launcher.close()


@pytest.fixture
async def whole_fleet(hurt_fleet: Any, eventually: Any) -> Any:
    """hurt_fleet, healed of what the test before did to it."""
    await eventually(hurt_fleet.is_whole, 30)
    return hurt_fleet


@pytest.fixture(scope="module")
def hurt_lone_pair(
    new_fleet_launcher: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Two decodes that do all by themselves."""
    launcher = new_fleet_launcher(tmp_path_factory.mktemp("lonepair"))
    yield asyncio.run(launcher.launch(speed=0.2, max_running=8, prefill=0, decode=2))
    launcher.close()


@pytest.fixture(params=["disaggregated", "local"])
def either_pair(request: pytest.FixtureRequest) -> Any:
    """One where `long_text` goes to prefill first, and one where it does not."""
    return request.getfixturevalue(
        "hurt_pair" if request.param == "disaggregated" else "hurt_lone_pair"
    )


@pytest.fixture(scope="module")
def hurt_pair(new_fleet_launcher: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """As hurt_fleet, with a second decode to go on with."""
    launcher = new_fleet_launcher(tmp_path_factory.mktemp("pair"))
    yield asyncio.run(launcher.launch(speed=0.2, max_running=8, decode=2))
    launcher.close()
