"""The bus: facts out and in over NATS, without ever making a request wait for it.

Stream facts go on core NATS; each source numbers them per subject, so a listener sees
a gap. Control facts go on JetStream (see `control_log`), are acknowledged, de-duplicated by
id, and delivered to late joiners.

Ordering: facts of one source and plane leave in the order they were published.
Without a connection they wait, a bounded number per plane (see `outbox`). Beyond that the
oldest is dropped: for stream facts listeners see the gap, for control facts an error is
logged.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

import nats
import nats.errors
from google.protobuf.message import Message
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from argosy.mesh import facts, telemetry
from argosy.mesh.control_log import ControlLog
from argosy.mesh.inbox import Envelope, OnUnreadable, Subscription, ignore_unreadable
from argosy.mesh.outbox import Outbox, OutgoingFact

__all__ = ["Bus", "Envelope"]

log = logging.getLogger(__name__)

RETRY_S = 0.5
"""Before connecting is tried again."""
PING_S = 2
"""A server that hangs is noticed after three of these."""

M = TypeVar("M", bound=Message)


class Bus:
    """One process's place on the bus. `source` is the process's name."""

    def __init__(self, url: str, fleet: str, source: str) -> None:
        self.url = url
        self.fleet = fleet
        self.source = source
        self.connected = asyncio.Event()
        self.on_connection: list[Callable[[bool], None]] = []
        self._closing = False
        self._client: Client | None = None
        self._control_log = ControlLog(fleet)
        self._stream_out = Outbox()
        self._control_out = Outbox()
        self._sequences: dict[str, int] = {}
        self._subscriptions: list[Subscription] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def gaps(self) -> int:
        """How often stream facts were missing since start."""
        return sum(subscription.gaps for subscription in self._subscriptions)

    @property
    def dropped(self) -> int:
        """How many facts were never sent since start."""
        return self._stream_out.dropped + self._control_out.dropped

    def troubles(self) -> list[str]:
        """Control facts that have not reached this process's handlers, and why."""
        return [trouble for s in self._subscriptions for trouble in s.troubles()]

    def start(self) -> None:
        """Begin connecting, in the background, for as long as it takes."""
        self._tasks.append(asyncio.create_task(self._connect()))
        for outbox, send in (
            (self._stream_out, self._send_stream),
            (self._control_out, self._send_control),
        ):
            self._tasks.append(asyncio.create_task(outbox.send_all(self.connected, send)))

    async def close(self, flush_s: float = 2) -> None:
        """Send what waits, for at most `flush_s`, and disconnect."""
        self._closing = True
        deadline = time.monotonic() + flush_s
        while self.connected.is_set() and (self._control_out.waiting or self._stream_out.waiting):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.01)
        running = {*self._tasks, *(s.task for s in self._subscriptions if s.task is not None)}
        while running:
            # Again and again: wait_for, of which nats is full, can swallow a cancellation.
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=0.1)
        if self._client is not None:
            if self.connected.is_set():
                # The server knows that we listen no more before anyone thinks we do.
                with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                    await self._client.flush(timeout=1)
            await self._client.close()

    def publish(self, fact: Message) -> None:
        """Put a fact on its way. Never waits, never fails."""
        kind = facts.fact_type(type(fact))
        subject = facts.subject_of(self.fleet, fact)
        sequence = self._sequences[subject] = self._sequences.get(subject, 0) + 1
        headers = {
            "Argosy-Source": self.source,
            "Argosy-Sequence": str(sequence),
            "Argosy-Time-Ms": str(time.time_ns() // 1_000_000),
            "Nats-Msg-Id": f"{random.getrandbits(128):032x}",
            **dict(telemetry.inject()),
        }
        out = self._control_out if kind.control else self._stream_out
        lost = out.put(OutgoingFact(subject, fact.SerializeToString(), headers))
        if lost is not None and kind.control:
            log.error("no bus at %s and the outbox is full: lost %s", self.url, lost.subject)

    def listen(self, message: type[M], deliver: Callable[[M, Envelope], None]) -> None:
        """Call `deliver` for each fact of a stream type from now on."""
        pattern = facts.pattern_of(self.fleet, message)
        self._add(Subscription(pattern, message, deliver))

    def follow(
        self,
        message: type[M],
        deliver: Callable[[M, Envelope], None],
        durable: str,
        *,
        on_unreadable: OnUnreadable = ignore_unreadable,
    ) -> asyncio.Event:
        """Call `deliver` for each fact of a control type: first the last one of each
        key that is on the log (of a history type: all there are), then new ones, once per id.

        `durable` names the consumer: under the same name a restarted process goes on
        where it stopped. A fact on which `deliver` raises is delivered again until it does
        not. One that cannot be parsed goes to `on_unreadable` instead. Returns an event that
        is set once `deliver` has taken what was on the log.
        """
        pattern = facts.pattern_of(self.fleet, message)
        subscription = Subscription(pattern, message, deliver, facts.token(durable), on_unreadable)
        self._add(subscription)
        return subscription.caught_up

    def _add(self, subscription: Subscription) -> None:
        self._subscriptions.append(subscription)
        if self.connected.is_set():
            self._begin(subscription)

    def _begin(self, subscription: Subscription) -> None:
        if subscription.task is None:
            subscription.task = asyncio.create_task(self._subscribe(subscription))

    # -- connection

    async def _connect(self) -> None:
        while True:
            try:
                client = await nats.connect(
                    self.url,
                    name=self.source,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RETRY_S,
                    connect_timeout=2,
                    ping_interval=PING_S,
                    max_outstanding_pings=2,
                    pending_size=0,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_reconnected,
                )
                break
            except (OSError, nats.errors.Error, TimeoutError):
                await asyncio.sleep(RETRY_S)
        self._client = client
        await self._ensure_streams()
        self._set_connected(True)

    async def _on_error(self, error: Exception) -> None:
        log.debug("bus: %r", error)

    async def _on_disconnected(self) -> None:
        if not self._closing:
            log.warning("lost the bus at %s; requests go on, facts wait", self.url)
        self._set_connected(False)

    async def _on_reconnected(self) -> None:
        log.info("the bus at %s is back", self.url)
        await self._ensure_streams()
        self._set_connected(True)

    def _set_connected(self, connected: bool) -> None:
        if connected:
            self.connected.set()
            for subscription in self._subscriptions:
                self._begin(subscription)
        else:
            self.connected.clear()
        for callback in self.on_connection:
            callback(connected)

    async def _ensure_streams(self) -> None:
        await self._control_log.ensure(self._jetstream(), self.url)

    def _jetstream(self) -> JetStreamContext:
        assert self._client is not None
        return self._client.jetstream(timeout=5)

    async def _send_stream(self, fact: OutgoingFact) -> None:
        assert self._client is not None
        await self._client.publish(fact.subject, fact.payload, headers=fact.headers)

    async def _send_control(self, fact: OutgoingFact) -> None:
        await self._jetstream().publish(fact.subject, fact.payload, headers=fact.headers)

    async def _subscribe(self, subscription: Subscription) -> None:
        if subscription.durable:
            await self._control_log.follow(self._jetstream(), subscription, self.connected)
            return

        async def on_message(msg: Msg) -> None:
            subscription.take(msg)

        assert self._client is not None
        await self._client.subscribe(subscription.pattern, cb=on_message)
