"""Which tickets are good.

A ticket is good once, before it expires, at the instance it names. Those seen are
remembered until they would have expired anyway, so memory is bounded by the rate of
tickets times their life. A prompt without a ticket is forgotten after `claim_us`.
"""

import msgspec

from argosy.decode.core import effects as do
from argosy.decode.core import events as on
from argosy.mesh.core import CancelTimer, CoreSpec, Effect, SetTimer, TimerFired

SEEN = "seen:"
WAITING = "waiting:"


class DecodeState(msgspec.Struct):
    """All that decode's core knows."""

    instance: str
    claim_us: int
    queue_limit: int
    prompts: dict[str, int] = {}
    """Submitted prompts waiting for their ticket, with the time they are forgotten."""
    answering: dict[str, int] = {}
    """Answers under way, with when they began."""
    seen: dict[str, int] = {}
    """Tickets used, with when they expire."""
    draining: bool = False


class DecodeCore:
    """See the module. All methods are pure on `state`."""

    def __init__(self, state: DecodeState) -> None:
        self.state = state

    def step(self, event: on.DecodeEvent) -> list[Effect]:
        """Decide on one event."""
        match event:
            case on.PromptsSubmitted():
                return self._submitted(event)
            case on.TicketPresented():
                return self._presented(event)
            case on.AnswerEnded():
                self.state.answering.pop(event.key, None)
                return self._idle()
            case on.DrainStarted():
                self.state.draining = True
                return self._idle()
            case TimerFired():
                return self._expired(event.key)

    def _submitted(self, event: on.PromptsSubmitted) -> list[Effect]:
        state = self.state
        if state.draining:
            return [do.RefuseSubmission("DRAINING", "this decode instance is shutting down", 0)]
        held = len(state.prompts) + len(state.answering)
        if held + len(event.keys) > state.queue_limit:
            message = f"{held} requests held of {state.queue_limit}"
            return [do.RefuseSubmission("OVERLOADED", message, 1000)]
        at_us = event.now_us + state.claim_us
        for key in event.keys:
            state.prompts[key] = at_us
        return [SetTimer(WAITING + key, at_us) for key in event.keys]

    def _presented(self, event: on.TicketPresented) -> list[Effect]:
        state, key, ticket = self.state, event.key, event.ticket or event.key
        if event.decode_instance != state.instance:
            message = f"the ticket is for {event.decode_instance}, this is {state.instance}"
            return [do.RefuseTicket(key, "TICKET_MISDIRECTED", message)]
        if event.expires_us <= event.now_us:
            late_ms = (event.now_us - event.expires_us) // 1000
            message = f"the ticket for {key} expired {late_ms} ms ago; ask the router for a new one"
            return [do.RefuseTicket(key, "TICKET_EXPIRED", message)]
        if ticket in state.seen or key in state.answering:
            message = f"the ticket for {key} has been used; ask the router for a new one"
            return [do.RefuseTicket(key, "TICKET_USED", message)]
        if state.draining:
            return [do.RefuseTicket(key, "DRAINING", "this decode instance is shutting down")]
        if len(state.answering) >= state.queue_limit:
            message = f"{len(state.answering)} answers under way of {state.queue_limit}"
            return [do.RefuseTicket(key, "OVERLOADED", message)]
        local = event.prefill_instance == state.instance
        if local and key not in state.prompts:
            message = f"the prompt of {key} is not here: never submitted, or forgotten"
            return [do.RefuseTicket(key, "KV_LOST", message)]
        state.seen[ticket] = event.expires_us
        state.answering[key] = event.now_us
        remember = SetTimer(SEEN + ticket, event.expires_us)
        if local:
            del state.prompts[key]
            return [remember, CancelTimer(WAITING + key), do.ComputeAndAnswer(key)]
        return [remember, do.PullAndAnswer(key)]

    def _expired(self, key: str) -> list[Effect]:
        if key.startswith(SEEN):
            self.state.seen.pop(key.removeprefix(SEEN), None)
            return []
        prompt = key.removeprefix(WAITING)
        if self.state.prompts.pop(prompt, None) is None:
            return []
        return [do.ForgetPrompt(prompt)]

    def _idle(self) -> list[Effect]:
        idle = self.state.draining and not self.state.answering
        return [do.ReportIdle()] if idle else []


SPEC = CoreSpec("decode", on.DecodeEvent, DecodeState, DecodeCore)
