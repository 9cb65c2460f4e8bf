"""What happens to decode. A `key` names one attempt at a request."""

from argosy.domain.core import Event, TimerFired
from argosy.domain.drain import DrainAborted, DrainEnded, DrainStarted


class TicketPresented(Event, frozen=True, kw_only=True, tag=True):
    """A caller presents a ticket. The shell has checked its signature."""

    key: str
    prefill_instance: str
    decode_instance: str
    expires_us: int
    ticket: str = ""
    """Names this one ticket: a caller may request again under the same request id."""
    brought: bool = False
    """Whether the prompt came with the ticket, to be prefilled here."""


class AnswerEnded(Event, frozen=True, kw_only=True, tag=True):
    """The answer is complete, failed or abandoned."""

    key: str


DecodeEvent = TicketPresented | AnswerEnded | DrainStarted | DrainAborted | DrainEnded | TimerFired
