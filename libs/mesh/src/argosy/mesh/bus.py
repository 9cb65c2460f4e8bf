"""The bus: facts out and in over NATS, without ever making a request wait for it.

Stream facts go on core NATS; each source numbers them per subject, so a listener sees
a gap. Control facts go on JetStream, are acknowledged, de-duplicated by id, and
delivered to late joiners.

Ordering: facts of one source and plane leave in the order they were published.
Without a connection they wait in OUTBOX_FACTS slots per plane; beyond that the oldest
goes: for stream facts listeners see the gap, for control facts an error is logged.
"""

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import nats
import nats.errors
from argosy.mesh import facts, telemetry
from google.protobuf.message import Message
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig
from nats.js.errors import Error as JetStreamError

log = logging.getLogger(__name__)

OUTBOX_FACTS = 4096
RETRY_S = 0.5
STREAM_BYTES = 256 << 20
STREAM_AGE_S = 7 * 24 * 3600
DUPLICATE_WINDOW_S = 120
DELIVERIES_MAX = 5
FETCH = 64

M = TypeVar("M", bound=Message)


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
class _Outgoing:
    subject: str
    payload: bytes
    headers: dict[str, str]


@dataclass
class _Subscription:
    """Made again at every connection, so it may be asked for before there is one."""

    pattern: str
    message: type[Message]
    deliver: Callable[[Any, Envelope], None]
    durable: str = ""
    caught_up: asyncio.Event = field(default_factory=asyncio.Event)


class Bus:
    """One process's place on the bus. `source` is the process's name."""

    def __init__(self, url: str, fleet: str, source: str) -> None:
        self.url = url
        self.fleet = fleet
        self.source = source
        self.connected = asyncio.Event()
        self.on_connection: list[Callable[[bool], None]] = []
        self.dropped = 0
        self._client: Client | None = None
        self._stream_out: deque[_Outgoing] = deque(maxlen=OUTBOX_FACTS)
        self._control_out: deque[_Outgoing] = deque(maxlen=OUTBOX_FACTS)
        self._to_send = asyncio.Event()
        self._sequences: dict[str, int] = {}
        self._seen: dict[tuple[str, str], int] = {}
        self._subscriptions: list[_Subscription] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._consumers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin connecting, in the background, for as long as it takes."""
        self._tasks.append(asyncio.create_task(self._connect()))
        self._tasks.append(asyncio.create_task(self._send_stream()))
        self._tasks.append(asyncio.create_task(self._send_control()))

    async def close(self, flush_s: float = 2) -> None:
        """Send what waits, for at most `flush_s`, and disconnect."""
        deadline = time.monotonic() + flush_s
        while self.connected.is_set() and (self._control_out or self._stream_out):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.01)
        for task in [*self._tasks, *self._consumers]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._consumers, return_exceptions=True)
        if self._client is not None:
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
            "Nats-Msg-Id": uuid.uuid4().hex,
            **dict(telemetry.inject()),
        }
        out = self._control_out if kind.control else self._stream_out
        if len(out) == OUTBOX_FACTS:
            self.dropped += 1
            if kind.control:
                log.error("no bus at %s and the outbox is full: lost %s", self.url, out[0].subject)
        out.append(_Outgoing(subject, fact.SerializeToString(), headers))
        self._to_send.set()

    def listen(self, message: type[M], deliver: Callable[[M, Envelope], None]) -> None:
        """Call `deliver` for each fact of a stream type from now on."""
        pattern = facts.pattern_of(self.fleet, message)
        self._add(_Subscription(pattern, message, deliver))

    def follow(
        self, message: type[M], deliver: Callable[[M, Envelope], None], durable: str
    ) -> asyncio.Event:
        """Call `deliver` for each fact of a control type: first the last one of each
        key that is on the log, then new ones, once per id.

        `durable` names the consumer: under the same name a restarted process goes on
        where it stopped. Returns an event set once what was on the log is delivered.
        """
        pattern = facts.pattern_of(self.fleet, message)
        subscription = _Subscription(pattern, message, deliver, durable)
        self._add(subscription)
        return subscription.caught_up

    def _add(self, subscription: _Subscription) -> None:
        self._subscriptions.append(subscription)
        if self.connected.is_set():
            self._consumers.append(asyncio.create_task(self._subscribe(subscription)))

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
                    pending_size=0,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_reconnected,
                )
                break
            except (OSError, nats.errors.Error, TimeoutError):
                await asyncio.sleep(RETRY_S)
        self._client = client
        await self._ensure_stream()
        for subscription in self._subscriptions:
            self._consumers.append(asyncio.create_task(self._subscribe(subscription)))
        self._set_connected(True)

    async def _on_error(self, error: Exception) -> None:
        log.debug("bus: %r", error)

    async def _on_disconnected(self) -> None:
        log.warning("lost the bus at %s; requests go on, facts wait", self.url)
        self._set_connected(False)

    async def _on_reconnected(self) -> None:
        log.info("the bus at %s is back", self.url)
        await self._ensure_stream()
        self._set_connected(True)

    def _set_connected(self, connected: bool) -> None:
        if connected:
            self.connected.set()
            self._to_send.set()
        else:
            self.connected.clear()
        for callback in self.on_connection:
            callback(connected)

    @property
    def stream_name(self) -> str:
        """The JetStream stream that keeps this fleet's control facts."""
        return f"argosy-{self.fleet}"

    async def _ensure_stream(self) -> None:
        subjects = [facts.pattern_of(self.fleet, f.message) for f in facts.all_facts() if f.control]
        config = StreamConfig(
            name=self.stream_name, subjects=subjects, max_bytes=STREAM_BYTES,
            max_age=STREAM_AGE_S, duplicate_window=DUPLICATE_WINDOW_S,
        )  # fmt: skip
        while True:
            try:
                await self._jetstream().add_stream(config)
            except JetStreamError as error:
                log.info("updating stream %s: %s", self.stream_name, error)
                await self._jetstream().update_stream(config)
            except (nats.errors.Error, TimeoutError, OSError):
                await asyncio.sleep(RETRY_S)
                continue
            return

    def _jetstream(self) -> JetStreamContext:
        assert self._client is not None
        return self._client.jetstream(timeout=5)

    # -- out

    async def _send_stream(self) -> None:
        while True:
            await self.connected.wait()
            while self._stream_out and self.connected.is_set():
                out = self._stream_out.popleft()
                try:
                    assert self._client is not None
                    await self._client.publish(out.subject, out.payload, headers=out.headers)
                except (nats.errors.Error, OSError):
                    self._stream_out.appendleft(out)
                    await asyncio.sleep(RETRY_S)
            self._to_send.clear()
            await self._to_send.wait()

    async def _send_control(self) -> None:
        waiting = self._control_out
        while True:
            await self.connected.wait()
            if not waiting:
                await asyncio.sleep(0.01)
                continue
            out = waiting[0]
            try:
                await self._jetstream().publish(out.subject, out.payload, headers=out.headers)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                # Sent again under the same id: JetStream drops the second.
                log.debug("control fact %s not acknowledged: %r", out.subject, error)
                await asyncio.sleep(RETRY_S)
                continue
            if waiting and waiting[0] is out:
                waiting.popleft()

    # -- in

    async def _subscribe(self, subscription: _Subscription) -> None:
        if subscription.durable:
            await self._consume(subscription)
            return

        async def on_message(msg: Msg) -> None:
            self._deliver(subscription, msg)

        assert self._client is not None
        await self._client.subscribe(subscription.pattern, cb=on_message)

    async def _consume(self, subscription: _Subscription) -> None:
        config = ConsumerConfig(
            durable_name=subscription.durable,
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            ack_policy=AckPolicy.EXPLICIT,
            filter_subject=subscription.pattern,
            max_deliver=DELIVERIES_MAX,
            inactive_threshold=3600,
        )
        while True:
            try:
                pull = await self._jetstream().pull_subscribe(
                    subscription.pattern, subscription.durable, self.stream_name, config=config
                )
                await self._pump(subscription, pull)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                log.debug("following %s again: %r", subscription.pattern, error)
                await asyncio.sleep(RETRY_S)
                await self.connected.wait()

    async def _pump(
        self, subscription: _Subscription, pull: JetStreamContext.PullSubscription
    ) -> None:
        pending = (await pull.consumer_info()).num_pending or 0
        while True:
            if pending <= 0:
                subscription.caught_up.set()
            try:
                batch = await pull.fetch(FETCH, timeout=5)
            except (nats.errors.TimeoutError, TimeoutError):
                await pull.consumer_info()  # raises when the consumer is gone
                continue
            for msg in batch:
                pending -= 1
                if self._deliver(subscription, msg):
                    await msg.ack()
                else:
                    await msg.nak(delay=RETRY_S)

    def _deliver(self, subscription: _Subscription, msg: Msg) -> bool:
        headers = dict(msg.headers or {})
        source = headers.get("Argosy-Source", "")
        sequence = int(headers.get("Argosy-Sequence", 0))
        last = self._seen.get((source, msg.subject), sequence - 1)
        self._seen[source, msg.subject] = sequence
        gap = not subscription.durable and sequence > last + 1
        envelope = Envelope(
            headers.get("Nats-Msg-Id", ""), source, sequence,
            int(headers.get("Argosy-Time-Ms", 0)), gap, headers,
        )  # fmt: skip
        try:
            subscription.deliver(subscription.message.FromString(msg.data), envelope)
        except Exception:
            log.exception("a listener failed on %s; it is tried again", msg.subject)
            return False
        return True
