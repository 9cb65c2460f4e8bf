"""Which instances there are: joined, left, silent, forgotten."""

from argosy.domain.core import Effect
from argosy.router.core import effects, events
from argosy.router.core.fleet import kv_holders, load_ledger
from argosy.router.core.state import KnownInstance, RankLedger, RouterState

RESTING = "resting"
"""As a report says it: draining, silent or waking."""
EARLY_MAX = 1024
GONE_EPOCHS = 8
"""Goodbyes remembered of each instance, since they may overtake its arrival."""
FORGET_US = 600_000_000


def joined(state: RouterState, event: events.InstanceJoined) -> list[Effect]:
    """Take an instance in; ask what it caches; hang up on an address nobody has now."""
    before = state.instances.get(event.instance)
    state.models[event.model] = event.max_model_tokens
    if before is not None and before.epoch == event.epoch:
        before.seen_us = event.now_us
        if not before.final and event.change >= before.change:
            before.change, before.resting = event.change, ""
            before.live, before.reason = True, ""
        return []
    if before is not None:
        kv_holders.wipe(state, before)
    instance = state.instances[event.instance] = load_ledger.new_instance(event)
    if event.announced_us and event.now_us - event.announced_us > state.limits.stale_us:
        instance.live, instance.reason = False, "announced long ago, not heard of since"
    if event.epoch in state.gone.get(event.instance, ()):
        instance.live, instance.final, instance.reason = False, True, "gone before it was known"
    before_known = state.early.pop(event.instance, None)
    if before_known is not None:
        changed(state, before_known)
    found: list[Effect] = []
    addresses = {other.address for other in state.instances.values()}
    if before is not None and before.address not in addresses:
        found.append(effects.ForgetAddress(address=before.address))
    if event.announced_us and not instance.final:
        # It may have been at work for long before this router came.
        found += kv_holders.ask(instance)
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
        kv_holders.wipe(state, instance)
    if instance.live:
        instance.live, instance.reason, instance.left_us = False, reason, now_us
        for rank in instance.ranks:
            rank.sent.clear()
            rank.inbound.clear()
            rank.sent_blocks = rank.inbound_blocks = 0


def changed(state: RouterState, event: events.InstanceLifecycleChanged) -> None:
    """An instance goes to sleep, sleeps, wakes, or (`resting` empty) is awake."""
    instance = state.instances.get(event.instance)
    if instance is None or instance.epoch != event.epoch:
        early(state, event)
        return
    # What a report said first, a fact says better.
    vague = event.change == instance.change and instance.resting == RESTING
    if instance.final or (event.change <= instance.change and not vague):
        return
    instance.change, instance.resting = event.change, event.resting
    if not event.resting:
        instance.live, instance.reason = True, ""
        return
    reason = f"{event.resting}: {event.cause}" if event.cause else event.resting
    left(state, event.instance, reason, event.now_us)
    instance.reason = reason
    if event.resting in ("silent", "waking"):
        kv_holders.forget_blocks(state, instance)


def early(state: RouterState, event: events.InstanceLifecycleChanged) -> None:
    """Keep what was told of an instance before it was known: facts may overtake each other."""
    known = state.early.pop(event.instance, None)
    if known is not None and (known.epoch == event.epoch and known.change > event.change):
        event = known
    state.early[event.instance] = event
    if len(state.early) > EARLY_MAX:
        del state.early[next(iter(state.early))]


def busy_requests(state: RouterState) -> int:
    """Requests that live instances have, as far as we can know; KV that is held is one."""
    return sum(
        instance.requests + bool(instance.kv_held_blocks)
        for instance in state.instances.values()
        if instance.live
    )


def rank_of(state: RouterState, name: str, number: int) -> RankLedger | None:
    """A rank of an instance; None where there is none, or none any more."""
    instance = state.instances.get(name)
    if instance is None or number >= len(instance.ranks):
        return None
    return instance.ranks[number]


def heard(state: RouterState, event: events.LoadReported) -> KnownInstance | None:
    """A report came in: the instance it is of, if that is in use."""
    instance = state.instances.get(event.instance)
    if instance is None or instance.epoch != event.epoch:
        if event.resting:
            early(state, as_told(event))
        return None
    instance.seen_us = event.now_us
    made_us = load_ledger.by_our_clock(instance, event)
    if event.change > instance.change:
        changed(state, as_told(event))
    usable = not (instance.final or instance.resting)
    if not instance.live and usable and made_us > instance.left_us:
        instance.live, instance.reason = True, ""
    load_ledger.reported(instance, event, made_us)
    return instance if instance.live else None


def as_told(event: events.LoadReported) -> events.InstanceLifecycleChanged:
    """What a report says of its instance's life: the fact of the change is late, or lost."""
    resting = RESTING if event.resting else ""
    return events.InstanceLifecycleChanged(
        now_us=event.now_us,
        instance=event.instance,
        epoch=event.epoch,
        change=event.change,
        resting=resting,
        cause="",
    )


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
        kv_holders.wipe(state, instance)
        del state.instances[instance.name]
        state.gone.pop(instance.name, None)
