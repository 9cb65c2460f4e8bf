"""Settings of the router."""

from pydantic import Field, field_validator

from argosy.domain import plugins
from argosy.mesh.settings import ServiceSettings
from argosy.router.core.state import RouterLimits
from argosy.router.policies import GROUP, WHAT

DEFAULTS = RouterLimits()
"""Those of the core, which the simulator takes too."""


class RouterSettings(ServiceSettings):
    """The settings of the router."""

    http_listen: str = Field("127.0.0.1:8000", description="OpenAI HTTP host:port.")
    model: str = Field("sim", description="The model this fleet serves.")
    model_source: str = Field("sim", description="Folder with its tokenizer, or `sim`.")
    block_tokens: int = Field(32, ge=1, description="Tokens per KV block, as the instances have.")
    tokenizer_processes: int = Field(1, ge=1, description="Processes that tokenize.")
    queue_limit: int = Field(
        DEFAULTS.queue_limit, ge=1, description="Most requests waiting for an instance."
    )
    queue_bytes_max: int = Field(
        DEFAULTS.queue_bytes_max,
        ge=1 << 20,
        description="Most memory of waiting prompts, at 40 bytes a token.",
    )
    queue_timeout_s: float = Field(
        DEFAULTS.wait_us / 1e6,
        gt=0,
        description="Longest wait for an instance, restarts of one included: a large "
        "model loads for minutes.",
    )
    request_timeout_s: float = Field(
        600, gt=0, description="Longest request when the caller sets no deadline."
    )
    attempts_max: int = Field(
        DEFAULTS.attempts_max,
        ge=1,
        description="Instances in a row that a request may fail at without a token.",
    )
    policy: str = Field(
        DEFAULTS.policy,
        description="How requests are placed: the name of a routing policy. The fleet file's "
        "`spec.routing.policy` sets it.",
    )
    tenant_queue_limit: int = Field(
        DEFAULTS.tenant_queue_limit,
        ge=0,
        description="Most requests of one tenant waiting; 0: only `queue_limit`.",
    )
    ttft_limit_s: float = Field(
        DEFAULTS.ttft_limit_us / 1e6,
        ge=0,
        description="Refuse a request on arrival when its first token is predicted to take "
        "longer; 0: only when it would miss its own deadline.",
    )
    index_blocks_max: int = Field(
        DEFAULTS.index_blocks_max,
        ge=1000,
        description="KV blocks the prefix index remembers, at about 100 bytes; "
        "beyond it, those not used for longest are forgotten.",
    )
    ticket_s: float = Field(30, gt=0, description="How long a ticket is good for.")
    stale_s: float = Field(
        DEFAULTS.stale_us / 1e6,
        gt=0,
        description="An instance that sends no report for this long is not used.",
    )
    body_bytes_max: int = Field(4 << 20, ge=1024, description="Largest HTTP body.")

    @field_validator("policy")
    @classmethod
    def known(cls, name: str) -> str:
        """Refuse a policy that does not exist, naming those that do."""
        return plugins.checked(GROUP, name, WHAT)
