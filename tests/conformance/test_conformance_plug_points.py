"""What is installed from outside is found by name, and serves like what Argosy brings."""

from collections.abc import Callable
from pathlib import Path

import pytest

from argosy.cli.replay.show import SPECS
from argosy.domain.errors import ArgosyError
from argosy.engine.build import build_engine
from argosy.engine.settings import EngineSettings
from argosy.fleet.file import parse_fleet
from argosy.kvstore.core import events
from argosy.kvstore.core.state import StoreLimits
from argosy.kvstore.core.store import StoreCore
from argosy.kvstore.policies import SPEC, new_state
from argosy.kvstore.settings import KvstoreSettings
from argosy.mesh.journal import JournalWriter
from argosy.mesh.replay import replay_directory

BLOCK_BYTES = 1 << 20

FLEET = """\
apiVersion: argosy.dev/v1alpha1
kind: FedDeployment
metadata: {name: outside}
spec:
  model: {name: sim, source: sim}
  engine: {kind: ENGINE}
  split:
    prefill: {replicas: 1}
    decode: {replicas: 1}
  kvStore: {eviction: POLICY}
"""


def fleet_file(engine: str, policy: str) -> str:
    return FLEET.replace("ENGINE", engine).replace("POLICY", policy)


def store_blocks(core: StoreCore, journal: JournalWriter, keys: list[bytes]) -> None:
    """Store blocks that do not continue each other."""
    blocks = [events.Offered(key, b"", number, 16) for number, key in enumerate(keys)]
    for event in (
        events.RoomRequested(now_us=1, lease=1, block_bytes=BLOCK_BYTES, blocks=blocks),
        events.BlocksWritten(now_us=2, lease=1, checksums=[1] * len(keys)),
    ):
        journal.append(event, core.step(event))
        journal.advance(core.state)


def test_an_eviction_policy_from_outside_decides_and_is_replayed(
    install_from_outside: Callable[[], None], tmp_path: Path
) -> None:
    install_from_outside()
    settings = KvstoreSettings(eviction_policy="newest_first", dram_bytes=4 * BLOCK_BYTES)
    state = new_state(StoreLimits(settings.dram_bytes), settings.eviction_policy)
    core = StoreCore(state)
    journal = JournalWriter(tmp_path / "journal" / "store", SPEC, state)
    first, second = ([bytes([n, m]) * 8 for m in range(4)] for n in (1, 2))
    store_blocks(core, journal, first)
    store_blocks(core, journal, second[:1])
    assert list(core.state.blocks) == [*first[:3], second[0]]
    journal.close()
    (replayed,) = replay_directory(tmp_path / "journal", SPECS)
    assert (replayed.steps, replayed.difference) == (4, None)


def test_an_engine_from_outside_is_built_by_its_name(
    install_from_outside: Callable[[], None],
) -> None:
    install_from_outside()
    engine = build_engine(EngineSettings(engine="echo"), "prefill")
    assert type(engine).__name__ == "EchoEngine"
    assert engine.role == "prefill"  # type: ignore[attr-defined]


def test_a_fleet_file_may_name_what_is_installed_from_outside(
    install_from_outside: Callable[[], None],
) -> None:
    install_from_outside()
    fleet = parse_fleet(fleet_file("echo", "newest_first"))
    settings = {pool.template.role: pool.template.settings for pool in fleet.pools(Path())}
    assert settings["kvstore"]["eviction_policy"] == "newest_first"
    assert settings["decode"]["engine"] == "echo"


def test_what_is_not_installed_is_refused_with_what_is() -> None:
    with pytest.raises(ValueError, match="no engine 'echo'; there are: sim, vllm"):
        EngineSettings(engine="echo")
    refusal = "no eviction policy 'newest_first'; there are: learned, lru, lru2, s3fifo"
    with pytest.raises(ValueError, match=refusal):
        KvstoreSettings(eviction_policy="newest_first")
    with pytest.raises(ValueError, match=refusal):
        new_state(StoreLimits(1 << 20), "newest_first")
    with pytest.raises(ArgosyError, match="write one of: sim, vllm"):
        parse_fleet(fleet_file("echo", "lru"))
    with pytest.raises(ArgosyError, match="write one of: learned, lru, lru2, s3fifo"):
        parse_fleet(fleet_file("sim", "newest_first"))
