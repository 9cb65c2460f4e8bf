"""Settings of an instance (prefill or decode), beside those of every service and engine."""

from pydantic import Field

from argosy.engine.settings import EngineSettings
from argosy.mesh.settings import ServiceSettings


class InstanceSettings(EngineSettings, ServiceSettings):
    """Settings of a service that runs one engine."""

    queue_limit: int = Field(
        1024, ge=1, description="Most prompts held; beyond it Submit is refused."
    )
    rack: str = Field("", description="Where the node stands; near instances are preferred.")
    heartbeat_s: float = Field(0.5, gt=0, description="Longest silence between load facts.")
