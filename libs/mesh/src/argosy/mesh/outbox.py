"""Facts of one plane on their way out, in the order they were published.

Without a connection they wait in OUTBOX_FACTS slots; beyond that the oldest is dropped.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import nats.errors

log = logging.getLogger(__name__)

OUTBOX_FACTS = 4096
"""Some seconds of a busy router's facts; a few megabytes."""
RETRY_S = 0.5
"""Before a fact that could not be sent is sent again."""


@dataclass
class OutgoingFact:
    """A fact as it goes on the wire."""

    subject: str
    payload: bytes
    headers: dict[str, str]


class Outbox:
    """See the module. `dropped` counts facts that were never sent."""

    def __init__(self) -> None:
        self.waiting: deque[OutgoingFact] = deque(maxlen=OUTBOX_FACTS)
        self.dropped = 0
        self._filled = asyncio.Event()

    def put(self, fact: OutgoingFact) -> OutgoingFact | None:
        """Add a fact; returns the oldest one if it had to be dropped for it."""
        oldest = self.waiting[0] if len(self.waiting) == self.waiting.maxlen else None
        self.dropped += oldest is not None
        self.waiting.append(fact)
        self._filled.set()
        return oldest

    async def send_all(
        self, connected: asyncio.Event, send: Callable[[OutgoingFact], Awaitable[object]]
    ) -> None:
        """Send for ever, while there is a connection."""
        waiting = self.waiting
        while True:
            await connected.wait()
            if not waiting:
                self._filled.clear()
                await self._filled.wait()
                continue
            fact = waiting[0]
            try:
                await send(fact)
            except nats.errors.MaxPayloadError:
                self.dropped += 1
                log.error("too large for the bus: lost %s", fact.subject)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                # Sent again under the same id: of two control facts JetStream drops the second.
                log.debug("%s not sent: %r", fact.subject, error)
                await asyncio.sleep(RETRY_S)
                continue
            if waiting and waiting[0] is fact:
                waiting.popleft()
