"""Settings of the router."""

from pydantic import Field, field_validator

from argosy.mesh.settings import ServiceSettings
from argosy.router.core.placement.policies import POLICIES


class RouterSettings(ServiceSettings):
    """What the router can be told."""

    http_listen: str = Field("127.0.0.1:8000", description="OpenAI HTTP host:port.")
    model: str = Field("sim", description="The model this fleet serves.")
    model_source: str = Field("sim", description="Folder with its tokenizer, or `sim`.")
    block_tokens: int = Field(32, ge=1, description="Tokens per KV block, as the instances have.")
    tokenizer_processes: int = Field(1, ge=1, description="Processes that tokenize.")
    queue_limit: int = Field(1024, ge=1, description="Most requests waiting for an instance.")
    queue_bytes_max: int = Field(
        1 << 28, ge=1 << 20, description="Most memory of waiting prompts, at 40 bytes a token."
    )
    queue_timeout_s: float = Field(
        300,
        gt=0,
        description="Longest wait for an instance, restarts of one included: a large "
        "model loads for minutes.",
    )
    request_timeout_s: float = Field(
        600, gt=0, description="Longest request when the caller sets no deadline."
    )
    attempts_max: int = Field(
        5, ge=1, description="Instances in a row that a request may fail at without a token."
    )
    policy: str = Field(
        "argosy", description="How requests are placed: a row of the policies' table."
    )
    tenant_queue_limit: int = Field(
        0, ge=0, description="Most requests of one tenant waiting; 0: only `queue_limit`."
    )
    ttft_limit_s: float = Field(
        0,
        ge=0,
        description="Refuse at the door what is predicted to wait longer for its first "
        "token; 0: only what would miss its own deadline.",
    )
    itl_target_ms: float = Field(
        50, gt=0, description="Time per token that decode batches are kept under if they can be."
    )
    index_blocks_max: int = Field(
        4_000_000,
        ge=1000,
        description="KV blocks the prefix index remembers, at about 100 bytes; "
        "beyond it, those not used for longest are forgotten.",
    )
    ticket_s: float = Field(30, gt=0, description="How long a ticket is good for.")
    stale_s: float = Field(3, gt=0, description="An instance this long silent is not used.")
    body_bytes_max: int = Field(4 << 20, ge=1024, description="Largest HTTP body.")

    @field_validator("policy")
    @classmethod
    def known(cls, name: str) -> str:
        """Refuse a policy that does not exist, naming those that do."""
        if name not in POLICIES:
            raise ValueError(f"no policy '{name}'; there are: {', '.join(POLICIES)}")
        return name
