"""Settings of the router."""

from pydantic import Field

from argosy.mesh.settings import ServiceSettings


class RouterSettings(ServiceSettings):
    """What the router can be told."""

    http_listen: str = Field("127.0.0.1:8000", description="OpenAI HTTP host:port.")
    model: str = Field("sim", description="The model this fleet serves.")
    model_source: str = Field("sim", description="Folder with its tokenizer, or `sim`.")
    block_tokens: int = Field(32, ge=1, description="Tokens per KV block, as the instances have.")
    tokenizer_processes: int = Field(1, ge=1, description="Processes that tokenize.")
    queue_limit: int = Field(1024, ge=1, description="Most requests waiting for an instance.")
    queue_timeout_s: float = Field(
        60, gt=0, description="Longest wait for an instance, restarts of one included."
    )
    request_timeout_s: float = Field(
        600, gt=0, description="Longest request when the caller sets no deadline."
    )
    attempts_max: int = Field(5, ge=1, description="Instances a request may fail at.")
    disaggregate_min_tokens: int = Field(
        64, ge=1, description="Shorter prompts are prefilled by decode itself."
    )
    ticket_s: float = Field(30, gt=0, description="How long a ticket is good for.")
    stale_s: float = Field(3, gt=0, description="An instance this long silent is not used.")
    body_bytes_max: int = Field(4 << 20, ge=1024, description="Largest HTTP body.")
