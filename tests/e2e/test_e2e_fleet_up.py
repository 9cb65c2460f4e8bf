"""A fleet that cannot come up says why, and leaves nothing running."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from argosy.launcher.home import FleetHome
from argosy.launcher.launch import UpError, plan, up

GOOD = """\
apiVersion: argosy.dev/v1alpha1
kind: FedDeployment
metadata: {name: doomed}
spec:
  model: {name: sim, source: sim}
  engine: {kind: sim}
  split:
    prefill: {replicas: 1, resources: {cpu: 0, memory: 256Mi}}
    decode:  {replicas: 1, resources: {cpu: 0, memory: 256Mi}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "fleet.yaml"


def refusal(file: Path, text: str, *, grpc_port: int = 0, http_port: int = 0) -> str:
    """Why a fleet file is not even tried."""
    file.write_text(text)
    with pytest.raises(UpError) as caught:
        plan(file, file.parent / "home", grpc_port, http_port)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("decode:  {replicas: 1", "decode:  {replica: 1", 9, "write replicas"),
        ("engine: {kind: sim}", "engine: {kind: simm}", 6, "engine.kind"),
        ("256Mi}}\n    decode", "lots}}\n    decode", 8, "512Mi"),
        ("decode:  {replicas: 1", "decode:  {replicas: 0", 9, "at least 1"),
        ("apiVersion: argosy.dev/v1alpha1\n", "", 1, "apiVersion"),
        ("metadata: {name: doomed}", "metadata: {name: 'Not A Name'}", 3, "name"),
        ("kind: sim}", "kind: sim", 7, "not YAML"),
        ("kind: sim}", "kind: vllm}", 5, "model.source is sim"),
    ],
    ids=[
        "unknown field",
        "unknown engine",
        "size",
        "no decode",
        "no version",
        "name",
        "yaml",
        "contradiction",
    ],
)
def test_a_wrong_fleet_file_is_refused_with_its_line_and_what_to_write(
    file: Path, old: str, new: str, line: int, says: str
) -> None:
    assert old in GOOD
    said = refusal(file, GOOD.replace(old, new, 1))

    assert f"fleet.yaml:{line}: " in said
    assert says in said


def test_an_empty_fleet_file_is_refused_with_how_one_begins(file: Path) -> None:
    assert "begins with `apiVersion:" in refusal(file, "")


def test_a_fleet_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(UpError, match=r"cannot read fleet file .*no-such"):
        plan(file.with_name("no-such.yaml"), file.parent, 0, 0)


@pytest.mark.parametrize("option", ["grpc_port", "http_port"])
def test_a_port_in_use_is_named_before_anything_starts(file: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(file, GOOD, **{option: port})

    assert f"port {port} is in use" in said
    assert f"--{option.replace('_', '-')}" in said


def test_missing_model_files_are_named_before_anything_starts(file: Path) -> None:
    model = GOOD.replace("source: sim", "source: ./no-model").replace("kind: sim", "kind: vllm")
    said = refusal(file, model)

    assert "config.json, tokenizer.json, tokenizer_config.json missing in" in said
    assert "argosy model fetch sim" in said


def test_missing_weights_are_named_before_anything_starts(file: Path) -> None:
    folder = file.parent / "no-model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).touch()
    model = GOOD.replace("source: sim", "source: ./no-model").replace("kind: sim", "kind: vllm")

    assert "*.safetensors missing" in refusal(file, model)


def test_a_fleet_that_is_up_is_not_started_twice(fleet: Any) -> None:
    name, home = fleet.running.fleet, fleet.path.parent
    with pytest.raises(UpError, match=f"fleet {name} is up already"):
        plan(home / f"{name}.yaml", home, 0, 0)


async def test_too_little_memory_fails_with_the_sum_and_leaves_nothing(file: Path) -> None:
    file.write_text(GOOD.replace("256Mi}}\n    decode", "999Ti}}\n    decode"))
    home = file.parent / "home"
    planned = plan(file, home, 0, 0)
    with pytest.raises(UpError) as caught:
        await up(planned, lambda status, waiting: None, 60)

    assert "prefill-0 needs 1022976.0 GiB; of this node's" in str(caught.value)
    assert "Lower resources.memory" in str(caught.value)
    assert FleetHome(home, "doomed").processes() == []


async def test_an_up_that_is_broken_off_leaves_nothing(file: Path, eventually: Any) -> None:
    file.write_text(GOOD.replace("kind: sim}", "kind: sim, simSpeed: 0.01}"))
    home = FleetHome(file.parent / "home", "doomed")
    planned = plan(file, file.parent / "home", 0, 0)
    going_up = asyncio.create_task(up(planned, lambda status, waiting: None, 60))
    await eventually(lambda: len(home.processes()) >= 5)
    going_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going_up

    assert home.processes() == []


async def test_instances_too_slow_to_load_fail_the_up_and_leave_nothing(file: Path) -> None:
    file.write_text(GOOD.replace("kind: sim}", "kind: sim, simSpeed: 0.01}"))
    planned = plan(file, file.parent / "home", 0, 0)
    with pytest.raises(UpError, match="not ready within 2 s"):
        await up(planned, lambda status, waiting: None, 2)

    assert FleetHome(file.parent / "home", "doomed").processes() == []
