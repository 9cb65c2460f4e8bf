"""What vLLM will be told, decided without importing it."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from argosy.engine.settings import EngineSettings
from argosy.engine.vllm import config


@pytest.mark.parametrize("text", ["", "0", "0-3", "0,2-3"])
def test_cores_are_numbers_and_ranges(text: str) -> None:
    assert EngineSettings(cpu_cores=text).cpu_cores == text


@pytest.mark.parametrize("text", ["all", "0-", "-1", "1,,2", "0 1"])
def test_cores_that_are_neither_stop_start_up(text: str) -> None:
    with pytest.raises(ValidationError, match="cpu_cores"):
        EngineSettings(cpu_cores=text)


def test_on_cpu_the_engine_has_a_thread_for_each_of_its_cores() -> None:
    assert config.environment(EngineSettings(cpu_cores="0,2"))["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in config.environment(EngineSettings())


def test_kv_moves_over_the_address_others_reach_us_at() -> None:
    settings = EngineSettings(advertise_host="10.0.0.7", nixl_port=4711)
    environment = config.environment(settings)
    assert environment["VLLM_NIXL_SIDE_CHANNEL_HOST"] == "10.0.0.7"
    assert environment["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "4711"


def test_on_one_machine_only_loopback_is_used_and_across_machines_not() -> None:
    assert config.environment(EngineSettings())["UCX_NET_DEVICES"] == "lo"
    elsewhere = EngineSettings(advertise_host="10.0.0.7")
    assert "UCX_NET_DEVICES" not in config.environment(elsewhere)


def test_a_transport_that_is_chosen_already_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UCX_TLS", "rc,sm")
    assert config.environment(EngineSettings())["UCX_TLS"] == "rc,sm"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_vllm_reports_nothing_to_anyone_and_fetches_nothing(device: str) -> None:
    environment = config.environment(EngineSettings(device=device))
    assert environment["VLLM_NO_USAGE_STATS"] == environment["HF_HUB_OFFLINE"] == "1"


def test_on_cuda_vllms_own_defaults_hold() -> None:
    environment = config.environment(EngineSettings(device="cuda", cpu_cores="0"))
    cpu_only = {"VLLM_ENABLE_V1_MULTIPROCESSING", "TORCH_COMPILE_DISABLE", "OMP_NUM_THREADS"}
    assert not cpu_only & set(environment)


def test_missing_model_files_are_listed_and_a_whole_model_misses_none(tmp_path: Path) -> None:
    assert config.missing_files(str(tmp_path / "nowhere")) == [
        "config.json",
        "tokenizer.json",
        "*.safetensors",
    ]
    for name in ("config.json", "tokenizer.json", "model-00001-of-00002.safetensors"):
        (tmp_path / name).touch()
    assert config.missing_files(str(tmp_path)) == []


def test_neither_the_sim_engine_nor_vllms_settings_import_vllm_or_torch() -> None:
    script = (
        "import sys, argosy.engine.sim.engine, argosy.instance.instance\n"
        "import argosy.engine.vllm.config\n"
        "sys.exit(', '.join({'vllm', 'torch', 'nixl'} & set(sys.modules)) or 0)"
    )
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
