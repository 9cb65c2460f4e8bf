"""vLLM's arguments and environment, from our settings.

CPU: the worker runs inside the engine core (one process less), eagerly, without
torch.compile, pinned to its own cores. CUDA: vLLM's defaults.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argosy.domain.cpu_list import parse_cores
from argosy.engine.settings import EngineSettings
from argosy.engine.vllm import names

if TYPE_CHECKING:
    from vllm.engine.arg_utils import AsyncEngineArgs

LEASE_MARGIN_S = 30
NIXL_POLL_US = 1000
LOGPROBS_MAX = 20


def environment(settings: EngineSettings) -> dict[str, str]:
    """What must be in the environment before vLLM is imported."""
    common = {
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
        "VLLM_NIXL_SIDE_CHANNEL_HOST": settings.advertise_host,
        "VLLM_NIXL_SIDE_CHANNEL_PORT": str(settings.nixl_port),
    }
    if settings.device == "cuda":
        return common
    cores = parse_cores(settings.cpu_cores)
    threads = {"OMP_NUM_THREADS": str(len(cores))} if cores else {}
    # On one machine nothing has to listen where others could reach it.
    devices = {"UCX_NET_DEVICES": "lo"} if settings.advertise_host == "127.0.0.1" else {}
    return {
        **common,
        **threads,
        **devices,
        "UCX_TLS": os.environ.get("UCX_TLS", "tcp,sm,self"),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "TORCH_COMPILE_DISABLE": "1",
        names.POLL_US_VARIABLE: str(NIXL_POLL_US),
    }


def engine_args(
    settings: EngineSettings, role: str, events_endpoint: str, store: dict[str, Any] | None = None
) -> "AsyncEngineArgs":
    """role: kv_producer, kv_consumer, or empty for an engine that hands no KV over.
    store: settings of the store connector, if there is a store.
    """
    from vllm.config import KVEventsConfig, KVTransferConfig
    from vllm.engine.arg_utils import AsyncEngineArgs

    cpu = settings.device == "cpu"
    arguments = {
        "model": settings.model_source,
        "dtype": settings.dtype,
        "block_size": settings.block_tokens,
        "max_num_seqs": settings.max_running,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        # Told to our listener, not logged: what each step computed.
        "enable_logging_iteration_details": True,
        "use_tqdm_on_load": False,
        "max_logprobs": LOGPROBS_MAX,
        "worker_extension_cls": f"{names.MODULE}.WorkerExtension",
        "kv_events_config": KVEventsConfig(
            enable_kv_cache_events=True, publisher="zmq", endpoint=events_endpoint
        ),
    }
    if settings.step_tokens:
        arguments["max_num_batched_tokens"] = settings.step_tokens
    if settings.max_model_tokens:
        arguments["max_model_len"] = settings.max_model_tokens
    if cpu:
        arguments |= {
            "enforce_eager": True,
            "distributed_executor_backend": "uni",
            "kv_cache_memory_bytes": settings.kv_bytes,
        }
    else:
        arguments |= {
            "gpu_memory_utilization": settings.gpu_memory_share,
            "tensor_parallel_size": settings.tensor_parallel,
            "enable_sleep_mode": True,
        }
    if connectors := [*handoff(settings, role), *store_connector(store)]:
        arguments["kv_transfer_config"] = KVTransferConfig(
            **(connectors[0] if len(connectors) == 1 else joined(connectors)),
            kv_load_failure_policy="fail",
        )
    return AsyncEngineArgs(**arguments)


def handoff(settings: EngineSettings, role: str) -> list[dict[str, Any]]:
    """The connector between prefill and decode."""
    lease_s = round(settings.kv_claim_s + settings.kv_hold_s + LEASE_MARGIN_S)
    connector = {
        "kv_connector": "ArgosyNixlConnector",
        "kv_connector_module_path": names.MODULE,
        "kv_role": role,
        "kv_buffer_device": settings.device,
        "kv_connector_extra_config": {"kv_lease_duration": lease_s},
    }
    return [connector] if role else []


def store_connector(store: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The connector to the staging memory."""
    connector = {
        "kv_connector": "ArgosyStoreConnector",
        "kv_connector_module_path": names.STORE_MODULE,
        "kv_role": "kv_both",
        "kv_connector_extra_config": {names.STORE_SETTINGS: store},
    }
    return [connector] if store is not None else []


def joined(connectors: list[dict[str, Any]]) -> dict[str, Any]:
    """Several connectors as one."""
    return {
        "kv_connector": "MultiConnector",
        "kv_role": connectors[0]["kv_role"],
        "kv_buffer_device": connectors[0]["kv_buffer_device"],
        "kv_connector_extra_config": {"connectors": connectors},
    }


def missing_files(source: str) -> list[str]:
    """Model files vLLM will want and not find."""
    folder = Path(source)
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).exists()]
    if not list(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    return missing
