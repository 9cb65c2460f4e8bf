"""What the router believes of instances' load: reports, corrected by what was sent since."""

from argosy.mesh.timing import Timing
from argosy.router.core import events as on
from argosy.router.core.state import Instance, Rank, RouterState, Sent

TRANSIT_US = 20_000
"""A dispatch this much older than a report has reached the instance by then."""
SMOOTHING = 0.2
PASS_US_MAX = 2_000_000
"""A pass is not believed to last longer: what stretches the window is bounded."""
WRITTEN_HALF_US = 60_000_000
BUSY_HALF_US = 5_000_000
BUSY_TO_SHARE = 0.693147 / BUSY_HALF_US
INBOUND_GRACE_US = 5_000_000


def new_instance(event: on.InstanceJoined) -> Instance:
    """An instance as it announces itself."""
    ranks = [Rank(n, f"{event.instance}/{n}") for n in range(max(1, event.dp_ranks))]
    return Instance(
        event.instance, event.epoch, event.role, event.address, event.node, event.rack,
        event.model, event.kv_total_blocks, event.block_tokens, event.max_model_tokens,
        event.max_running_requests, event.tokens_per_pass, event.timing or Timing(), ranks,
        seen_us=event.now_us,
    )  # fmt: skip


def reported(instance: Instance, event: on.LoadReported) -> bool:
    """Correct the ledger by a report; False if a newer one was taken in before."""
    made_us = by_our_clock(instance, event)
    if event.at_us < instance.reported_us:
        return False
    instance.reported_us = event.at_us
    instance.kv_held_blocks = event.kv_held_blocks
    if event.pass_us:
        pass_us = min(event.pass_us, PASS_US_MAX)
        share = SMOOTHING if instance.pass_us else 1.0
        instance.pass_us += share * (pass_us - instance.pass_us)
    covered_us = made_us - TRANSIT_US
    pass_ms = 0.0
    for rank, load in zip(instance.ranks, event.ranks, strict=False):
        rank.running_requests = load.running_requests
        rank.waiting_requests = load.waiting_requests
        rank.queued_prefill_tokens = load.queued_prefill_tokens
        rank.kv_used_blocks = load.kv_used_blocks
        rank.prefill_done_us = made_us
        if load.queued_prefill_tokens:
            rank.prefill_done_us += round(
                1e3 * prefill_ms(instance, rank, load.queued_prefill_tokens)
            )
        chunk = min(load.queued_prefill_tokens, instance.tokens_per_pass)
        pass_ms = max(pass_ms, instance.timing.prefill_pass_ms(chunk))
        if rank.sent:
            uncover(instance, rank, covered_us)
    if pass_ms:
        instance.pass_ends_us = made_us + round(1e3 * pass_ms)
    return True


def uncover(instance: Instance, rank: Rank, covered_us: int) -> None:
    """Drop from a rank's `sent` what a report covers, and add the rest to its work."""
    rank.sent = {key: sent for key, sent in rank.sent.items() if sent.at_us > covered_us}
    rank.sent_blocks = 0
    for sent in rank.sent.values():
        rank.sent_blocks += sent.kv_blocks
        rank.prefill_done_us += round(1e3 * prefill_ms(instance, rank, sent.prefill_tokens))


def prefill_ms(instance: Instance, rank: Rank, tokens: int) -> float:
    """How long a rank takes over this many prompt tokens, its decodes in every pass."""
    timing = instance.timing
    took = timing.prompt_ms(tokens, instance.tokens_per_pass)
    if rank.running_requests and instance.role != "prefill":
        passes = 1 + tokens // instance.tokens_per_pass
        took += passes * decode_ms(instance, rank)
    return took


def decode_ms(instance: Instance, rank: Rank, more_blocks: int = 0, more_requests: int = 0) -> float:
    """One decode pass of a rank, with that much more on it."""
    share = min(1.0, (rank.kv_blocks + more_blocks) / max(1, instance.kv_total_blocks))
    return instance.timing.decode_pass_ms(share, rank.requests + more_requests)


def send(
    instance: Instance, rank: Rank, request_id: str, tokens: int, kv_blocks: int, now_us: int
) -> None:
    """A request goes to a rank to be prefilled."""
    took_us = round(1e3 * prefill_ms(instance, rank, tokens))
    starts_us = max(now_us, rank.prefill_done_us)
    rank.prefill_done_us = starts_us + took_us
    if instance.pass_ends_us <= now_us:
        chunk = min(tokens, instance.tokens_per_pass)
        instance.pass_ends_us = now_us + round(1e3 * instance.timing.prefill_pass_ms(chunk))
    rank.sent[request_id] = Sent(now_us, tokens, kv_blocks)
    rank.sent_blocks += kv_blocks
    past_us = now_us - rank.written_us
    rank.written_tokens = rank.written_tokens * 0.5 ** (past_us / WRITTEN_HALF_US) + tokens
    rank.busy_us = rank.busy_us * 0.5 ** (past_us / BUSY_HALF_US) + took_us
    rank.written_us = now_us


def unsend(rank: Rank, request_id: str, now_us: int) -> None:
    """A request does not go there after all, or is over."""
    sent = rank.sent.pop(request_id, None)
    if sent is not None:
        rank.sent_blocks -= sent.kv_blocks
    arrived(rank, request_id)


def expect(rank: Rank, request_id: str, kv_blocks: int, first_token_us: int) -> None:
    """A request will be decoded here once its KV is there."""
    rank.inbound[request_id] = (kv_blocks, first_token_us + INBOUND_GRACE_US)
    rank.inbound_blocks += kv_blocks


def arrived(rank: Rank, request_id: str) -> None:
    """A request is no longer on its way here: the rank's own reports show it."""
    inbound = rank.inbound.pop(request_id, None)
    if inbound is not None:
        rank.inbound_blocks -= inbound[0]


def written(rank: Rank, now_us: int) -> float:
    """Tokens of new KV sent to a rank of late."""
    past: float = 0.5 ** ((now_us - rank.written_us) / WRITTEN_HALF_US)
    return rank.written_tokens * past


def busy_share(rank: Rank, now_us: int) -> float:
    """Share of its time a rank has spent prefilling of late, as far as we sent it."""
    past: float = 0.5 ** ((now_us - rank.written_us) / BUSY_HALF_US)
    return rank.busy_us * past * BUSY_TO_SHARE


def predicted_idle(instance: Instance, idle_at_us: int, now_us: int) -> None:
    """The instance itself says when it will be out of work: believe it, but for what it
    cannot know of yet."""
    bound_us = now_us + 10 * PASS_US_MAX
    for rank in instance.ranks:
        if not rank.sent:
            rank.prefill_done_us = min(max(idle_at_us, now_us), bound_us)


def by_our_clock(instance: Instance, event: on.LoadReported) -> int:
    """When a report was made, whatever the skew between the instance's clock and ours.

    The quickest report so far tells the skew, up to its own time in transit.
    """
    behind_us = event.now_us - event.at_us
    if instance.clock_behind_us is None or behind_us < instance.clock_behind_us:
        instance.clock_behind_us = behind_us
    return event.at_us + instance.clock_behind_us


def expire(state: RouterState, now_us: int) -> None:
    """What was sent or last reported `ledger_us` ago says nothing of now."""
    old_us = now_us - state.limits.ledger_us
    for instance in state.instances.values():
        silent = instance.seen_us <= old_us
        for rank in instance.ranks:
            if silent:
                rank.running_requests = rank.waiting_requests = 0
                rank.queued_prefill_tokens = rank.kv_used_blocks = 0
            for key in [key for key, sent in rank.sent.items() if sent.at_us <= old_us]:
                rank.sent_blocks -= rank.sent.pop(key).kv_blocks
            for key in [key for key, (_, until) in rank.inbound.items() if until <= now_us]:
                arrived(rank, key)
        for key in [key for key, until in instance.background.items() if until <= now_us]:
            del instance.background[key]
