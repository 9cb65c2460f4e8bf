"""An ArgosyError over gRPC: a status, with the reason in trailing metadata, and back again."""

import grpc

from argosy.domain.errors import ArgosyError, Reason

REASON_KEY = "argosy-reason"
INSTANCE_KEY = "argosy-instance"
RETRY_KEY = "retry-after-ms"
PARAM_KEY = "argosy-param"


def status_code(error: ArgosyError) -> grpc.StatusCode:
    """The gRPC status that the error's reason maps to."""
    return grpc.StatusCode[error.reason.value.grpc]


def trailers(error: ArgosyError) -> tuple[tuple[str, str], ...]:
    """Trailing metadata that carries what a gRPC status cannot."""
    pairs = [(REASON_KEY, error.reason.name)]
    if error.instance:
        pairs.append((INSTANCE_KEY, error.instance))
    if error.retry_after_ms:
        pairs.append((RETRY_KEY, str(error.retry_after_ms)))
    if error.param:
        pairs.append((PARAM_KEY, error.param))
    return tuple(pairs)


def from_rpc(error: grpc.aio.AioRpcError, instance: str = "") -> ArgosyError:
    """The ArgosyError a peer raised, or the nearest one for a bare gRPC status.

    A connection that broke says UNAVAILABLE with no reason: that is INSTANCE_LOST,
    and `instance` (whom we called) is at fault.
    """
    trailers = dict(error.trailing_metadata() or ())
    name = trailers.get(REASON_KEY, "")
    message = error.details() or error.code().name
    if name in Reason.__members__:
        retry_after_ms = int(trailers.get(RETRY_KEY, 0))
        at_fault = str(trailers.get(INSTANCE_KEY, "")) or instance
        return ArgosyError(
            Reason[name],
            message,
            retry_after_ms=retry_after_ms,
            instance=at_fault,
            param=str(trailers.get(PARAM_KEY, "")),
        )
    by_code = {
        grpc.StatusCode.UNAVAILABLE: Reason.INSTANCE_LOST,
        grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE,
        grpc.StatusCode.CANCELLED: Reason.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED: Reason.BODY_TOO_LARGE,
        grpc.StatusCode.INVALID_ARGUMENT: Reason.BAD_REQUEST,
    }
    reason = by_code.get(error.code(), Reason.INTERNAL)
    return ArgosyError(reason, message, instance=instance)
