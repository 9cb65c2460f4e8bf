"""The load ledger: what instances have reported, and what was sent to them since."""

from argosy.domain.lifecycle_view import LifecycleView
from argosy.domain.timing import Timing
from argosy.router.core import events
from argosy.router.core.state import InFlightPrefill, KnownInstance, RankLedger, RouterState

TRANSIT_US = 20_000
"""A dispatch this much older than a report is in the report: more than a submission takes, and
less than most steps."""
REQUESTS_FACTOR = 2
"""A rank may have twice the requests it can run, so that its own queue never runs dry."""
SMOOTHING = 0.2
"""Weight of the newest step length: five steps or so decide."""
STEP_US_MAX = 2_000_000
"""Longer steps are reports of a stall: they must not stretch the window without bound."""
WRITTEN_HALF_US = 60_000_000
"""KV lives for minutes in a cache: what was written a minute ago still displaces other blocks."""
BUSY_HALF_US = 5_000_000
"""Several prefill steps, so that the share is smooth, and few enough to follow the load."""
BUSY_TO_SHARE = 0.693147 / BUSY_HALF_US
"""ln 2 / half-life: a sum that decays at this rate is a share when nothing but work is added."""
INBOUND_GRACE_US = 5_000_000
"""After its predicted first token an inbound request keeps its KV this long, if we see the first
token ourselves: the prediction may be seconds off."""
UNREPORTED_GRACE_US = 100_000
"""The same where we do not see it: the rank's next report shows the request anyway."""


def new_instance(event: events.InstanceJoined, lifecycle: LifecycleView) -> KnownInstance:
    """An instance as it announces itself."""
    ranks = [RankLedger(n, f"{event.instance}/{n}") for n in range(max(1, event.dp_ranks))]
    return KnownInstance(
        event.instance,
        event.epoch,
        event.role,
        event.address,
        event.node,
        event.rack,
        event.model,
        max(1, event.kv_total_blocks),
        max(1, event.block_tokens),
        event.max_model_tokens,
        event.max_running_requests,
        max(1, event.tokens_per_step),
        event.timing or Timing(),
        ranks,
        rank_requests_max(event, len(ranks)),
        seen_us=event.now_us,
        lifecycle=lifecycle,
    )


def rank_requests_max(event: events.InstanceJoined, ranks: int) -> int:
    """Most requests to send to each rank of the instance."""
    usual = REQUESTS_FACTOR * event.max_running_requests
    return min(usual, max(1, event.requests_max // ranks)) if event.requests_max else usual


def reported(instance: KnownInstance, event: events.LoadReported, made_us: int) -> None:
    """Correct the ledger by a report made then, unless a newer one was taken in before."""
    if event.at_us < instance.reported_us:
        return
    advance(instance, event.now_us)
    instance.reported_us = event.at_us
    instance.kv_held_blocks = event.kv_held_blocks
    if event.step_us:
        step_us = min(event.step_us, STEP_US_MAX)
        share = SMOOTHING if instance.step_us else 1.0
        instance.step_us += share * (step_us - instance.step_us)
    # With all there was still there, it was made in the middle of the step.
    ended = any(
        load.queued_prefill_tokens < rank.queued_prefill_tokens
        for rank, load in zip(instance.ranks, event.ranks, strict=False)
    )
    idle = not any(load.queued_prefill_tokens for load in event.ranks)
    under_way = instance.step_ends_us > event.now_us and not ended and not idle
    for rank, load in zip(instance.ranks, event.ranks, strict=False):
        rank.running_requests = load.running_requests
        rank.waiting_requests = load.waiting_requests
        rank.kv_used_blocks = load.kv_used_blocks
        rank.queued_prefill_tokens = rank.backlog_tokens = load.queued_prefill_tokens
        if under_way:
            rank.backlog_tokens = max(0, rank.backlog_tokens - rank.step_tokens)
        else:
            rank.step_tokens = 0
    if not under_way:
        instance.busy, instance.step_ends_us = False, made_us
        begin_step(instance, made_us)
    for rank in instance.ranks:
        if rank.sent:
            uncover(instance, rank, made_us - TRANSIT_US)


def uncover(instance: KnownInstance, rank: RankLedger, covered_us: int) -> None:
    """Drop from a rank's `sent` what a report covers, and add the rest to its work."""
    rank.sent = {key: sent for key, sent in rank.sent.items() if sent.at_us > covered_us}
    rank.sent_blocks = 0
    for sent in rank.sent.values():
        rank.sent_blocks += sent.kv_blocks
        add_work(instance, rank, sent.prefill_tokens, sent.at_us)


def begin_step(instance: KnownInstance, at_us: int) -> None:
    """The next prefill step starts: each rank takes what fits of its backlog."""
    step_ms = 0.0
    for rank in instance.ranks:
        rank.step_tokens = min(rank.backlog_tokens, instance.tokens_per_step)
        rank.backlog_tokens -= rank.step_tokens
        if rank.step_tokens:
            step_ms = max(step_ms, step_time_ms(instance, rank, rank.step_tokens))
    instance.busy = step_ms > 0
    if instance.busy:
        instance.step_started_us = at_us
        instance.step_ends_us = at_us + max(1, round(1e3 * step_ms))


def advance(instance: KnownInstance, now_us: int) -> None:
    """End the steps that must be over by now and begin the next ones, with or without reports.

    Reading a rank's load as of now takes this first; see `estimates`.
    """
    while instance.busy and instance.step_ends_us <= now_us:
        begin_step(instance, instance.step_ends_us)


def add_work(instance: KnownInstance, rank: RankLedger, tokens: int, at_us: int) -> None:
    """Prompt tokens reach a rank: they join a step that starts only now, or the backlog."""
    rank.backlog_tokens += tokens
    if not instance.busy:
        begin_step(instance, max(at_us, instance.step_ends_us))
    elif instance.step_started_us >= at_us and rank.step_tokens < instance.tokens_per_step:
        joins = min(rank.backlog_tokens, instance.tokens_per_step - rank.step_tokens)
        rank.step_tokens += joins
        rank.backlog_tokens -= joins
        took_us = round(1e3 * step_time_ms(instance, rank, rank.step_tokens))
        instance.step_ends_us = max(instance.step_ends_us, instance.step_started_us + took_us)


def step_time_ms(instance: KnownInstance, rank: RankLedger, tokens: int) -> float:
    """Milliseconds of one step over this many prompt tokens, with the rank's decodes."""
    took = instance.timing.prefill_step_ms(tokens)
    if rank.running_requests and instance.role != "prefill":
        took += decode_ms(instance, rank)
    return took


def prefill_ms(instance: KnownInstance, rank: RankLedger, tokens: int) -> float:
    """How long a rank takes over this many prompt tokens, its decodes in every step."""
    took = instance.timing.prompt_ms(tokens, instance.tokens_per_step)
    if rank.running_requests and instance.role != "prefill":
        took += -(-tokens // instance.tokens_per_step) * decode_ms(instance, rank)
    return took


def decode_ms(instance: KnownInstance, rank: RankLedger) -> float:
    """One decode step of a rank, with what it has and what is on its way."""
    return decode_step_ms(instance, rank.kv_blocks, rank.requests)


def decode_step_ms(instance: KnownInstance, kv_blocks: int, requests: int) -> float:
    """Milliseconds of a decode step of a rank with this many KV blocks in use and requests."""
    share = kv_blocks / instance.kv_total_blocks
    return instance.timing.decode_step_ms(share if share < 1 else 1.0, requests)


def send(
    instance: KnownInstance,
    rank: RankLedger,
    request_id: str,
    tokens: int,
    kv_blocks: int,
    now_us: int,
) -> None:
    """A request goes to a rank to be prefilled."""
    advance(instance, now_us)
    add_work(instance, rank, tokens, now_us)
    unsend(rank, request_id)
    rank.sent[request_id] = InFlightPrefill(now_us, tokens, kv_blocks)
    rank.sent_blocks += kv_blocks
    took_us = 1e3 * prefill_ms(instance, rank, tokens)
    rank.written_tokens = written(rank, now_us) + tokens
    rank.busy_us = decayed(rank.busy_us, now_us - rank.written_us, BUSY_HALF_US) + took_us
    rank.written_us = now_us


def unsend(rank: RankLedger, request_id: str) -> None:
    """A request does not go there after all, or is over."""
    sent = rank.sent.pop(request_id, None)
    if sent is not None:
        rank.sent_blocks -= sent.kv_blocks
    arrived(rank, request_id)


def expect(
    rank: RankLedger,
    request_id: str,
    kv_blocks: int,
    first_token_us: int,
    *,
    first_token_seen: bool = True,
) -> None:
    """A request will be decoded here once its KV is there.

    first_token_seen: whether FirstTokenSeen will come; if not, the rank's own reports soon show
    the request.
    """
    arrived(rank, request_id)
    grace_us = INBOUND_GRACE_US if first_token_seen else UNREPORTED_GRACE_US
    rank.inbound[request_id] = (kv_blocks, first_token_us + grace_us)
    rank.inbound_blocks += kv_blocks


def arrived(rank: RankLedger, request_id: str) -> None:
    """A request is no longer on its way here: the rank's own reports show it."""
    inbound = rank.inbound.pop(request_id, None)
    if inbound is not None:
        rank.inbound_blocks -= inbound[0]


def decayed(value: float, past_us: int, half_us: int) -> float:
    """What is left of a sum that halves every `half_us`."""
    share: float = 0.5 ** (past_us / half_us)
    return value * share


def written(rank: RankLedger, now_us: int) -> float:
    """Tokens of new KV sent to a rank; halved every WRITTEN_HALF_US."""
    return decayed(rank.written_tokens, now_us - rank.written_us, WRITTEN_HALF_US)


def busy_share(rank: RankLedger, now_us: int) -> float:
    """Share of its time that a rank spends prefilling what was sent; over some BUSY_HALF_US."""
    return decayed(rank.busy_us, now_us - rank.written_us, BUSY_HALF_US) * BUSY_TO_SHARE


def predicted_idle(instance: KnownInstance, idle_at_us: int, now_us: int) -> None:
    """The instance itself says when it will be out of work: believe it, but for what it
    cannot know of yet.
    """
    advance(instance, now_us)
    if any(rank.sent for rank in instance.ranks):
        return
    if idle_at_us <= now_us:
        instance.busy, instance.step_ends_us = False, now_us
        for rank in instance.ranks:
            rank.step_tokens = rank.backlog_tokens = 0
    elif instance.busy and not any(rank.backlog_tokens for rank in instance.ranks):
        instance.step_ends_us = min(idle_at_us, now_us + STEP_US_MAX)


def by_our_clock(instance: KnownInstance, event: events.LoadReported) -> int:
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
                rank.step_tokens = rank.backlog_tokens = 0
            for key in [key for key, sent in rank.sent.items() if sent.at_us <= old_us]:
                rank.sent_blocks -= rank.sent.pop(key).kv_blocks
            for key in [key for key, (_, until) in rank.inbound.items() if until <= now_us]:
                arrived(rank, key)
