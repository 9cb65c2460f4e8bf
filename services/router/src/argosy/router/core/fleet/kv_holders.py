"""Follows what each instance caches and each store keeps; heals gaps by snapshots."""

from argosy.domain.core import Effect
from argosy.router.core import effects, events
from argosy.router.core.prefix_index import PrefixIndex
from argosy.router.core.state import KnownInstance, KnownStore, RouterState

LATER_MAX = 1024
"""KV changes kept while a snapshot is on its way: some ten seconds of a busy instance. Beyond
that they are dropped, and the gap brings another snapshot."""
SNAPSHOT_RETRY_US = 1_000_000
"""A snapshot may hold megabytes: an instance in trouble is not asked more often."""

Member = KnownInstance | KnownStore
"""What holds KV blocks: an instance, in its data-parallel ranks, or a store, in its tiers."""


def member(state: RouterState, name: str, epoch: str) -> Member | None:
    """An instance or a store in that life of its process; None when it is not, or gone."""
    found: Member | None = state.instances.get(name) or state.stores.get(name)
    return None if found is None or found.epoch != epoch or found.final else found


def holders(of: Member) -> list[str]:
    """Names of its caches in the index, in order of ranks or tiers."""
    if isinstance(of, KnownStore):
        return [tier.holder for tier in of.ranks]
    return [rank.holder for rank in of.ranks]


def index_of(state: RouterState, of: Member) -> PrefixIndex:
    """Where its blocks are entered."""
    return state.stored if isinstance(of, KnownStore) else state.index


def wipe(state: RouterState, instance: Member) -> None:
    """Forget its blocks and the changes that wait: its process is gone."""
    forget_blocks(state, instance)
    instance.kv_later, instance.kv_asked = [], False


def forget_blocks(state: RouterState, instance: Member) -> None:
    """Forget the blocks it had; changes that wait for its snapshot still apply."""
    for holder in holders(instance):
        index_of(state, instance).wipe(holder)


def kv_changed(state: RouterState, event: events.KvChanged) -> list[Effect]:
    """Take a change in; a gap before it means the index is wrong: ask for a snapshot."""
    instance = member(state, event.instance, event.epoch)
    if instance is None:
        return []
    change = (event.sequence, event.dp_rank, event.stored, event.removed, event.cleared)
    if instance.kv_asked:
        instance.kv_later.append(change)
        if len(instance.kv_later) > LATER_MAX:
            instance.kv_later.clear()
        return []
    if event.sequence <= instance.kv_sequence:
        return []
    if event.sequence == instance.kv_sequence + 1:
        apply(state, instance, change)
        return []
    instance.kv_later = [change]
    return ask(instance)


def ask(instance: Member) -> list[Effect]:
    """Ask for a snapshot, unless one is on its way or was just refused."""
    if instance.kv_asked or instance.kv_retry_us:
        return []
    instance.kv_asked = True
    return [
        effects.AskKvSnapshot(
            instance=instance.name,
            epoch=instance.epoch,
            address=instance.address,
            role=instance.role,
        )
    ]


def snapshot_taken(state: RouterState, event: events.KvSnapshotTaken) -> list[Effect]:
    """Put the snapshot in place of what was believed, then the changes that came after it."""
    instance = member(state, event.instance, event.epoch)
    if instance is None:
        return []
    later, instance.kv_later, instance.kv_asked = instance.kv_later, [], False
    instance.kv_retry_us = 0
    instance.kv_sequence = event.sequence
    index = index_of(state, instance)
    for holder, blocks in zip(holders(instance), event.blocks, strict=False):
        index.wipe(holder)
        index.store(holder, blocks)
    later = [change for change in later if change[0] > event.sequence]
    for number, change in enumerate(later):
        if change[0] != instance.kv_sequence + 1:
            instance.kv_later = later[number:]
            return ask(instance)
        apply(state, instance, change)
    return []


def snapshot_failed(state: RouterState, event: events.KvSnapshotFailed) -> None:
    """Ask again at the next sweep; until then its blocks are what was last believed."""
    instance = member(state, event.instance, event.epoch)
    if instance is not None:
        instance.kv_asked = False
        instance.kv_retry_us = event.now_us + SNAPSHOT_RETRY_US


def retry_snapshots(state: RouterState, now_us: int) -> list[Effect]:
    """Ask again where a snapshot was needed and could not be had."""
    found: list[Effect] = []
    members: list[Member] = [*state.instances.values(), *state.stores.values()]
    for instance in members:
        if instance.live and 0 < instance.kv_retry_us <= now_us:
            instance.kv_retry_us = 0
            found += ask(instance)
    return found


def apply(
    state: RouterState, instance: Member, change: tuple[int, int, list[int], list[int], bool]
) -> None:
    """One change, in its turn."""
    sequence, number, stored, removed, cleared = change
    instance.kv_sequence = sequence
    index = index_of(state, instance)
    if cleared:
        for holder in holders(instance):
            index.wipe(holder)
    if number < len(instance.ranks):
        holder = holders(instance)[number]
        index.remove(holder, removed)
        index.store(holder, stored)
