"""Channels to other processes: one per address, shared by all that call there.

Bound: CHANNELS_MAX. At the bound the channel that was called longest ago, of those without a
call under way, is closed for the new one. A channel with a call under way is never closed
for that: when all have one, there are more than CHANNELS_MAX until some are done.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import grpc

CHANNELS_MAX = 1024
"""A fleet has fewer addresses at a time; in its life, where each start takes a new port, more."""
GRACE_S = 5
"""For calls to an address that is gone for good: what they still bring is on its way."""

MESSAGE_BYTES = 16 << 20
"""A prompt of a million tokens is 4 MB."""
OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.so_reuseport", 0),
    ("grpc.use_local_subchannel_pool", 1),
)
"""A peer that is gone is noticed within 15 s, and found again within 1 s once it is back."""

K = TypeVar("K")

Method = Callable[..., Any]


class CountedChannel:
    """A channel that knows how many calls are under way on it. Stubs are made on it."""

    def __init__(self, channel: grpc.aio.Channel, calls: "itertools.count[int]") -> None:
        self.channel = channel
        self.calls_under_way = 0
        self._calls = calls
        self.last_call = next(calls)
        """Its number among all calls."""

    def unary_unary(self, *args: Any, **kwargs: Any) -> Method:
        """As grpc.aio.Channel's, like the next three."""
        return self._counted(self.channel.unary_unary(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Method:
        """A method with a stream of replies."""
        return self._counted(self.channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Method:
        """A method with a stream of requests."""
        return self._counted(self.channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Method:
        """A method with streams both ways."""
        return self._counted(self.channel.stream_stream(*args, **kwargs))

    def _counted(self, method: Method) -> Method:
        def call(*args: Any, **kwargs: Any) -> Any:
            running = method(*args, **kwargs)
            self.last_call = next(self._calls)
            self.calls_under_way += 1
            running.add_done_callback(self._done)
            return running

        return call

    def _done(self, call: Any) -> None:
        self.calls_under_way -= 1


class Channels:
    """See the module."""

    def __init__(self) -> None:
        self._channels: dict[str, CountedChannel] = {}
        self._stubs: dict[str, dict[type[Any], Any]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._calls = itertools.count()

    def get(self, address: str) -> CountedChannel:
        """The channel to host:port."""
        if (channel := self._channels.get(address)) is None:
            if len(self._channels) >= CHANNELS_MAX:
                self._close_an_idle_one()
            opened = grpc.aio.insecure_channel(address, OPTIONS)
            channel = self._channels[address] = CountedChannel(opened, self._calls)
        return channel

    def stub(self, kind: type[K], address: str) -> K:
        """A stub of that kind on the channel to host:port, made on first use.

        Do not keep it between calls: its channel may be closed while it is idle.
        """
        stubs = self._stubs.setdefault(address, {})
        if (stub := stubs.get(kind)) is None:
            stub = stubs[kind] = kind(self.get(address))  # type: ignore[call-arg]
        return stub

    def forget(self, address: str) -> None:
        """Close the channel to an address that is gone for good."""
        self._stubs.pop(address, None)
        if counted := self._channels.pop(address, None):
            task = asyncio.ensure_future(counted.channel.close(grace=GRACE_S))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close them all; calls still running are cancelled."""
        channels, self._channels = self._channels, {}
        self._stubs.clear()
        closing = (counted.channel.close() for counted in channels.values())
        await asyncio.gather(*closing, *self._closing)

    def _close_an_idle_one(self) -> None:
        idle = [
            (counted.last_call, address)
            for address, counted in self._channels.items()
            if not counted.calls_under_way
        ]
        if idle:
            self.forget(min(idle)[1])
