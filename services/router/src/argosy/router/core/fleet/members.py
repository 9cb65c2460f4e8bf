"""Which instances the router uses: those that take requests, that are heard of and can be reached.

Where an instance is in its life is derived in argosy.domain.lifecycle_view, by the order rules
written there. This module decides what follows from it for the router.
"""

from argosy.domain.core import Effect
from argosy.domain.lifecycle import LifecycleState
from argosy.domain.lifecycle_view import ENDS, LifecycleFact, LifecycleView
from argosy.router.core import effects, events
from argosy.router.core.fleet import kv_holders, load_ledger
from argosy.router.core.state import KnownInstance, RankLedger, RouterState

EARLY_MAX = 1024
"""Instances of which facts are kept although they have not joined yet."""
FORGET_US = 600_000_000
"""Longer than any restart takes, so that an instance keeps its place until it is back."""
FREED = (LifecycleState.SILENT, LifecycleState.WAKING)
"""States in which the engine has given up its KV memory."""


def joined(state: RouterState, event: events.InstanceJoined) -> list[Effect]:
    """An instance described itself: use it, and ask what it caches if it has been there before.

    Of an older process than the one known, or of one that has ended, nothing is used.
    """
    name, before = event.instance, state.instances.get(event.instance)
    state.models[event.model] = event.max_model_tokens
    lifecycle = before.lifecycle if before else state.early.pop(name, LifecycleView())
    is_news = lifecycle.apply(
        LifecycleFact(
            state=event.state,
            at_us=event.announced_us or event.now_us,
            epoch=event.epoch,
            change=event.change,
        )
    )
    if before is not None and before.epoch == event.epoch:
        before.seen_us = event.now_us
        if is_news or (before.serving and event.change == lifecycle.newest.change):
            follow(state, before, event.now_us)
        return []
    if before is not None and lifecycle.newest.epoch != event.epoch:
        if is_news:
            follow(state, before, event.now_us)
        return []
    if before is not None:
        kv_holders.wipe(state, before)
    state.refusing.pop(name, None)
    instance = state.instances[name] = load_ledger.new_instance(event, lifecycle)
    if not instance.serving:
        follow(state, instance, event.now_us)
    elif event.announced_us and event.now_us - event.announced_us > state.limits.stale_us:
        instance.live, instance.reason = False, "announced long ago, not heard of since"
    found: list[Effect] = []
    addresses = {other.address for other in state.instances.values()}
    if before is not None and before.address not in addresses:
        found.append(effects.ForgetAddress(address=before.address))
    if event.announced_us and not instance.final:
        # It may have been at work for long before this router came.
        found += kv_holders.ask(instance)
    return found


def left(state: RouterState, event: events.InstanceLeft) -> None:
    """A process stopped or exited: the instance is used again once a newer one joins."""
    instance = state.instances.get(event.instance)
    epoch = event.epoch or (instance.epoch if instance else "")
    fact = LifecycleFact(
        state=LifecycleState.STOPPED,
        at_us=event.at_us or event.now_us,
        epoch=epoch,
        cause=event.reason,
    )
    told(state, event.instance, fact, event.now_us)


def changed(state: RouterState, event: events.InstanceLifecycleChanged) -> None:
    """An instance drains, sleeps, wakes, or is active again."""
    fact = LifecycleFact(
        state=event.state,
        at_us=event.at_us or event.now_us,
        epoch=event.epoch,
        change=event.change,
        cause=event.cause,
    )
    told(state, event.instance, fact, event.now_us)


def told(state: RouterState, name: str, fact: LifecycleFact, now_us: int) -> None:
    """Take a lifecycle fact in, and what follows from it for the use of its instance."""
    instance = state.instances.get(name)
    if instance is None:
        lifecycle = state.early[name] = state.early.pop(name, LifecycleView())
        lifecycle.apply(fact)
        if len(state.early) > EARLY_MAX:
            del state.early[next(iter(state.early))]
    elif instance.lifecycle.apply(fact):
        follow(state, instance, now_us)


def follow(state: RouterState, instance: KnownInstance, now_us: int) -> None:
    """Use an instance, or stop using it, as its lifecycle says."""
    newest = instance.lifecycle.newest
    if instance.serving:
        instance.live, instance.reason = True, ""
        return
    if newest.epoch != instance.epoch:
        reason = f"another process took its place, which is {newest.state}"
    elif newest.state in ENDS:
        reason = newest.cause
    else:
        reason = f"{newest.state}: {newest.cause}" if newest.cause else str(newest.state)
    stop_using(instance, reason, now_us)
    instance.reason = reason
    if instance.final:
        kv_holders.wipe(state, instance)
    elif newest.exact and newest.state in FREED:
        kv_holders.forget_blocks(state, instance)


def unreachable(state: RouterState, name: str, reason: str, now_us: int) -> None:
    """Stop using an instance until it is heard of again."""
    instance = state.instances.get(name)
    if instance is not None:
        stop_using(instance, reason, now_us)


def refused(state: RouterState, name: str, now_us: int) -> None:
    """An instance had no room for a request: it gets none until it reports again.

    More than one router sends to it, and the ledger of each is late.
    """
    if name in state.instances:
        state.refusing[name] = now_us


def stop_using(instance: KnownInstance, reason: str, now_us: int) -> None:
    """Send it nothing more, and expect nothing of what was sent."""
    if instance.live:
        instance.live, instance.reason, instance.left_us = False, reason, now_us
        for rank in instance.ranks:
            rank.sent.clear()
            rank.inbound.clear()
            rank.sent_blocks = rank.inbound_blocks = 0


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
        if not event.serving:
            told(state, event.instance, fact_of(event), event.now_us)
        return None
    instance.seen_us = event.now_us
    made_us = load_ledger.by_our_clock(instance, event)
    if event.change > instance.lifecycle.newest.change:
        told(state, event.instance, fact_of(event), event.now_us)
    if not instance.live and instance.serving and made_us > instance.left_us:
        instance.live, instance.reason = True, ""
    if made_us > state.refusing.get(instance.name, made_us):
        del state.refusing[instance.name]
    load_ledger.reported(instance, event, made_us)
    return instance if instance.live else None


def fact_of(event: events.LoadReported) -> LifecycleFact:
    """What a report says of its instance's lifecycle: the fact of the change is late, or lost."""
    return LifecycleFact(
        state=LifecycleState.ACTIVE if event.serving else LifecycleState.DRAINING,
        at_us=event.at_us,
        epoch=event.epoch,
        change=event.change,
        exact=event.serving,
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
    """Drop instances that have been gone for FORGET_US, with all that is known of them."""
    old = [
        instance
        for instance in state.instances.values()
        if not instance.live and now_us - max(instance.seen_us, instance.left_us) > FORGET_US
    ]
    for instance in old:
        kv_holders.wipe(state, instance)
        state.refusing.pop(instance.name, None)
        del state.instances[instance.name]
