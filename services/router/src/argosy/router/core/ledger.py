"""What the router believes of instances: joined, left, loaded, silent."""

from argosy.router.core import events as on
from argosy.router.core.state import Instance, RouterState

GONE_EPOCHS = 8
"""Goodbyes remembered of each instance, since they may overtake its arrival."""
FORGET_US = 600_000_000
TRANSIT_US = 20_000
"""A dispatch this much older than a report has reached the instance by then."""


def joined(state: RouterState, event: on.InstanceJoined) -> str:
    """Take an instance in. Returns the address an older epoch had, if nobody has it now."""
    before = state.instances.get(event.instance)
    state.models[event.model] = event.max_model_tokens
    if before is not None and before.epoch == event.epoch:
        before.seen_us = event.now_us
        if not before.final:
            before.live, before.reason = True, ""
        return ""
    instance = state.instances[event.instance] = Instance(
        event.epoch, event.role, event.address, event.node, event.model,
        event.kv_total_blocks, event.block_tokens, event.max_model_tokens,
        event.max_running_requests, seen_us=event.now_us,
    )  # fmt: skip
    if event.announced_us and event.now_us - event.announced_us > state.stale_us:
        instance.live, instance.reason = False, "announced long ago, not heard of since"
    if event.epoch in state.gone.get(event.instance, ()):
        instance.live, instance.final, instance.reason = False, True, "gone before it was known"
    addresses = {other.address for other in state.instances.values()}
    return before.address if before is not None and before.address not in addresses else ""


def left(
    state: RouterState, name: str, reason: str, now_us: int, *, epoch: str = "", final: bool = False
) -> None:
    """Stop using an instance (of that epoch, if one is given).

    final: it said so itself. Otherwise it is used again once it is heard of again.
    """
    if final and epoch:
        state.gone[name] = [epoch, *state.gone.get(name, ())][:GONE_EPOCHS]
    instance = state.instances.get(name)
    if instance is None or epoch not in ("", instance.epoch):
        return
    instance.final = instance.final or final
    if instance.live:
        instance.live, instance.reason, instance.left_us = False, reason, now_us
        instance.dispatched.clear()


def reported(state: RouterState, event: on.LoadReported) -> bool:
    """Correct the ledger by a report. False if the report is of another life."""
    instance = state.instances.get(event.instance)
    if instance is None or instance.epoch != event.epoch:
        return False
    instance.seen_us = event.now_us
    made_us = by_our_clock(instance, event)
    if not instance.live and not instance.final and made_us > instance.left_us:
        instance.live, instance.reason = True, ""
    if event.at_us < instance.reported_us:
        return instance.live
    instance.reported_us = event.at_us
    instance.running_requests = event.running_requests
    instance.waiting_requests = event.waiting_requests
    instance.queued_prefill_tokens = event.queued_prefill_tokens
    instance.kv_used_blocks = event.kv_used_blocks
    instance.kv_held_blocks = event.kv_held_blocks
    covered = made_us - TRANSIT_US
    instance.dispatched = {
        key: entry for key, entry in instance.dispatched.items() if entry[0] > covered
    }
    return instance.live


def by_our_clock(instance: Instance, event: on.LoadReported) -> int:
    """When a report was made, whatever the skew between the instance's clock and ours.

    The quickest report so far tells the skew, up to its own time in transit.
    """
    behind_us = event.now_us - event.at_us
    if instance.clock_behind_us is None or behind_us < instance.clock_behind_us:
        instance.clock_behind_us = behind_us
    return event.at_us + instance.clock_behind_us


def silent(state: RouterState, now_us: int) -> list[str]:
    """Live instances not heard of for `stale_us`; none while the bus is away.

    Nor when all of several have fallen silent at once: then it is the bus that is gone,
    whatever the connection says.
    """
    live = [name for name, instance in state.instances.items() if instance.live]
    quiet = [n for n in live if now_us - state.instances[n].seen_us > state.stale_us]
    if not state.bus_connected or (len(live) > 1 and len(quiet) == len(live)):
        return []
    return quiet


def forget(state: RouterState, now_us: int) -> None:
    """Drop instances that have been gone for FORGET_US, and what is known of their past."""
    old = [
        name
        for name, instance in state.instances.items()
        if not instance.live and now_us - max(instance.seen_us, instance.left_us) > FORGET_US
    ]
    for name in old:
        del state.instances[name]
        state.gone.pop(name, None)


def expire(state: RouterState, now_us: int) -> None:
    """What was dispatched or last reported `ledger_us` ago says nothing of now."""
    for instance in state.instances.values():
        if now_us - instance.seen_us >= state.ledger_us:
            instance.running_requests = instance.waiting_requests = 0
            instance.queued_prefill_tokens = 0
            instance.kv_used_blocks = instance.kv_held_blocks = 0
        instance.dispatched = {
            key: entry
            for key, entry in instance.dispatched.items()
            if now_us - entry[0] < state.ledger_us
        }
