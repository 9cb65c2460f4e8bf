"""Both tiers of a KV store on a trace: the store's own core, everything at once.

Each prompt gets the longest prefix, and stores the rest. Reads and writes of SSD end before
the next prompt comes; how long they take is `argosy sim`'s affair.
"""

from collections import deque
from collections.abc import Callable, Sequence

from argosy.domain.core import Effect, Event
from argosy.kvstore.core import effects, events
from argosy.kvstore.core.slots import ssd_slot_bytes
from argosy.kvstore.core.state import StoreLimits
from argosy.kvstore.core.store import StoreCore
from argosy.kvstore.policies import new_state
from argosy.sim.traces.trace import TraceRequest

BLOCK_BYTES = 1 << 20
"""As good as any: there is one size."""


class InstantStore:
    """A store that takes no time."""

    def __init__(self, dram_blocks: int, ssd_blocks: int) -> None:
        dram, ssd = dram_blocks * BLOCK_BYTES, ssd_blocks * ssd_slot_bytes(BLOCK_BYTES)
        self.core = StoreCore(
            new_state(StoreLimits(dram, ssd, dram, ssd, lease_us=1 << 50, writing_bytes=dram // 16))
        )
        self._leases = 0
        self._events: deque[Event] = deque()
        self._found = 0
        self._rooms = 0

    def ask(self, request: TraceRequest) -> int:
        """How many leading blocks are found, in either tier; the others are stored."""
        now_us, keys = request.arrived_us, [key_of(block) for block in request.blocks]
        lease = self._lease()
        self._feed(
            events.BlocksRequested(now_us=now_us, lease=lease, keys=keys, block_bytes=BLOCK_BYTES)
        )
        found = self._found
        self._feed(events.LeaseEnded(now_us=now_us, lease=lease))
        offered = [
            events.Offered(keys[n], keys[n - 1] if n else b"", request.blocks[n], 1)
            for n in range(found, len(keys))
        ]
        lease = self._lease()
        self._feed(
            events.RoomRequested(
                now_us=now_us, lease=lease, block_bytes=BLOCK_BYTES, blocks=offered
            )
        )
        self._feed(events.BlocksWritten(now_us=now_us, lease=lease, checksums=[1] * self._rooms))
        return found

    def _lease(self) -> int:
        self._leases += 1
        return self._leases

    def _feed(self, event: Event) -> None:
        self._events.append(event)
        while self._events:
            event = self._events.popleft()
            for effect in self.core.step(event):  # type: ignore[arg-type]
                self._perform(effect, event.now_us)

    def _perform(self, effect: Effect, now_us: int) -> None:
        match effect:
            case effects.GrantBlocks():
                self._found = effect.total
            case effects.GrantRoom():
                self._rooms = len(effect.rooms)
            case effects.ReadSsd():
                keys = [move.key for move in effect.moves]
                self._events.append(events.SsdRead(now_us=now_us, good=keys, bad=[]))
            case effects.WriteSsd():
                keys = [move.key for move in effect.moves]
                self._events.append(events.SsdWritten(now_us=now_us, keys=keys))


def hit_tokens(
    requests: Sequence[TraceRequest],
    block_tokens: int,
    dram_tokens: int,
    ssd_tokens: int,
    step: Callable[[], None],
) -> int:
    """Prompt tokens found, over all requests."""
    store = InstantStore(dram_tokens // block_tokens, ssd_tokens // block_tokens)
    found = 0
    for request in requests:
        found += store.ask(request)
        step()
    return found * block_tokens


def key_of(block: int) -> bytes:
    """A block's key: the trace's names are as good as any."""
    return block.to_bytes(8, "little")
