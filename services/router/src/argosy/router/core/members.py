"""Which instances there are: joined, left, silent, forgotten; and what each one caches."""

from argosy.mesh.core import Effect
from argosy.router.core import effects as do
from argosy.router.core import events as on
from argosy.router.core import ledger
from argosy.router.core.state import Instance, Rank, RouterState

GONE_EPOCHS = 8
"""Goodbyes remembered of each instance, since they may overtake its arrival."""
FORGET_US = 600_000_000
LATER_MAX = 1024
"""KV changes kept while a snapshot is on its way; beyond that another one is asked for."""
SNAPSHOT_RETRY_US = 1_000_000


def joined(state: RouterState, event: on.InstanceJoined) -> list[Effect]:
    """Take an instance in; ask what it caches; hang up on an address nobody has now."""
    before = state.instances.get(event.instance)
    state.models[event.model] = event.max_model_tokens
    if before is not None and before.epoch == event.epoch:
        before.seen_us = event.now_us
        if not before.final:
            before.live, before.reason = True, ""
        return []
    if before is not None:
        wipe(state, before)
    instance = state.instances[event.instance] = ledger.new_instance(event)
    if event.announced_us and event.now_us - event.announced_us > state.limits.stale_us:
        instance.live, instance.reason = False, "announced long ago, not heard of since"
    if event.epoch in state.gone.get(event.instance, ()):
        instance.live, instance.final, instance.reason = False, True, "gone before it was known"
    found: list[Effect] = []
    addresses = {other.address for other in state.instances.values()}
    if before is not None and before.address not in addresses:
        found.append(do.ForgetAddress(before.address))
    if event.announced_us and not instance.final:
        # It may have been at work for long before this router came.
        found += ask(instance)
    return found


def left(
    state: RouterState, name: str, reason: str, now_us: int, *, epoch: str = "", final: bool = False
) -> None:
    """Stop using an instance (of that epoch, if one is given).

    final: it said so itself, and what it cached is gone. Otherwise it is used again
    once it is heard of again.
    """
    if final and epoch:
        state.gone[name] = [epoch, *state.gone.get(name, ())][:GONE_EPOCHS]
    instance = state.instances.get(name)
    if instance is None or epoch not in ("", instance.epoch):
        return
    instance.final = instance.final or final
    if final:
        wipe(state, instance)
    if instance.live:
        instance.live, instance.reason, instance.left_us = False, reason, now_us
        for rank in instance.ranks:
            rank.sent.clear()
            rank.inbound.clear()
            rank.sent_blocks = rank.inbound_blocks = 0


def rank_of(state: RouterState, name: str, number: int) -> Rank | None:
    """A rank of an instance; None where there is none, or none any more."""
    instance = state.instances.get(name)
    if instance is None or number >= len(instance.ranks):
        return None
    return instance.ranks[number]


def heard(state: RouterState, event: on.LoadReported) -> Instance | None:
    """A report came in: the instance it is of, if that is in use."""
    instance = state.instances.get(event.instance)
    if instance is None or instance.epoch != event.epoch:
        return None
    instance.seen_us = event.now_us
    made_us = ledger.by_our_clock(instance, event)
    if not instance.live and not instance.final and made_us > instance.left_us:
        instance.live, instance.reason = True, ""
    ledger.reported(instance, event, made_us)
    return instance if instance.live else None


def silent(state: RouterState, now_us: int) -> list[str]:
    """Live instances not heard of for `stale_us`; none while the bus is away.

    Nor when all of several have fallen silent at once: then it is the bus that is gone,
    whatever the connection says.
    """
    live = [instance for instance in state.instances.values() if instance.live]
    quiet = [i.name for i in live if now_us - i.seen_us > state.limits.stale_us]
    if not state.bus_connected or (len(live) > 1 and len(quiet) == len(live)):
        return []
    return quiet


def forget(state: RouterState, now_us: int) -> None:
    """Drop instances that have been gone for FORGET_US, and what is known of their past."""
    old = [
        instance
        for instance in state.instances.values()
        if not instance.live and now_us - max(instance.seen_us, instance.left_us) > FORGET_US
    ]
    for instance in old:
        wipe(state, instance)
        del state.instances[instance.name]
        state.gone.pop(instance.name, None)


def wipe(state: RouterState, instance: Instance) -> None:
    """What the instance cached is gone."""
    for rank in instance.ranks:
        state.index.wipe(rank.holder)
    instance.kv_later, instance.kv_asked = [], False


def kv_changed(state: RouterState, event: on.KvChanged) -> list[Effect]:
    """Take a change in; a gap before it means the index is wrong: ask for a snapshot."""
    instance = state.instances.get(event.instance)
    if instance is None or instance.epoch != event.epoch or instance.final:
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


def ask(instance: Instance) -> list[Effect]:
    """Ask for a snapshot, unless one is on its way or was just refused."""
    if instance.kv_asked or instance.kv_retry_us:
        return []
    instance.kv_asked = True
    return [do.AskKvSnapshot(instance.name, instance.epoch, instance.address, instance.role)]


def snapshot_taken(state: RouterState, event: on.KvSnapshotTaken) -> list[Effect]:
    """Put the snapshot in place of what was believed, then the changes that came after it."""
    instance = state.instances.get(event.instance)
    if instance is None or instance.epoch != event.epoch or instance.final:
        return []
    later, instance.kv_later, instance.kv_asked = instance.kv_later, [], False
    instance.kv_retry_us = 0
    instance.kv_sequence = event.sequence
    for rank, blocks in zip(instance.ranks, event.blocks, strict=False):
        state.index.wipe(rank.holder)
        state.index.store(rank.holder, blocks)
    later = [change for change in later if change[0] > event.sequence]
    for number, change in enumerate(later):
        if change[0] != instance.kv_sequence + 1:
            instance.kv_later = later[number:]
            return ask(instance)
        apply(state, instance, change)
    return []


def snapshot_failed(state: RouterState, event: on.KvSnapshotFailed) -> None:
    """Ask again at the next sweep; until then its blocks are what was last believed."""
    instance = state.instances.get(event.instance)
    if instance is not None and instance.epoch == event.epoch:
        instance.kv_asked = False
        instance.kv_retry_us = event.now_us + SNAPSHOT_RETRY_US


def retry_snapshots(state: RouterState, now_us: int) -> list[Effect]:
    """Ask again where a snapshot was needed and could not be had."""
    found: list[Effect] = []
    for instance in state.instances.values():
        if instance.live and 0 < instance.kv_retry_us <= now_us:
            instance.kv_retry_us = 0
            found += ask(instance)
    return found


def apply(
    state: RouterState, instance: Instance, change: tuple[int, int, list[int], list[int], bool]
) -> None:
    """One change, in its turn."""
    sequence, number, stored, removed, cleared = change
    instance.kv_sequence = sequence
    if cleared:
        for rank in instance.ranks:
            state.index.wipe(rank.holder)
    if number < len(instance.ranks):
        holder = instance.ranks[number].holder
        state.index.remove(holder, removed)
        state.index.store(holder, stored)
