"""The real thing, started once: one plain engine's answers, then a fleet of two engines."""

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from argosy.engine import text
from argosy.launcher.home import RunningFleet
from argosy.launcher.launch import LaunchPlan, down, plan, up

FLEET = Path("deploy/local/demo.yaml")
LENGTHS = (1, 2, 5, 31, 32, 33, 63, 64, 65, 100, 127, 160, 200, 256, 333, 500, 700, 1000, 2000)
NON_ASCII = "Häfen, naïve façades, 港口の灯台は夜に光る — Ω≈ç√∫ и старый маяк 🚢 " * 3
ANSWER_TOKENS = 12


@dataclass
class Real:
    """A vLLM fleet, and what a plain engine answered to the same prompts."""

    planned: LaunchPlan
    running: RunningFleet
    prompts: list[list[int]]
    plain: list[list[int]]


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    folder = tmp_path_factory.mktemp("vllm")
    planned = plan(with_store(folder), folder, 0, 0)
    tokenizer = text.load(planned.running.model_source)
    chance = random.Random(7)
    prompts = [chance.choices(range(1000, 40_000), k=length) for length in LENGTHS]
    prompts.append(tokenizer.encode(NON_ASCII))
    plain = plain_answers(planned, prompts, folder)
    running = asyncio.run(up(planned, lambda status, trouble: None, 600))
    yield Real(planned, running, prompts, plain)
    down(planned.home, running)


def with_store(folder: Path) -> Path:
    """The demo's fleet, with a KV store of two tiers."""
    spec = yaml.safe_load(FLEET.read_text())
    source = spec["spec"]["model"]["source"]
    spec["spec"]["model"]["source"] = str((FLEET.parent / source).resolve())
    spec["spec"]["kvStore"] = {"dram": "512Mi", "ssd": {"path": "kv", "size": "1Gi"}}
    file = folder / "fleet.yaml"
    file.write_text(yaml.safe_dump(spec))
    return file


def plain_answers(planned: LaunchPlan, prompts: list[list[int]], folder: Path) -> list[list[int]]:
    settings = {**planned.fleet.instance_settings(planned.base_dir), "cpu_cores": "0-1"}
    job = {"settings": settings, "prompts": prompts, "max_tokens": ANSWER_TOKENS}
    (folder / "in.json").write_text(json.dumps(job))
    script = Path(__file__).parent / "plain_engine.py"
    command = [sys.executable, str(script), str(folder / "in.json"), str(folder / "out.json")]
    subprocess.run(command, check=True, capture_output=True, timeout=1200)
    answers: list[list[int]] = json.loads((folder / "out.json").read_text())
    return answers
