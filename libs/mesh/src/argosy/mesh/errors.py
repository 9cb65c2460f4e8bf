"""Every way a request can be refused or fail: one table, for gRPC and HTTP alike.

An ArgosyError says what happened, to what, and what to do next. It crosses gRPC as a
status with the reason in trailing metadata, and comes out as the same ArgosyError.
"""

from dataclasses import dataclass
from enum import Enum

import grpc

REASON_KEY = "argosy-reason"
INSTANCE_KEY = "argosy-instance"
RETRY_KEY = "retry-after-ms"


@dataclass(frozen=True)
class Mapped:
    """How a reason looks on the wire, and what it means to the caller."""

    grpc: grpc.StatusCode
    http: int
    openai_type: str
    meaning: str


# fmt: off
class Reason(Enum):
    """Why. The names are part of the API."""

    BAD_REQUEST = Mapped(grpc.StatusCode.INVALID_ARGUMENT, 400, "invalid_request_error",
        "A field is missing, malformed or out of range: the message says which.")
    PROMPT_TOO_LONG = Mapped(grpc.StatusCode.INVALID_ARGUMENT, 400, "invalid_request_error",
        "Prompt plus one token exceeds the model's context. Shorten it.")
    BODY_TOO_LARGE = Mapped(grpc.StatusCode.RESOURCE_EXHAUSTED, 413, "invalid_request_error",
        "The message exceeds the size limit, which the message names.")
    MODEL_NOT_FOUND = Mapped(grpc.StatusCode.NOT_FOUND, 404, "invalid_request_error",
        "No such model here; the message lists those there are.")
    TICKET_FORGED = Mapped(grpc.StatusCode.UNAUTHENTICATED, 401, "authentication_error",
        "The ticket's signature is not this fleet's. Ask the router for one.")
    TICKET_EXPIRED = Mapped(grpc.StatusCode.FAILED_PRECONDITION, 409, "invalid_request_error",
        "The ticket came too late. Ask the router for a new one.")
    TICKET_USED = Mapped(grpc.StatusCode.ALREADY_EXISTS, 409, "invalid_request_error",
        "The ticket has been used; each is good for one answer.")
    TICKET_MISDIRECTED = Mapped(grpc.StatusCode.FAILED_PRECONDITION, 409, "invalid_request_error",
        "The ticket names another decode instance.")
    OVERLOADED = Mapped(grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "rate_limit_error",
        "A queue is full. Retry after the time given.")
    NO_INSTANCE = Mapped(grpc.StatusCode.UNAVAILABLE, 503, "server_error",
        "No instance could take the request in time. Retry after the time given.")
    INSTANCE_LOST = Mapped(grpc.StatusCode.UNAVAILABLE, 503, "server_error",
        "An instance died with the request in hand. The router re-routes it by itself.")
    KV_LOST = Mapped(grpc.StatusCode.UNAVAILABLE, 503, "server_error",
        "The prompt's KV is gone (expired, or its transfer failed). The router re-routes.")
    DRAINING = Mapped(grpc.StatusCode.UNAVAILABLE, 503, "server_error",
        "The instance goes to sleep or shuts down. Retry: another answers, or it wakes.")
    NO_DECISION = Mapped(grpc.StatusCode.NOT_FOUND, 404, "invalid_request_error",
        "The autoscaler knows no such decision or plan; the message lists those there are.")
    PLAN_CONFLICT = Mapped(grpc.StatusCode.ALREADY_EXISTS, 409, "invalid_request_error",
        "An operational plan contradicts another, or the fleet file; the message names both.")
    NOT_READY = Mapped(grpc.StatusCode.UNAVAILABLE, 503, "server_error",
        "The service is starting; the message says what it waits for.")
    DEADLINE = Mapped(grpc.StatusCode.DEADLINE_EXCEEDED, 504, "timeout_error",
        "The caller's deadline passed first.")
    CANCELLED = Mapped(grpc.StatusCode.CANCELLED, 499, "cancelled",
        "The caller hung up.")
    DIVERGED = Mapped(grpc.StatusCode.ABORTED, 500, "server_error",
        "A structured answer could not be continued identically after a failure. Ask again.")
    FLEET_FILE = Mapped(grpc.StatusCode.INVALID_ARGUMENT, 400, "invalid_request_error",
        "The fleet file is wrong: the message gives line and remedy.")
    INTERNAL = Mapped(grpc.StatusCode.INTERNAL, 500, "server_error",
        "A defect in Argosy; the service's log has the trace.")

# fmt: on


RETRIABLE = frozenset({Reason.INSTANCE_LOST, Reason.KV_LOST, Reason.DRAINING, Reason.NOT_READY})
"""Reasons that fault an instance, not the request: another attempt may succeed."""


class ArgosyError(Exception):
    """A refusal or failure with its reason. `instance` names who is at fault, if known."""

    def __init__(
        self, reason: Reason, message: str, *, retry_after_ms: int = 0, instance: str = ""
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after_ms = retry_after_ms
        self.instance = instance

    def __repr__(self) -> str:
        return f"ArgosyError({self.reason.name}: {self.message})"

    def trailers(self) -> tuple[tuple[str, str], ...]:
        """Trailing metadata that carries what a gRPC status cannot."""
        pairs = [(REASON_KEY, self.reason.name)]
        if self.instance:
            pairs.append((INSTANCE_KEY, self.instance))
        if self.retry_after_ms:
            pairs.append((RETRY_KEY, str(self.retry_after_ms)))
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
        return ArgosyError(Reason[name], message, retry_after_ms=retry_after_ms, instance=at_fault)
    by_code = {
        grpc.StatusCode.UNAVAILABLE: Reason.INSTANCE_LOST,
        grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE,
        grpc.StatusCode.CANCELLED: Reason.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED: Reason.BODY_TOO_LARGE,
        grpc.StatusCode.INVALID_ARGUMENT: Reason.BAD_REQUEST,
    }
    reason = by_code.get(error.code(), Reason.INTERNAL)
    return ArgosyError(reason, message, instance=instance)
