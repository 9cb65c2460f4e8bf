"""Every way a request can be refused or fail: one table, for gRPC and HTTP alike.

An ArgosyError says what happened, to what, and what to do next. `argosy.mesh.rpc_errors` carries it
over gRPC and back.
"""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class ReasonDetails:
    """The gRPC and HTTP codes of a reason, and what it means to the caller."""

    grpc: str
    """Name of the gRPC status code."""
    http: int
    openai_type: str
    meaning: str
    openai_code: str = ""
    """The code that OpenAI has for it; empty: none."""


# fmt: off
class Reason(Enum):
    """Why a request was refused or failed. The names are part of the API."""

    BAD_REQUEST = ReasonDetails("INVALID_ARGUMENT", 400, "invalid_request_error",
        "A field is missing, malformed or out of range: the message says which.")
    PROMPT_TOO_LONG = ReasonDetails("INVALID_ARGUMENT", 400, "invalid_request_error",
        "Prompt plus one token exceeds the model's context. Shorten it.",
        "context_length_exceeded")
    BODY_TOO_LARGE = ReasonDetails("RESOURCE_EXHAUSTED", 413, "invalid_request_error",
        "The message exceeds the size limit, which the message names.")
    MODEL_NOT_FOUND = ReasonDetails("NOT_FOUND", 404, "invalid_request_error",
        "No such model here; the message lists those there are.", "model_not_found")
    TICKET_FORGED = ReasonDetails("UNAUTHENTICATED", 401, "authentication_error",
        "The ticket's signature is not this fleet's. Ask the router for one.")
    TICKET_EXPIRED = ReasonDetails("FAILED_PRECONDITION", 409, "invalid_request_error",
        "The ticket came too late. Ask the router for a new one.")
    TICKET_USED = ReasonDetails("ALREADY_EXISTS", 409, "invalid_request_error",
        "The ticket has been used; each is good for one answer.")
    TICKET_MISDIRECTED = ReasonDetails("FAILED_PRECONDITION", 409, "invalid_request_error",
        "The ticket names another decode instance.")
    OVERLOADED = ReasonDetails("RESOURCE_EXHAUSTED", 429, "rate_limit_error",
        "A queue is full. Retry after the time given.", "rate_limit_exceeded")
    NO_INSTANCE = ReasonDetails("UNAVAILABLE", 503, "server_error",
        "No instance could take the request in time. Retry after the time given.")
    INSTANCE_LOST = ReasonDetails("UNAVAILABLE", 503, "server_error",
        "An instance died with the request in hand. The router re-routes it by itself.")
    KV_LOST = ReasonDetails("UNAVAILABLE", 503, "server_error",
        "The prompt's KV is gone (expired, or its transfer failed). The router re-routes.")
    DRAINING = ReasonDetails("UNAVAILABLE", 503, "server_error",
        "The instance goes to sleep or shuts down. Retry: another answers, or it wakes.")
    NO_DECISION = ReasonDetails("NOT_FOUND", 404, "invalid_request_error",
        "The autoscaler knows no such decision or plan; the message lists those there are.")
    PLAN_CONFLICT = ReasonDetails("ALREADY_EXISTS", 409, "invalid_request_error",
        "An operational plan contradicts another, or the fleet file; the message names both.")
    NOT_READY = ReasonDetails("UNAVAILABLE", 503, "server_error",
        "The service is starting; the message says what it waits for.")
    DEADLINE = ReasonDetails("DEADLINE_EXCEEDED", 504, "timeout_error",
        "The caller's deadline passed first.")
    CANCELLED = ReasonDetails("CANCELLED", 499, "cancelled",
        "The caller hung up.")
    DIVERGED = ReasonDetails("ABORTED", 500, "server_error",
        "A structured answer could not be continued identically after a failure. Ask again.")
    FLEET_FILE = ReasonDetails("INVALID_ARGUMENT", 400, "invalid_request_error",
        "The fleet file is wrong: the message gives line and remedy.")
    INTERNAL = ReasonDetails("INTERNAL", 500, "server_error",
        "A defect in Argosy; the service's log has the trace.")

# fmt: on


RETRIABLE = frozenset({Reason.INSTANCE_LOST, Reason.KV_LOST, Reason.DRAINING, Reason.NOT_READY})
"""Reasons that fault an instance, not the request: another attempt may succeed."""
INSTANCE_LIMITS = frozenset({Reason.OVERLOADED, Reason.TICKET_EXPIRED})
"""Reasons that are an instance's own limits when an instance gives them: it is well, and another
one, or the same a moment later, may take the request. From the router they are the caller's."""
NO_FAILURES = INSTANCE_LIMITS | {Reason.DRAINING}
"""What an instance that is well refuses with: it does not count against a request's attempts."""


class ArgosyError(Exception):
    """A refusal or failure with its reason.

    instance: who is at fault, if known. param: the field of the request that is, if it is one.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        retry_after_ms: int = 0,
        instance: str = "",
        param: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after_ms = retry_after_ms
        self.instance = instance
        self.param = param

    @property
    def may_succeed_elsewhere(self) -> bool:
        """Whether another attempt may succeed where this one failed."""
        is_limit = bool(self.instance) and self.reason in INSTANCE_LIMITS
        return self.reason in RETRIABLE or is_limit

    def __repr__(self) -> str:
        return f"ArgosyError({self.reason.name}: {self.message})"
