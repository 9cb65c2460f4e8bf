"""What prefill's core asks its shell to do."""

from argosy.domain.core import Effect


class RefuseSubmission(Effect, frozen=True, kw_only=True, tag=True):
    """Answer the submission with this error; none of its prompts was taken."""

    reason: str
    message: str
    retry_after_ms: int


class StartCompute(Effect, frozen=True, kw_only=True, tag=True):
    """Give the prompt to the engine."""

    key: str


class CancelCompute(Effect, frozen=True, kw_only=True, tag=True):
    """Take the prompt back from the engine, and forget it."""

    key: str


class OfferKv(Effect, frozen=True, kw_only=True, tag=True):
    """Send the handle down the claimed handoff."""

    key: str


class RefuseHandoff(Effect, frozen=True, kw_only=True, tag=True):
    """End the handoff with this error."""

    key: str
    reason: str
    message: str


class ReleaseKv(Effect, frozen=True, kw_only=True, tag=True):
    """Let the engine free the KV, and forget the prompt."""

    key: str


class PredictIdle(Effect, frozen=True, kw_only=True, tag=True):
    """Publish when the queue will be empty."""

    idle_at_us: int
    queued_prefill_tokens: int
