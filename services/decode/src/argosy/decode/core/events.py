"""What happens to decode. A `key` names one attempt at a request."""

from argosy.domain.core import Event, TimerFired
from argosy.domain.drain import DrainAborted, DrainEnded, DrainStarted


class TicketPresented(Event, frozen=True, kw_only=True, tag=True):
    """A caller wants an answer. The signature is this fleet's (the shell checked)."""

    key: str
    prefill_instance: str
    decode_instance: str
    expires_us: int
    ticket: str = ""
    """Names this very ticket: a caller may ask again under the same request id."""
    brought: bool = False
    """The prompt came with it, to be prefilled here."""


class AnswerEnded(Event, frozen=True, kw_only=True, tag=True):
    """The answer is complete, failed or abandoned."""

    key: str


DecodeEvent = TicketPresented | AnswerEnded | DrainStarted | DrainAborted | DrainEnded | TimerFired
