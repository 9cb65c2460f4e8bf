"""Signed tickets: the router's permission to stream one answer from one instance."""

import hashlib
import hmac

from google.protobuf.message import DecodeError

from argosy.domain.errors import ArgosyError, Reason
from argosy.wire.inference.v1 import inference_pb2


def sign(ticket: inference_pb2.Ticket, secret: bytes) -> inference_pb2.SignedTicket:
    """Serialise and sign with HMAC-SHA256."""
    payload = ticket.SerializeToString(deterministic=True)
    return inference_pb2.SignedTicket(ticket=payload, signature=_signature(payload, secret))


def verify(signed: inference_pb2.SignedTicket, secret: bytes) -> inference_pb2.Ticket:
    """The ticket inside. Raises TICKET_FORGED unless this fleet signed these bytes."""
    if not hmac.compare_digest(signed.signature, _signature(signed.ticket, secret)):
        raise ArgosyError(
            Reason.TICKET_FORGED,
            "the ticket was not signed with this fleet's secret; ask this fleet's router for one",
        )
    try:
        return inference_pb2.Ticket.FromString(signed.ticket)
    except DecodeError as error:
        raise ArgosyError(Reason.TICKET_FORGED, f"the ticket is not one: {error}") from error


def _signature(payload: bytes, secret: bytes) -> bytes:
    return hmac.new(secret, payload, hashlib.sha256).digest()
