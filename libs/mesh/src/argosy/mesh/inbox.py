"""What comes in from the bus: facts handed to a listener, each once, with gaps seen.

Bounds: ids of the last IDS_KEPT control facts; SET_ASIDE_KEPT facts that cannot be read;
one sequence per source and subject.
"""

import asyncio
import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError, Message
from nats.aio.msg import Msg

log = logging.getLogger(__name__)

IDS_KEPT = 1024
"""More facts than a server can deliver again because their acknowledgement was lost."""
SET_ASIDE_KEPT = 16
"""Enough to see what is wrong."""


@dataclass(frozen=True)
class Envelope:
    """What travels beside a fact."""

    id: str
    source: str
    sequence: int
    time_ms: int
    gap: bool
    """Stream facts of this source and subject were lost just before this one."""
    headers: dict[str, str]
    log_sequence: int = 0
    """Place of a control fact on the control log, from 1."""


class Taken(enum.Enum):
    """What became of a fact."""

    DONE = enum.auto()
    FAILED = enum.auto()
    """Its handler failed: it is to be delivered again."""
    UNREADABLE = enum.auto()
    """It cannot be parsed, and never will be."""


@dataclass
class FailingFact:
    """A control fact whose handler fails."""

    subject: str
    error: str
    tries: int = 0


OnUnreadable = Callable[[Envelope, str], None]
"""Called with a control fact that cannot be parsed, and why."""


def ignore_unreadable(envelope: Envelope, error: str) -> None:
    """For followers that can do without a fact they cannot read."""


@dataclass
class Subscription:
    """A listener and what it has heard. durable: its consumer's name, for control facts."""

    pattern: str
    message: type[Message]
    deliver: Callable[[Any, Envelope], None]
    durable: str = ""
    on_unreadable: OnUnreadable = ignore_unreadable
    caught_up: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    gaps: int = 0
    sequences: dict[tuple[str, str], int] = field(default_factory=dict)
    """The last sequence heard of each source and subject."""
    delivered: dict[str, None] = field(default_factory=dict)
    """Ids of the last IDS_KEPT control facts delivered, oldest first."""
    failing: dict[int, FailingFact] = field(default_factory=dict)
    """Control facts to be delivered again, by their place on the log."""
    set_aside: list[str] = field(default_factory=list)
    """Facts that cannot be read, and why: the last SET_ASIDE_KEPT."""

    def troubles(self) -> list[str]:
        """What of the control log has not reached the listener, and why."""
        failing = [
            f"control fact {fact.subject} fails ({fact.tries} tries): {fact.error}"
            for fact in self.failing.values()
        ]
        return failing + self.set_aside

    def take(self, msg: Msg, log_sequence: int = 0) -> Taken:
        """Hand a fact to the listener."""
        headers = dict(msg.headers or {})
        id_ = headers.get("Nats-Msg-Id", "")
        if id_ and id_ in self.delivered:
            return Taken.DONE  # The acknowledgement was lost, not the fact.
        try:
            envelope = self._envelope(msg.subject, headers, log_sequence)
            fact = self.message.FromString(msg.data)
        except (DecodeError, ValueError) as error:
            self._set_aside(msg.subject, error)
            unreadable = Envelope(id_, "", 0, 0, False, headers, log_sequence)
            self.on_unreadable(unreadable, str(error))
            return Taken.UNREADABLE
        try:
            self.deliver(fact, envelope)
        except Exception as error:  # noqa: BLE001 - recorded, logged and tried again
            self._failed(msg.subject, log_sequence, error)
            return Taken.FAILED
        if self.durable:
            self.failing.pop(log_sequence, None)
            self.delivered[id_] = None
            if len(self.delivered) > IDS_KEPT:
                del self.delivered[next(iter(self.delivered))]
        return Taken.DONE

    def _set_aside(self, subject: str, error: Exception) -> None:
        what = f"fact {subject} cannot be read and was set aside: {error}"
        log.error("%s", what)
        if self.durable:
            self.set_aside = [*self.set_aside, f"control {what}"][-SET_ASIDE_KEPT:]

    def _failed(self, subject: str, log_sequence: int, error: Exception) -> None:
        if not self.durable:
            log.exception("a listener failed on %s", subject)
            return
        fact = self.failing.setdefault(log_sequence, FailingFact(subject, ""))
        fact.tries, fact.error = fact.tries + 1, f"{type(error).__name__}: {error}"
        traceback = error if fact.tries == 1 else None
        log.error("a listener failed on %s; it is tried again", subject, exc_info=traceback)

    def _envelope(self, subject: str, headers: dict[str, str], log_sequence: int) -> Envelope:
        source = headers.get("Argosy-Source", "")
        sequence = int(headers.get("Argosy-Sequence", 0))
        last = self.sequences.get((source, subject), sequence - 1)
        self.sequences[source, subject] = sequence
        gap = not self.durable and sequence > last + 1
        if gap:
            self.gaps += 1
            log.info("%d facts of %s on %s were lost", sequence - last - 1, source, subject)
        time_ms = int(headers.get("Argosy-Time-Ms", 0))
        id_ = headers.get("Nats-Msg-Id", "")
        return Envelope(id_, source, sequence, time_ms, gap, headers, log_sequence)
