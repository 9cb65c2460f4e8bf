"""From what routers and instances count to what was asked in each slot of time.

Counters are sums since a process started, so a report that was lost costs nothing. What cannot be
(not a number, negative, running backwards) is not taken; a report that says far more came than
ever before in so short a time is believed up to GROWTH times the recent rate: what is real
goes on, and is believed a few reports later.
"""

import math

from argosy.autoscaler.core import events
from argosy.autoscaler.core.effects import PublishSlot
from argosy.autoscaler.core.state import FAR_PAST_US, AutoscalerState, RouterSeen, Sums

GROWTH = 10.0
"""A real rise goes on and is believed within a few reports; what a broken counter says is not."""
SLACK = 32.0
"""Requests that are believed in any report."""
LARGEST = 1e30
"""No counter comes so far; below it, sums and squares of means stay finite."""
USUAL_TOKENS = 1024.0
"""Of a request, before any was seen."""
TOKENS_MAX = 1e7
"""No request has more."""
RECENT_US = 15_000_000
BUCKET_US = 1_000_000
ROUTERS_MAX = 256
MIX_S = 600.0
"""Requests so much older weigh 1/e in what requests are like."""
STRIDE_MAX_US = 60_000_000
"""A report this long after the last one tells when its requests came only roughly."""


def valid(*values: float) -> bool:
    """Whether all are numbers that counters can have."""
    return all(0 <= value <= LARGEST for value in values)


def traffic_seen(state: AutoscalerState, event: events.TrafficSeen) -> None:
    """Count what came since the router's last report."""
    counts = (event.requests, event.prompt_tokens, event.prompt_tokens_squared, event.cached_tokens)
    if not valid(*counts, event.queued, event.queued_tokens):
        return
    now_us = event.now_us
    before = state.routers.get(event.router)
    if before is None and len(state.routers) >= ROUTERS_MAX:
        oldest = min(state.routers, key=lambda name: (state.routers[name].heard_us, name))
        del state.routers[oldest]
    waited = before.queued if before is not None else 0
    queued = int(min(event.queued, GROWTH * waited + SLACK))
    state.routers[event.router] = RouterSeen(event.epoch, now_us, counts, queued)
    state.since_us = state.since_us or now_us
    state.heard_us, state.trace = now_us, event.trace or state.trace
    if event.queued or event.running:
        state.busy_us = now_us
    if before is None:
        note(state, now_us, 0)
        return  # What it counted before anybody listened is no news.
    base = before.sums if before.epoch == event.epoch else (0.0, 0.0, 0.0, 0.0)
    grown = [value - past for value, past in zip(counts, base, strict=True)]
    if min(grown) < 0:
        return
    _arrived(state, grown, now_us, now_us - before.heard_us)


def _arrived(state: AutoscalerState, grown: list[float], now_us: int, since_us: int) -> None:
    requests = grown[0]
    believed = min(requests, most(state, now_us, since_us))
    note(state, now_us, believed)
    if not requests:
        return
    state.clipped += requests - believed
    share = believed / requests
    usual = state.mix.prompt_tokens / state.mix.requests if state.mix.requests >= 1 else 0.0
    tokens, squares = lengths(believed, share * grown[1], share * grown[2], usual)
    came = Sums(believed, tokens, squares, min(share * grown[3], tokens))
    state.mix.add(came)
    if since_us > state.limits.slot_us:
        # It tells of slots that are over as well.
        came.fade(state.limits.slot_us / since_us)
    state.slot.add(came)
    state.busy_us = now_us


def most(state: AutoscalerState, now_us: int, since_us: int) -> float:
    """Requests that are believed of a report so long after the one before."""
    stride_s = min(max(since_us, 1), STRIDE_MAX_US) / 1e6
    return GROWTH * recent_rate(state, now_us) * stride_s + SLACK


def lengths(count: float, tokens: float, squares: float, usual: float) -> tuple[float, float]:
    """Sums of lengths and of their squares, as far as they can be so of `count` requests."""
    believed = min(tokens, GROWTH * max(usual, USUAL_TOKENS) * (count + SLACK), count * TOKENS_MAX)
    if not count or not tokens:
        return 0.0, 0.0
    squares *= (believed / tokens) ** 2
    # Neither less than if all were equal, nor more than if one had it all.
    return believed, min(max(squares, believed**2 / count), believed * min(believed, TOKENS_MAX))


def note(state: AutoscalerState, now_us: int, requests: float) -> None:
    """Keep what came in the last RECENT_US, to a second, and one report from before."""
    recent = state.recent
    if len(recent) > 1 and now_us - recent[-2][0] < BUCKET_US:
        recent[-1] = (now_us, recent[-1][1] + requests)
    else:
        recent.append((now_us, requests))
    while len(recent) > 2 and recent[1][0] <= now_us - RECENT_US:
        recent.pop(0)


def recent_rate(state: AutoscalerState, now_us: int) -> float:
    """Requests per second since the oldest report kept."""
    recent = state.recent
    if not recent or now_us <= recent[0][0]:
        return 0.0
    return sum(requests for _, requests in recent[1:]) / ((now_us - recent[0][0]) / 1e6)


def load_seen(state: AutoscalerState, event: events.LoadSeen) -> None:
    """Note what an instance has to do, and count what it finished."""
    member = state.members.get(event.instance)
    counts = (event.finished, event.output_tokens, event.output_tokens_squared)
    if member is None or event.epoch != member.epoch:
        return
    if not valid(*counts, event.running, event.waiting, event.queued_tokens, event.kv_share):
        return
    member.running = int(event.running)
    member.waiting = int(min(event.waiting, GROWTH * member.waiting + SLACK))
    member.queued_tokens, member.kv_share = int(event.queued_tokens), min(1.0, event.kv_share)
    heard, member.heard_us = member.heard_us, event.now_us
    if member.running or member.waiting:
        state.busy_us = event.now_us
    grown = [value - past for value, past in zip(counts, member.sums, strict=True)]
    member.sums = counts
    if heard != FAR_PAST_US and min(grown) >= 0:
        ended = _ended(state, grown, event.now_us, event.now_us - heard)
        state.slot.add(ended)
        state.mix.add(ended)


def _ended(state: AutoscalerState, grown: list[float], now_us: int, since_us: int) -> Sums:
    """What finished, believed as what came is."""
    finished = min(grown[0], most(state, now_us, since_us))
    share = finished / grown[0] if grown[0] else 0.0
    usual = state.mix.output_tokens / state.mix.finished if state.mix.finished >= 1 else 0.0
    return Sums(0, 0, 0, 0, finished, *lengths(finished, share * grown[1], share * grown[2], usual))


def close_slots(state: AutoscalerState, now_us: int) -> list[PublishSlot]:
    """The slots that have ended: those in which no router reported are gaps, and left out."""
    slot_us = state.limits.slot_us
    start_us = now_us // slot_us * slot_us
    if not state.slot_start_us or start_us < state.slot_start_us:
        # The first slot is one only in part, as is one after a step back of the clock.
        state.slot_start_us, state.slot = start_us, Sums()
        return []
    if start_us == state.slot_start_us:
        return []
    ended, state.slot = state.slot, Sums()
    began_us, state.slot_start_us = state.slot_start_us, start_us
    fade(state, slot_us / 1e6)
    # Of several at once it is not known what came in which; nor, without its end, of one.
    known_us = max(began_us, start_us - state.limits.stale_us)
    if state.heard_us < known_us or start_us - began_us > slot_us:
        return []
    return [closed(began_us, slot_us / 1e6, ended)]


def closed(start_us: int, seconds: float, sums: Sums) -> PublishSlot:
    """A slot as it is published."""
    return PublishSlot(
        start_us=start_us,
        seconds=seconds,
        requests=sums.requests,
        prompt_tokens=sums.prompt_tokens,
        prompt_tokens_squared=sums.prompt_tokens_squared,
        cached_tokens=sums.cached_tokens,
        finished=sums.finished,
        output_tokens=sums.output_tokens,
        output_tokens_squared=sums.output_tokens_squared,
    )


def fade(state: AutoscalerState, seconds: float) -> None:
    """Let what requests were like weigh less, the longer ago."""
    state.mix.fade(math.exp(-seconds / MIX_S))


def recalled(state: AutoscalerState, event: events.SlotRecalled) -> bool:
    """History: what requests were like, decayed by time; whether it can have been so."""
    slot = Sums(
        event.requests,
        event.prompt_tokens,
        event.prompt_tokens_squared,
        event.cached_tokens,
        event.finished,
        event.output_tokens,
        event.output_tokens_squared,
    )
    known = valid(event.seconds, *(getattr(slot, name) for name in slot.__struct_fields__))
    if known and event.seconds and event.start_us <= event.now_us:
        slot.prompt_tokens, slot.prompt_tokens_squared = lengths(
            slot.requests, slot.prompt_tokens, slot.prompt_tokens_squared, TOKENS_MAX
        )
        slot.output_tokens, slot.output_tokens_squared = lengths(
            slot.finished, slot.output_tokens, slot.output_tokens_squared, TOKENS_MAX
        )
        slot.cached_tokens = min(slot.cached_tokens, slot.prompt_tokens)
        fade(state, event.seconds)
        state.mix.add(slot)
        return True
    return False
