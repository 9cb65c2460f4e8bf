"""Which tickets are good.

A ticket is good once, before it expires, at the instance it names. Used tickets are remembered
until they expire, so memory is bounded by the rate of tickets times their lifetime. A prompt that
this instance is to prefill itself comes with its ticket.
"""

import msgspec

from argosy.decode.core import effects, events
from argosy.domain.core import CoreSpec, Effect, SetTimer, TimerFired
from argosy.domain.drain import DrainAborted, DrainEnded, DrainStarted, ReportIdle


class DecodeState(msgspec.Struct):
    """The state of decode's core."""

    instance: str
    queue_limit: int
    answering: dict[str, int] = {}
    """Answers under way, and when they began."""
    seen: dict[str, int] = {}
    """Used tickets, and when they expire."""
    draining: bool = False


class DecodeCore:
    """See the module. All methods are pure on `state`."""

    def __init__(self, state: DecodeState) -> None:
        self.state = state

    def step(self, event: events.DecodeEvent) -> list[Effect]:
        """Decide on one event."""
        match event:
            case events.TicketPresented():
                return self._presented(event)
            case events.AnswerEnded():
                self.state.answering.pop(event.key, None)
                return self._idle()
            case DrainStarted():
                self.state.draining = True
                return self._idle()
            case DrainAborted():
                return [
                    effects.EndAnswer(key=key)
                    for key in self.state.answering
                    if self.state.draining
                ]
            case DrainEnded():
                self.state.draining = False
                return []
            case TimerFired():
                self.state.seen.pop(event.key, None)
                return []

    def _presented(self, event: events.TicketPresented) -> list[Effect]:
        state, key, ticket = self.state, event.key, event.ticket or event.key
        if event.decode_instance != state.instance:
            message = f"the ticket is for {event.decode_instance}, this is {state.instance}"
            return [effects.RefuseTicket(key=key, reason="TICKET_MISDIRECTED", message=message)]
        if event.expires_us <= event.now_us:
            late_ms = (event.now_us - event.expires_us) // 1000
            message = f"the ticket for {key} expired {late_ms} ms ago; ask the router for a new one"
            return [effects.RefuseTicket(key=key, reason="TICKET_EXPIRED", message=message)]
        if ticket in state.seen or key in state.answering:
            message = f"the ticket for {key} has been used; ask the router for a new one"
            return [effects.RefuseTicket(key=key, reason="TICKET_USED", message=message)]
        if state.draining:
            message = "this decode instance takes none: it is to sleep or to stop"
            return [effects.RefuseTicket(key=key, reason="DRAINING", message=message)]
        if len(state.answering) >= state.queue_limit:
            message = f"{len(state.answering)} answers under way of {state.queue_limit}"
            return [effects.RefuseTicket(key=key, reason="OVERLOADED", message=message)]
        local = event.prefill_instance == state.instance
        if local and not event.brought:
            message = f"the prompt of {key} has to come with its ticket: send what Route gave"
            return [effects.RefuseTicket(key=key, reason="BAD_REQUEST", message=message)]
        state.seen[ticket] = event.expires_us
        state.answering[key] = event.now_us
        remember = SetTimer(key=ticket, at_us=event.expires_us)
        return [
            remember,
            effects.ComputeAndAnswer(key=key) if local else effects.PullAndAnswer(key=key),
        ]

    def _idle(self) -> list[Effect]:
        idle = self.state.draining and not self.state.answering
        return [ReportIdle()] if idle else []


SPEC = CoreSpec("decode", events.DecodeEvent, DecodeState, DecodeCore)
