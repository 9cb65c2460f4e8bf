"""The real thing, started once: one plain engine's answers, then a fleet of two engines."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
    # Side by side: an engine's start keeps one core busy, and there are two.
    with plain_engine(planned, prompts, folder) as plain_answers:
        running = asyncio.run(up(planned, lambda status, trouble: None, 600))
        try:
            yield Real(planned, running, prompts, plain_answers())
        finally:
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


@contextmanager
def plain_engine(
    planned: LaunchPlan, prompts: list[list[int]], folder: Path
) -> Iterator[Callable[[], list[list[int]]]]:
    """A plain engine that answers the prompts in a process of its own; the call waits for it."""
    settings = {**planned.fleet.instance_settings(planned.base_dir), "cpu_cores": "0-1"}
    job = {"settings": settings, "prompts": prompts, "max_tokens": ANSWER_TOKENS}
    (folder / "in.json").write_text(json.dumps(job))
    script = Path(__file__).parent / "plain_engine.py"
    command = [sys.executable, str(script), str(folder / "in.json"), str(folder / "out.json")]
    log = folder / "plain.log"

    def answers() -> list[list[int]]:
        assert process.wait(1200) == 0, log.read_text()
        found: list[list[int]] = json.loads((folder / "out.json").read_text())
        return found

    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True) as process,
    ):
        try:
            yield answers
        finally:
            # vLLM's own processes do not end with the one that started them.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
