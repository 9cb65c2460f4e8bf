"""Settings of a node agent."""

from pathlib import Path

from pydantic import Field

from argosy.mesh.settings import ServiceSettings


class NodeAgentSettings(ServiceSettings):
    """What a node agent can be told."""

    memory_bytes: int = Field(
        0, ge=0, description="Memory it may promise to instances; 0: what the node has."
    )
    cores: str = Field("", description="Cores it may give out, e.g. `0,1`; unset: all.")
    devices: str = Field(
        "", pattern=r"^(\d+(,\d+)*)?$", description="Accelerators it may give out, e.g. `0,1`."
    )
    silent_bytes: int = Field(
        0, ge=0, description="Most memory that sleeping instances may hold; 0: what the node has."
    )
    silent_per_device: int = Field(
        8,
        ge=1,
        description="Most instances that may sleep on one device: each leaves something "
        "there, such as its CUDA context.",
    )
    boot_file: Path | None = Field(
        None, description="Processes to run besides decided instances (YAML), as `argosy up` does."
    )
    stop_grace_s: float = Field(40, gt=0, description="From SIGTERM to SIGKILL of a process.")
