"""What the router's core wants done."""

from argosy.mesh.core import Effect


class Dispatch(Effect, frozen=True, tag=True):
    """Send the request on its way. Equal instances: decode prefills by itself."""

    request_id: str
    attempt: int
    prefill: str
    prefill_address: str
    decode: str
    decode_address: str
    why: str


class Reject(Effect, frozen=True, tag=True):
    """Answer the caller with this error (a name of errors.Reason)."""

    request_id: str
    reason: str
    message: str
    retry_after_ms: int


class ForgetAddress(Effect, frozen=True, tag=True):
    """Nobody is at this address any more: close the connection."""

    address: str
