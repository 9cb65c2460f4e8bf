"""KV stores: which there are, which blocks of a prompt they have, and what fetching costs.

A store that sends no report for `stale_us` is forgotten: its blocks attract no requests then.
"""

from argosy.domain.core import Effect
from argosy.router.core import events
from argosy.router.core.fleet import kv_holders
from argosy.router.core.state import KnownStore, RouterState, StoreTier, TrackedRequest

GB_PER_S = 10.0
"""Assumed of a tier until its store has measured a fetch: a fast local network or SSD."""


def seen(state: RouterState, event: events.StoreSeen) -> list[Effect]:
    """A store says that it is there; a new one is asked for all it has."""
    store = state.stores.get(event.store)
    found: list[Effect] = []
    if store is None or store.epoch != event.epoch:
        if store is not None:
            kv_holders.wipe(state, store)
        tiers = [StoreTier(f"{event.store}/{event.epoch}/{n}") for n in range(len(event.tiers))]
        store = state.stores[event.store] = KnownStore(
            event.store, event.epoch, event.address, tiers
        )
        found = kv_holders.ask(store)
    store.seen_us = event.now_us
    for tier, (fetch_ms, gb_per_s) in zip(store.ranks, event.tiers, strict=False):
        tier.fetch_ms, tier.gb_per_s = fetch_ms, gb_per_s
    return found


def forget(state: RouterState, now_us: int) -> None:
    """Drop stores without a report for `stale_us`; not while the bus is away."""
    if not state.bus_connected:
        return
    for store in list(state.stores.values()):
        if now_us - store.seen_us > state.limits.stale_us:
            kv_holders.wipe(state, store)
            del state.stores[store.name]


def bus_changed(state: RouterState, now_us: int) -> None:
    """Start the time without a report anew: while the bus is away nobody can report."""
    for store in state.stores.values():
        store.seen_us = max(store.seen_us, now_us)


def look_up(state: RouterState, request: TrackedRequest) -> None:
    """Note how much of the prompt stores have, and what fetching it would take."""
    near = [store.ranks[0] for store in state.stores.values() if store.ranks]
    far = [tier for store in state.stores.values() for tier in store.ranks[1:]]
    depth, farther = state.stored.match_any(request.blocks, [tier.holder for tier in near])
    request.stored_blocks = depth
    if not depth:
        return
    share = farther / depth
    request.stored_ms = max((t.fetch_ms for t in (near + far if farther else near)), default=0.0)
    request.stored_ms_per_gb = 1e3 * ((1 - share) / rate(near) + share / rate(far))


def rate(tiers: list[StoreTier]) -> float:
    """GB/s of the slowest of these, as far as is known."""
    return min((tier.gb_per_s or GB_PER_S for tier in tiers), default=GB_PER_S)
