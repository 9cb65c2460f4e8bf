"""The control log: the JetStream streams that keep a fleet's control facts, and reading them.

A fact whose handler fails is delivered again, after RETRY_S and then twice as long each
time up to RETRY_MAX_S, until the handler takes it. A fact that cannot be parsed would never
be taken: it is set aside. `Subscription.troubles` tells of both. A follower is caught up
only when its handler has taken everything that was on the log.
"""

import asyncio
import contextlib
import logging

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig
from nats.js.errors import BadRequestError

from argosy.mesh import facts
from argosy.mesh.inbox import Subscription, Taken

log = logging.getLogger(__name__)

RETRY_S = 0.5
RETRY_MAX_S = 30
"""A handler that fails for a minute is not mended by being asked more often."""
STREAM_BYTES = 256 << 20
HISTORY_BYTES = 64 << 20
HISTORY_AGE_S = 32 * 24 * 3600
"""A month of Mondays: what seasons are read from."""
STREAM_AGE_S = 366 * 24 * 3600
"""An instance that sleeps may say nothing for long; STREAM_BYTES bounds what is kept."""
DUPLICATE_WINDOW_S = 120
"""A fact whose acknowledgement was lost is sent again much sooner."""
FETCH = 64
FETCH_S = 5
"""How long a fetch waits for a fact; then the consumer is checked for being there still."""
CONSUMER_IDLE_S = 3600
"""The server forgets a follower that does not come back for an hour: its name has its epoch."""


class ControlLog:
    """A fleet's streams, over one JetStream context."""

    def __init__(self, fleet: str) -> None:
        self.fleet = fleet

    @property
    def stream_name(self) -> str:
        """The JetStream stream that keeps this fleet's control facts."""
        return f"argosy-{facts.token(self.fleet)}"

    @property
    def history_name(self) -> str:
        """The one that keeps its history."""
        return f"{self.stream_name}-history"

    async def ensure(self, jetstream: JetStreamContext, url: str) -> None:
        """Return once the streams are there, as they should be."""
        kept = [f for f in facts.all_facts() if f.control]
        for name, history, size, age_s in (
            (self.stream_name, False, STREAM_BYTES, STREAM_AGE_S),
            (self.history_name, True, HISTORY_BYTES, HISTORY_AGE_S),
        ):
            subjects = [
                facts.pattern_of(self.fleet, f.message) for f in kept if f.history == history
            ]
            config = StreamConfig(
                name=name,
                subjects=subjects,
                max_bytes=size,
                max_age=age_s,
                duplicate_window=DUPLICATE_WINDOW_S,
            )
            await ensure_stream(jetstream, config, url)

    async def follow(
        self, jetstream: JetStreamContext, subscription: Subscription, connected: asyncio.Event
    ) -> None:
        """Deliver a subscription's facts, for ever."""
        history = facts.fact_type(subscription.message).history
        stream = self.history_name if history else self.stream_name
        first = DeliverPolicy.ALL if history else DeliverPolicy.LAST_PER_SUBJECT
        config = ConsumerConfig(
            durable_name=subscription.durable,
            deliver_policy=first,
            ack_policy=AckPolicy.EXPLICIT,
            filter_subject=subscription.pattern,
            inactive_threshold=CONSUMER_IDLE_S,
        )
        while True:
            try:
                pull = await jetstream.pull_subscribe(
                    subscription.pattern, subscription.durable, stream, config=config
                )
                try:
                    await deliver_all(subscription, pull)
                finally:
                    with contextlib.suppress(nats.errors.Error):
                        await pull.unsubscribe()
            except (nats.errors.Error, TimeoutError, OSError) as error:
                log.debug("following %s again: %r", subscription.pattern, error)
                await asyncio.sleep(RETRY_S)
                await connected.wait()


async def ensure_stream(jetstream: JetStreamContext, config: StreamConfig, url: str) -> None:
    """Make the stream, or make it as `config` says; tries until it succeeds."""
    warned = False
    while True:
        try:
            try:
                await jetstream.add_stream(config)
            except BadRequestError as error:
                log.info("updating stream %s: %s", config.name, error)
                await jetstream.update_stream(config)
            return
        except (nats.errors.Error, TimeoutError, OSError) as error:
            if not warned:
                log.warning("the bus at %s has no control log (yet): %r", url, error)
            warned = True
            await asyncio.sleep(RETRY_S)


async def deliver_all(subscription: Subscription, pull: JetStreamContext.PullSubscription) -> None:
    """Deliver what is on the log, then what comes; returns only by raising."""
    pending = (await pull.consumer_info()).num_pending or 0
    while True:
        if pending <= 0 and not subscription.failing:
            subscription.caught_up.set()
        try:
            # Of several, nats may keep the first back until FETCH_S is over.
            batch = await pull.fetch(FETCH if pending > 0 else 1, timeout=FETCH_S)
        except (nats.errors.TimeoutError, TimeoutError):
            await pull.consumer_info()  # raises when the consumer is gone
            continue
        for msg in batch:
            pending -= msg.metadata.num_delivered == 1
            await deliver(subscription, msg)


async def deliver(subscription: Subscription, msg: Msg) -> None:
    """Hand one fact to its handler, and tell the server what became of it."""
    sequence = msg.metadata.sequence.stream
    match subscription.take(msg, sequence):
        case Taken.DONE:
            await msg.ack()
        case Taken.UNREADABLE:
            await msg.term()
        case Taken.FAILED:
            tries = subscription.failing[sequence].tries
            await msg.nak(delay=min(RETRY_S * 2 ** min(tries - 1, 10), RETRY_MAX_S))
