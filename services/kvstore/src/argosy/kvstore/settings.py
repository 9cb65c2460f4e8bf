"""Settings of the kvstore service."""

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from argosy.kvstore.core.state import DEFAULT_POLICY
from argosy.kvstore.policies import check_policy
from argosy.mesh.settings import ServiceSettings


class KvstoreSettings(ServiceSettings):
    """How much a store may hold, where, and for how long."""

    dram_bytes: int = Field(1 << 30, ge=1 << 20, description="Memory for blocks; never exceeded.")
    ssd_dir: Path | None = Field(
        None,
        description="Folder of the SSD tier; each store has its own in it. Unset: no SSD tier.",
    )
    ssd_bytes: int = Field(0, ge=0, description="Room for blocks in `ssd_dir`; never exceeded.")
    eviction_policy: str = Field(
        DEFAULT_POLICY,
        description="Which blocks go first when a tier is full: an installed policy, such as "
        "`learned`, `lru`, `lru2`, `s3fifo`.",
    )
    lease_s: float = Field(
        10,
        gt=0,
        description="How long a reader's or a writer's blocks stay in their place. One that "
        "takes longer, or has died, loses its lease.",
    )
    heartbeat_s: float = Field(
        0.5, gt=0, description="How often the store reports what its tiers hold."
    )

    @field_validator("eviction_policy")
    @classmethod
    def check_eviction_policy(cls, name: str) -> str:
        """Refuse a policy that is not installed, with the list of those that are."""
        return check_policy(name)

    @model_validator(mode="after")
    def check_ssd(self) -> Self:
        """Refuse a folder without a size, and a size without a folder."""
        if (self.ssd_dir is None) != (self.ssd_bytes == 0):
            raise ValueError("an SSD tier needs both ssd_dir and ssd_bytes")
        return self
