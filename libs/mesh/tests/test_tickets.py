"""Tickets: what this fleet signed, bit for bit, and nothing else."""

import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh import tickets
from argosy.wire.inference.v1.inference_pb2 import SignedTicket, Ticket

SECRET = b"a secret"
TICKET = Ticket(
    request_id="r-1",
    attempt=2,
    model="sim",
    prefill_instance="prefill-0",
    decode_instance="decode-0",
    blocks_digest=2**63,
    max_tokens=9,
    expires_ms=10**12,
)


def refuse(signed: SignedTicket, secret: bytes = SECRET) -> ArgosyError:
    with pytest.raises(ArgosyError) as refused:
        tickets.verify(signed, secret)
    return refused.value


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_ticket_comes_back_as_it_was_signed() -> None:
    assert tickets.verify(tickets.sign(TICKET, SECRET), SECRET) == TICKET


def test_a_flipped_bit_anywhere_makes_a_forgery() -> None:
    signed = tickets.sign(TICKET, SECRET)
    for bit in range(8 * len(signed.ticket)):
        forged = SignedTicket(ticket=flipped(signed.ticket, bit), signature=signed.signature)
        assert refuse(forged).reason is Reason.TICKET_FORGED, bit
    for bit in range(8 * len(signed.signature)):
        forged = SignedTicket(ticket=signed.ticket, signature=flipped(signed.signature, bit))
        assert refuse(forged).reason is Reason.TICKET_FORGED, bit


@pytest.mark.parametrize("length", [0, 1, 16, 31])
def test_a_shortened_signature_makes_a_forgery(length: int) -> None:
    signed = tickets.sign(TICKET, SECRET)
    forged = SignedTicket(ticket=signed.ticket, signature=signed.signature[:length])
    assert refuse(forged).reason is Reason.TICKET_FORGED


def test_another_fleets_ticket_is_a_forgery() -> None:
    assert refuse(tickets.sign(TICKET, b"theirs")).reason is Reason.TICKET_FORGED


def test_signed_bytes_that_are_no_ticket_are_refused() -> None:
    signature = tickets._signature(b"\xff", SECRET)
    assert refuse(SignedTicket(ticket=b"\xff", signature=signature)).reason is Reason.TICKET_FORGED
