"""The message bus in virtual time: every fact reaches every router NETWORK_US later."""

from collections.abc import Callable

from argosy.domain.core import Event
from argosy.router.core import effects, events
from argosy.sim.fleet.event_queue import EventQueue
from argosy.sim.fleet.ports import Fact, FactReceiver
from argosy.sim.fleet.spec import HEARTBEAT_US, NETWORK_US


class SimBus:
    """Carries the facts of instances and routers to the subscribed routers."""

    def __init__(self, queue: EventQueue) -> None:
        self._queue = queue
        self._routers: list[FactReceiver] = []
        self.drop_fact: Callable[[Event], bool] | None = None
        """For tests: called with every fact a moment before it arrives; True loses the fact."""

    def subscribe(self, router: FactReceiver) -> None:
        """Deliver all facts to a router from now on."""
        self._routers.append(router)

    def publish(self, fact: Fact) -> None:
        """Send a fact to every router."""
        self._queue.after(NETWORK_US, self._deliver, fact, None)

    def tell_peer_routers(self, sender: FactReceiver, effect: effects.TellPeerRouters) -> None:
        """Send what a router has dispatched, or what has ended, to the other routers."""
        fact = _ended(sender.name, effect) if effect.ended else _dispatched(sender.name, effect)
        self._queue.after(NETWORK_US, self._deliver, fact, sender)

    def introduce_routers(self) -> None:
        """Let routers know of each other, now and with every heartbeat."""
        for router in self._routers:
            for peer_router in self._routers:
                if peer_router is not router:
                    router.feed(
                        events.PeerRouterSeen(now_us=self._queue.now_us, router=peer_router.name)
                    )
        self._queue.after(HEARTBEAT_US, self.introduce_routers)

    def _deliver(self, fact: Fact, sender: FactReceiver | None) -> None:
        event = fact(self._queue.now_us)
        if self.drop_fact is not None and self.drop_fact(event):
            return
        for router in self._routers:
            if router is not sender:
                router.feed(event)


def _ended(sender: str, effect: effects.TellPeerRouters) -> Fact:
    return lambda now_us: events.PeerRouterEnded(
        now_us=now_us, router=sender, request_ids=[effect.request_id]
    )


def _dispatched(sender: str, effect: effects.TellPeerRouters) -> Fact:
    return lambda now_us: events.PeerRouterDispatched(
        now_us=now_us,
        router=sender,
        request_id=effect.request_id,
        prefill=effect.prefill,
        prefill_rank=effect.prefill_rank,
        decode=effect.decode,
        decode_rank=effect.decode_rank,
        prompt_tokens=effect.prompt_tokens,
        uncached_tokens=effect.uncached_tokens,
        blocks=effect.blocks,
    )
