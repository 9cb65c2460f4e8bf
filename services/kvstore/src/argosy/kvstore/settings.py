"""Settings of the kvstore service."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from argosy.mesh.settings import ServiceSettings


class KvstoreSettings(ServiceSettings):
    """How much it may hold, where, and for how long."""

    dram_bytes: int = Field(1 << 30, ge=1 << 20, description="Memory for blocks; never more.")
    ssd_dir: Path | None = Field(
        None, description="Folder of the SSD tier, in which each store has one; unset: no SSD tier."
    )
    ssd_bytes: int = Field(0, ge=0, description="Room for blocks in `ssd_dir`; never more.")
    lease_s: float = Field(
        10,
        gt=0,
        description="How long blocks stay put for whoever reads or writes them; whoever "
        "takes longer, or died, loses them.",
    )
    heartbeat_s: float = Field(0.5, gt=0, description="Between reports of what it holds.")

    @model_validator(mode="after")
    def check_ssd(self) -> Self:
        """Both or neither."""
        if (self.ssd_dir is None) != (self.ssd_bytes == 0):
            raise ValueError("an SSD tier needs both ssd_dir and ssd_bytes")
        return self
