"""What happens to the router."""

from argosy.mesh.core import Event, TimerFired


class RequestArrived(Event, frozen=True, tag=True):
    """A caller wants an answer. `attempt` > 0: a direct client's re-route."""

    request_id: str
    model: str
    prompt_tokens: int
    max_tokens: int
    deadline_us: int
    attempt: int = 0
    direct: bool = False
    """The caller streams from decode itself: we shall not see the end."""
    failed_instance: str = ""
    failed_address: str = ""


class RequestEnded(Event, frozen=True, tag=True):
    """The answer is complete, or nobody wants it any more."""

    request_id: str


class AttemptFailed(Event, frozen=True, tag=True):
    """An instance failed a request that can be tried again."""

    request_id: str
    attempt: int
    reason: str
    """A name of errors.Reason."""
    message: str
    instance: str
    """At fault."""
    prompt_tokens: int
    """Of the next attempt: the prompt and what has been produced."""


class InstanceJoined(Event, frozen=True, tag=True):
    """An instance takes requests."""

    instance: str
    epoch: str
    role: str
    address: str
    node: str
    model: str
    kv_total_blocks: int
    block_tokens: int
    max_model_tokens: int
    max_running_requests: int
    announced_us: int = 0
    """When it said so; the control log tells of the past too. 0: just now."""


class InstanceLeft(Event, frozen=True, tag=True):
    """An instance drains, stopped or exited. An empty epoch means any."""

    instance: str
    epoch: str
    reason: str


class LoadReported(Event, frozen=True, tag=True):
    """An instance says what it has to do."""

    instance: str
    epoch: str
    running_requests: int
    waiting_requests: int
    queued_prefill_tokens: int
    kv_used_blocks: int
    at_us: int
    kv_held_blocks: int = 0


class IdlePredicted(Event, frozen=True, tag=True):
    """A prefill instance says when it will run out of work."""

    instance: str
    epoch: str
    idle_at_us: int


class BusChanged(Event, frozen=True, tag=True):
    """The bus was lost or came back: silence means nothing while it is away."""

    connected: bool


RouterEvent = (
    RequestArrived | RequestEnded | AttemptFailed | InstanceJoined | InstanceLeft
    | LoadReported | IdlePredicted | BusChanged | TimerFired
)  # fmt: skip
