"""What comes in from the bus: facts told to a listener, each once, with gaps seen.

Bounds: ids of the last IDS_KEPT control facts; one sequence per source and subject.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from nats.aio.msg import Msg

log = logging.getLogger(__name__)

IDS_KEPT = 1024


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


@dataclass
class Subscription:
    """A listener and what it has heard. durable: its consumer's name, for control facts."""

    pattern: str
    message: type[Message]
    deliver: Callable[[Any, Envelope], None]
    durable: str = ""
    caught_up: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    gaps: int = 0
    sequences: dict[tuple[str, str], int] = field(default_factory=dict)
    """The last sequence heard of each source and subject."""
    delivered: dict[str, None] = field(default_factory=dict)
    """Ids of the last IDS_KEPT control facts delivered, oldest first."""

    def take(self, msg: Msg) -> bool:
        """Tell the listener. True when the fact is done with; False asks for it again."""
        headers = dict(msg.headers or {})
        id_ = headers.get("Nats-Msg-Id", "")
        if id_ and id_ in self.delivered:
            return True  # The acknowledgement was lost, not the fact.
        try:
            envelope = self._envelope(msg.subject, headers)
            self.deliver(self.message.FromString(msg.data), envelope)
        except Exception:
            again = "; it is tried again, a few times" if self.durable else ""
            log.exception("a listener failed on %s%s", msg.subject, again)
            return False
        if self.durable:
            self.delivered[id_] = None
            if len(self.delivered) > IDS_KEPT:
                del self.delivered[next(iter(self.delivered))]
        return True

    def _envelope(self, subject: str, headers: dict[str, str]) -> Envelope:
        source = headers.get("Argosy-Source", "")
        sequence = int(headers.get("Argosy-Sequence", 0))
        last = self.sequences.get((source, subject), sequence - 1)
        self.sequences[source, subject] = sequence
        gap = not self.durable and sequence > last + 1
        if gap:
            self.gaps += 1
            log.info("%d facts of %s on %s were lost", sequence - last - 1, source, subject)
        time_ms = int(headers.get("Argosy-Time-Ms", 0))
        return Envelope(headers.get("Nats-Msg-Id", ""), source, sequence, time_ms, gap, headers)
