"""When an idle fleet goes to sleep.

When no router and no instance has had a request for `idleSleepAfter`, all prefill and decode
instances of the model go to sleep together. They do not sleep sooner than the break-even time,
which is what sleeping and waking again were measured to take: a fleet that waits for as long as a
change costs never pays more than twice what one would that knew when the next request comes (ski
rental, Karlin et al., 1988). A sleep that ended before it had paid doubles the wait, up to
PATIENCE_MAX times; one that paid halves it.
"""

from argosy.autoscaler.core.planning.sleep_decisions import decide_sleep
from argosy.autoscaler.core.state import RULE, AutoscalerState, Member
from argosy.domain.core import Effect

ROLES = ("prefill", "decode")
STAY_US = 2_000_000
"""Nothing sleeps so soon after it became active: requests that it was woken for may still be on
their way to it, and its load reports have to be heard first."""
DRAIN_US = 30_000_000
"""How long requests that run may go on, where nothing else is said. An idle fleet has none; this is
for requests that come in the same moment, which mostly take less."""
PATIENCE_MAX = 8.0
"""Traffic that comes just after each sleep makes every wait useless: beyond eight times the cost of
a change, waiting longer costs more than such sleeps do."""
SLEEP_REFUSED_US = 60_000_000
"""After a node refused to let an instance sleep, the idle rule pauses: its silent pool is full, and
that changes only when people change something."""


def sleep_if_idle(state: AutoscalerState, now_us: int) -> list[Effect]:
    """Put all that are awake to sleep, if there was nothing to do for long enough."""
    scaling = state.scaling
    if scaling is None or not scaling.idle_sleep_us:
        return []
    if now_us - state.sleep.sleep_refused_us < SLEEP_REFUSED_US:
        return []
    active = awake(state)
    settled = all(m.state == "active" and now_us - m.since_us >= STAY_US for m in active.values())
    # An instance that has just become active was brought up for something.
    idle_us = now_us - max(state.busy_us, state.sleep.up_us)
    if not active or not settled or idle_us < patience_us(state, scaling.idle_sleep_us):
        return []
    state.sleep.slept_us = now_us
    why = f"idle for {idle_us / 1e6:.1f} s"
    return [
        decide_sleep(state, name, now_us, reason=why, decided_by=RULE, drain_us=DRAIN_US)
        for name in active
    ]


def patience_us(state: AutoscalerState, idle_sleep_us: int) -> int:
    """How long the fleet has to be idle before it goes to sleep."""
    return max(idle_sleep_us, round(state.sleep.patience * break_even_us(state)))


def break_even_us(state: AutoscalerState) -> int:
    """The longest that one sleep and one wake took."""
    return max((m.slept_took_us + m.woke_took_us for m in serving(state).values()), default=0)


def learn(state: AutoscalerState, now_us: int) -> None:
    """Note whether the sleep that ends now was long enough to pay."""
    sleep = state.sleep
    if not sleep.slept_us:
        return
    paid = now_us - sleep.slept_us >= break_even_us(state)
    sleep.patience = max(1.0, sleep.patience / 2) if paid else min(PATIENCE_MAX, sleep.patience * 2)
    sleep.slept_us = 0


def serving(state: AutoscalerState, role: str = "") -> dict[str, Member]:
    """Instances that serve the model, of one role or both."""
    roles = (role,) if role else ROLES
    return {n: m for n, m in state.members.items() if m.wanted and m.role in roles}


def awake(state: AutoscalerState) -> dict[str, Member]:
    """Those that have not been told to sleep, and are at work or will be."""
    busy = ("active", "waking", "loading")
    return {n: m for n, m in serving(state).items() if m.state in busy and not m.told_to_sleep}
