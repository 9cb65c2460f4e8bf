"""The effects of the router's core."""

import msgspec

from argosy.domain.core import Effect


class Dispatch(Effect, frozen=True, kw_only=True, tag=True):
    """Send the request on its way. Equal instances: decode prefills by itself.

    Dispatches of one step that name the same `prefill` are one batch: one submission.
    """

    request_id: str
    attempt: int
    prefill: str
    prefill_address: str
    decode: str
    decode_address: str
    why: str
    prefill_rank: int = 0
    decode_rank: int = 0
    uncached_tokens: int = 0
    """Prompt tokens to compute where it is prefilled, by the prefix index."""


class Reject(Effect, frozen=True, kw_only=True, tag=True):
    """Answer the caller with this error (a name of errors.Reason)."""

    request_id: str
    reason: str
    message: str
    retry_after_ms: int


class ForgetAddress(Effect, frozen=True, kw_only=True, tag=True):
    """No instance is at this address any more: close the connection."""

    address: str


class AskKvSnapshot(Effect, frozen=True, kw_only=True, tag=True):
    """Ask the instance which KV blocks it holds; ends in KvSnapshotTaken or -Failed."""

    instance: str
    epoch: str
    address: str
    role: str


class PublishDemand(Effect, frozen=True, kw_only=True, tag=True):
    """Publish that requests wait for a model of which no instance is awake."""

    model: str
    queued_requests: int
    queued_tokens: int
    oldest_us: int
    """Arrival of the longest waiting request."""


class TellPeerRouters(Effect, frozen=True, kw_only=True, tag=True):
    """Publish this dispatch for the other routers, or (`ended`) its end."""

    request_id: str
    ended: bool = False
    prefill: str = ""
    prefill_rank: int = 0
    decode: str = ""
    decode_rank: int = 0
    prompt_tokens: int = 0
    uncached_tokens: int = 0
    tenant: str = ""
    blocks: list[int] = msgspec.field(default_factory=list)
