"""Settings of an engine, whichever it is."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from argosy.domain import plugins

GROUP = "argosy.engines"
"""The entry-point group in which engines are found."""
WHAT = "engine"


class EngineSettings(BaseModel):
    """Settings of one engine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: str = Field("sim", description="An installed engine, such as `sim`, `vllm`.")
    model: str = Field("sim", description="Name clients ask for.")
    model_source: str = Field("sim", description="Folder of Hugging Face files, or `sim`.")
    block_tokens: int = Field(32, ge=1, description="Tokens per KV block (vLLM on CPU: 32s).")
    kv_bytes: int = Field(1 << 30, ge=1 << 20, description="Memory for KV blocks.")
    max_model_tokens: int = Field(
        0, ge=0, description="Longest prompt plus answer; 0: as the model says."
    )
    max_running: int = Field(16, ge=1, description="Most sequences in one engine step.")
    step_tokens: int = Field(
        0,
        ge=0,
        description="Most tokens in one engine step; 0: the engine's own choice. Short "
        "steps let cancellations and other prompts in sooner.",
    )
    advertise_host: str = Field("127.0.0.1", description="Host others reach this process at.")
    nixl_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of NIXL's metadata exchange (vLLM's side channel); 0: the instance takes "
        "a free one.",
    )
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = Field(
        "auto", description="Weights' and KV's type; float32 makes CPU answers repeatable."
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="What vLLM runs on.")
    cpu_cores: str = Field(
        "",
        pattern=r"^(\d+(-\d+)?(,\d+(-\d+)?)*)?$",
        description="Cores for the engine, e.g. `0` or `0-3`; unset: any. Engines that "
        "share cores slow each other down.",
    )
    gpu_memory_share: float = Field(
        0.9, gt=0, le=1, description="Share of a GPU's memory vLLM may take."
    )
    tensor_parallel: int = Field(1, ge=1, description="GPUs per engine.")
    kv_hold_s: float = Field(
        120, gt=0, description="How long computed KV waits for a decode that has claimed it."
    )
    kv_claim_s: float = Field(
        3, gt=0, description="How long computed KV, or a prompt, waits to be claimed at all."
    )
    sim_speed: float = Field(1, gt=0, description="Sim engine: how many times faster it runs.")
    timing_profile: str = Field(
        "",
        description="How long steps take, by name or a YAML file. Sim engine: what it runs "
        "by; unset: dynamo-mocker. vLLM: what `argosy profile fit` found, for the router to "
        "predict with; unset: it goes by a default.",
    )
    dp_ranks: int = Field(
        1, ge=1, description="Sim engine: data-parallel ranks, each with `kv_bytes` of its own."
    )
    kv_store: bool = Field(
        False, description="Save computed KV to the fleet's KV stores, and load it from there."
    )
    kv_staging_bytes: int = Field(
        512 << 20,
        ge=1 << 20,
        description="Memory through which KV goes to and from stores: half "
        "bounds what one prompt can load, half what waits to be saved.",
    )

    @field_validator("engine")
    @classmethod
    def check_engine(cls, name: str) -> str:
        """Refuse an engine that is not installed, with the list of those that are."""
        return plugins.checked(GROUP, name, WHAT)
