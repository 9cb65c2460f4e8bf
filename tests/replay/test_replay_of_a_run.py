"""What a fleet went through, failures and all, replays bit for bit."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.autoscaler.core.autoscaler import SPEC as AUTOSCALER
from argosy.decode.core.decode import SPEC as DECODE
from argosy.domain.core import CoreSpec, Effect
from argosy.instance.lifecycle.core import SPEC as LIFE
from argosy.mesh.replay import Replayed, replay_directory, replay_segment
from argosy.node_agent.core.node import SPEC as NODE_AGENT
from argosy.operator.core.operator import SPEC as OPERATOR
from argosy.prefill.core.prefill import SPEC as PREFILL
from argosy.router.policies import SPEC as ROUTER

SPECS = {
    spec.name: spec for spec in (ROUTER, PREFILL, DECODE, LIFE, NODE_AGENT, OPERATOR, AUTOSCALER)
}
ADVISED = {"mode": "advise", "decode": {"max": 2}}
OFTEN = {"tick_s": ".5", "slot_s": "1", "plan_slots": "20"}
LONG = "everything that happened, as it happened " * 5


async def eventful(launcher: Any, eventually: Any) -> Any:
    """A fleet after answers, refusals, hang-ups and the death of one of each."""
    fleet = await launcher.launch(speed=2, scaling=ADVISED, scaler=OFTEN)
    options = {"max_tokens": 40, "ignore_eos": True}
    for direct, names in (
        (False, ("autoscaler", "decode-0", "router")),
        (True, ("prefill-0", "nats")),
    ):
        async with fleet.client(direct=direct) as client:
            for name in names:
                chunks = client.generate("sim", text=f"{LONG} {name} {direct}", **options)
                async with contextlib.aclosing(chunks):
                    await anext(chunks)
                    await fleet.kill(name)
                    with contextlib.suppress(Exception):
                        await anext(chunks)
                await eventually(fleet.is_whole, 40)
            await asyncio.gather(
                *(client.answer("sim", text=f"{LONG}{n}", **options) for n in range(6)),
                client.answer("no such", text="x", max_tokens=1),
                return_exceptions=True,
            )
    return fleet


@pytest.fixture(scope="module")
def journals(
    new_fleet_launcher: Any, eventually: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Of a fleet that has been taken down."""
    launcher = new_fleet_launcher(tmp_path_factory.mktemp("replay"))
    try:
        fleet = asyncio.run(eventful(launcher, eventually))
    finally:
        launcher.close()
    return fleet.path / "journal"


@pytest.fixture(scope="module")
def replayed(journals: Path) -> list[Replayed]:
    return list(replay_directory(journals, SPECS))


def test_every_core_s_journal_replays_without_a_difference(replayed: list[Replayed]) -> None:
    assert {result.core for result in replayed} == set(SPECS)
    assert [result.difference for result in replayed] == [None] * len(replayed)
    assert all(result.steps for result in replayed)


def test_each_life_of_a_killed_process_has_a_journal_of_its_own(replayed: list[Replayed]) -> None:
    lives = [result.core for result in replayed]

    assert {core: lives.count(core) for core in ("router", "prefill", "decode", "autoscaler")} == {
        "autoscaler": 2,
        "router": 2,
        "prefill": 2,
        "decode": 2,
    }


@dataclass
class Idle:
    """A core that never does anything."""

    state: Any

    def step(self, event: Any) -> list[Effect]:
        return []


def test_a_journal_replayed_by_other_logic_shows_the_first_difference(journals: Path) -> None:
    idle = CoreSpec(ROUTER.name, ROUTER.events, ROUTER.state, Idle)
    path = min(journals.rglob("router-*"))
    result = replay_segment(path, {ROUTER.name: idle})

    assert result.difference is not None
    assert result.difference.got == []
    assert result.difference.expected != []
    assert result.difference.sequence == result.steps


@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_run_replays_under_another_hash_seed(
    journals: Path, replayed: list[Replayed], seed: str
) -> None:
    command = [str(Path(sys.executable).parent / "argosy"), "replay", str(journals), "--json"]
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    report = json.loads(subprocess.check_output(command, env=environment))

    assert report["ok"]
    assert {row["segment"]: row["digest"] for row in report["segments"]} == {
        str(result.path.relative_to(journals)): f"{result.digests[-1]:016x}" for result in replayed
    }


@settings(max_examples=examples(40))
@given(share=st.floats(0, 1), which=st.integers(0))
def test_a_journal_cut_at_any_byte_replays_up_to_the_cut(
    replayed: list[Replayed], share: float, which: int
) -> None:
    whole = replayed[which % len(replayed)]
    content = whole.path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / whole.path.name
        path.write_bytes(content[: int(share * len(content))])
        result = replay_segment(path, SPECS)

    assert result.difference is None
    assert result.digests == whole.digests[: result.steps]
    assert share < 1 or result.steps == whole.steps
