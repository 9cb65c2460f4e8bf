"""The bus: facts out and in over NATS, without ever making a request wait for it.

Stream facts go on core NATS; each source numbers them per subject, so a listener sees
a gap. Control facts go on JetStream, are acknowledged, de-duplicated by id, and
delivered to late joiners.

Ordering: facts of one source and plane leave in the order they were published.
Without a connection they wait in OUTBOX_FACTS slots per plane; beyond that the oldest
goes: for stream facts listeners see the gap, for control facts an error is logged.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import nats
import nats.errors
from google.protobuf.message import Message
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig
from nats.js.errors import BadRequestError

from argosy.mesh import facts, telemetry
from argosy.mesh.inbox import Envelope, Subscription

__all__ = ["Bus", "Envelope"]

log = logging.getLogger(__name__)

OUTBOX_FACTS = 4096
RETRY_S = 0.5
PING_S = 2
"""A server that hangs is noticed after three of these."""
STREAM_BYTES = 256 << 20
HISTORY_BYTES = 64 << 20
HISTORY_AGE_S = 32 * 24 * 3600
"""A month of Mondays: what seasons are read from."""
STREAM_AGE_S = 366 * 24 * 3600
"""What sleeps may be silent for long; STREAM_BYTES bounds what is kept."""
DUPLICATE_WINDOW_S = 120
DELIVERIES_MAX = 5
FETCH = 64
FETCH_S = 5

M = TypeVar("M", bound=Message)


@dataclass
class _Outgoing:
    subject: str
    payload: bytes
    headers: dict[str, str]


class _Outbox:
    """Facts of one plane on their way out, in order."""

    def __init__(self) -> None:
        self.waiting: deque[_Outgoing] = deque(maxlen=OUTBOX_FACTS)
        self.filled = asyncio.Event()


class Bus:
    """One process's place on the bus. `source` is the process's name."""

    def __init__(self, url: str, fleet: str, source: str) -> None:
        self.url = url
        self.fleet = fleet
        self.source = source
        self.connected = asyncio.Event()
        self.on_connection: list[Callable[[bool], None]] = []
        self.dropped = 0
        self._closing = False
        self._client: Client | None = None
        self._stream_out = _Outbox()
        self._control_out = _Outbox()
        self._sequences: dict[str, int] = {}
        self._subscriptions: list[Subscription] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def gaps(self) -> int:
        """How often stream facts were missing since start."""
        return sum(subscription.gaps for subscription in self._subscriptions)

    def start(self) -> None:
        """Begin connecting, in the background, for as long as it takes."""
        self._tasks.append(asyncio.create_task(self._connect()))
        self._tasks.append(asyncio.create_task(self._send(self._stream_out, self._stream)))
        self._tasks.append(asyncio.create_task(self._send(self._control_out, self._log)))

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
        if len(out.waiting) == OUTBOX_FACTS:
            self.dropped += 1
            if kind.control:
                lost = out.waiting[0].subject
                log.error("no bus at %s and the outbox is full: lost %s", self.url, lost)
        out.waiting.append(_Outgoing(subject, fact.SerializeToString(), headers))
        out.filled.set()

    def listen(self, message: type[M], deliver: Callable[[M, Envelope], None]) -> None:
        """Call `deliver` for each fact of a stream type from now on."""
        pattern = facts.pattern_of(self.fleet, message)
        self._add(Subscription(pattern, message, deliver))

    def follow(
        self, message: type[M], deliver: Callable[[M, Envelope], None], durable: str
    ) -> asyncio.Event:
        """Call `deliver` for each fact of a control type: first the last one of each
        key that is on the log (of a history type: all there are), then new ones, once per id.

        `durable` names the consumer: under the same name a restarted process goes on
        where it stopped. Returns an event set once what was on the log is delivered.
        """
        pattern = facts.pattern_of(self.fleet, message)
        subscription = Subscription(pattern, message, deliver, facts.token(durable))
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

    @property
    def stream_name(self) -> str:
        """The JetStream stream that keeps this fleet's control facts."""
        return f"argosy-{facts.token(self.fleet)}"

    @property
    def history_name(self) -> str:
        """The one that keeps its history."""
        return f"{self.stream_name}-history"

    async def _ensure_streams(self) -> None:
        kept = [f for f in facts.all_facts() if f.control]
        for name, history, size, age_s in (
            (self.stream_name, False, STREAM_BYTES, STREAM_AGE_S),
            (self.history_name, True, HISTORY_BYTES, HISTORY_AGE_S),
        ):
            subjects = [
                facts.pattern_of(self.fleet, f.message) for f in kept if f.history == history
            ]
            await self._ensure_stream(
                StreamConfig(
                    name=name,
                    subjects=subjects,
                    max_bytes=size,
                    max_age=age_s,
                    duplicate_window=DUPLICATE_WINDOW_S,
                )
            )

    async def _ensure_stream(self, config: StreamConfig) -> None:
        told = False
        while True:
            try:
                await self._put_stream(config)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                if not told:
                    log.warning("the bus at %s has no control log (yet): %r", self.url, error)
                told = True
                await asyncio.sleep(RETRY_S)
                continue
            return

    async def _put_stream(self, config: StreamConfig) -> None:
        try:
            await self._jetstream().add_stream(config)
        except BadRequestError as error:
            log.info("updating stream %s: %s", self.stream_name, error)
            await self._jetstream().update_stream(config)

    def _jetstream(self) -> JetStreamContext:
        assert self._client is not None
        return self._client.jetstream(timeout=5)

    # -- out

    async def _send(self, outbox: _Outbox, send: Callable[[_Outgoing], Awaitable[object]]) -> None:
        waiting = outbox.waiting
        while True:
            await self.connected.wait()
            if not waiting:
                outbox.filled.clear()
                await outbox.filled.wait()
                continue
            out = waiting[0]
            try:
                await send(out)
            except nats.errors.MaxPayloadError:
                self.dropped += 1
                log.error("too large for the bus at %s: lost %s", self.url, out.subject)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                # Sent again under the same id: of two control facts JetStream drops the second.
                log.debug("%s not sent: %r", out.subject, error)
                await asyncio.sleep(RETRY_S)
                continue
            if waiting and waiting[0] is out:
                waiting.popleft()

    async def _stream(self, out: _Outgoing) -> None:
        assert self._client is not None
        await self._client.publish(out.subject, out.payload, headers=out.headers)

    async def _log(self, out: _Outgoing) -> None:
        await self._jetstream().publish(out.subject, out.payload, headers=out.headers)

    # -- in

    async def _subscribe(self, subscription: Subscription) -> None:
        if subscription.durable:
            await self._consume(subscription)
            return

        async def on_message(msg: Msg) -> None:
            subscription.take(msg)

        assert self._client is not None
        await self._client.subscribe(subscription.pattern, cb=on_message)

    async def _consume(self, subscription: Subscription) -> None:
        history = facts.fact_type(subscription.message).history
        stream = self.history_name if history else self.stream_name
        first = DeliverPolicy.ALL if history else DeliverPolicy.LAST_PER_SUBJECT
        config = ConsumerConfig(
            durable_name=subscription.durable,
            deliver_policy=first,
            ack_policy=AckPolicy.EXPLICIT,
            filter_subject=subscription.pattern,
            max_deliver=DELIVERIES_MAX,
            inactive_threshold=3600,
        )
        while True:
            try:
                pull = await self._jetstream().pull_subscribe(
                    subscription.pattern, subscription.durable, stream, config=config
                )
                try:
                    await self._pump(subscription, pull)
                finally:
                    with contextlib.suppress(nats.errors.Error):
                        await pull.unsubscribe()
            except (nats.errors.Error, TimeoutError, OSError) as error:
                log.debug("following %s again: %r", subscription.pattern, error)
                await asyncio.sleep(RETRY_S)
                await self.connected.wait()

    async def _pump(
        self, subscription: Subscription, pull: JetStreamContext.PullSubscription
    ) -> None:
        pending = (await pull.consumer_info()).num_pending or 0
        while True:
            if pending <= 0:
                subscription.caught_up.set()
            try:
                # Of several, nats may keep the first back until FETCH_S is over.
                batch = await pull.fetch(FETCH if pending > 0 else 1, timeout=FETCH_S)
            except (nats.errors.TimeoutError, TimeoutError):
                await pull.consumer_info()  # raises when the consumer is gone
                continue
            for msg in batch:
                pending -= 1
                if subscription.take(msg):
                    await msg.ack()
                else:
                    await msg.nak(delay=RETRY_S)
