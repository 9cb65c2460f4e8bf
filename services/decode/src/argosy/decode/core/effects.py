"""What decode's core asks its shell to do."""

from argosy.domain.core import Effect


class RefuseTicket(Effect, frozen=True, kw_only=True, tag=True):
    """Answer the caller with this error (a name of errors.Reason)."""

    key: str
    reason: str
    message: str


class PullAndAnswer(Effect, frozen=True, kw_only=True, tag=True):
    """Claim the KV from the ticket's prefill instance, then stream."""

    key: str


class ComputeAndAnswer(Effect, frozen=True, kw_only=True, tag=True):
    """Prefill the prompt that came with the ticket, then stream."""

    key: str


class EndAnswer(Effect, frozen=True, kw_only=True, tag=True):
    """End this answer here; its caller goes on elsewhere, from its last token."""

    key: str
