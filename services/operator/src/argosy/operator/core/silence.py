"""Who sleeps and who wakes: by what the fleet file says, by demand, or because somebody asked.

Idle: when no router and no instance has had a request for `idleSleepAfter`, all prefill and
decode instances of the model go to sleep together. Not sooner than the break-even time, which is
what sleeping and waking again were measured to take: whoever waits for as long as a change costs
never pays more than twice what somebody would who knew when the next request comes (ski rental,
Karlin et al., 1988). A sleep that ended before it had paid doubles the wait, up to PATIENCE_MAX
times; one that paid halves it. And nothing sleeps within STAY_US of having woken.

Demand: requests wait, and nobody who could decode is awake. The decode instance that is back
soonest is woken, and the prefill instance nearest to it, both at once; one after the other
the rest follows while requests still wait, but for those that somebody put to sleep by hand.
A refusal by the node (no room) is remembered for REFUSED_US, and the next best is tried.
Without a router's word nothing is put to sleep.
"""

from argosy.domain.core import Effect
from argosy.operator.core import effects, events
from argosy.operator.core.state import OperatorState, PlacedInstance

ROLES = ("prefill", "decode")
STAY_US = 2_000_000
DRAIN_US = 30_000_000
"""How long what runs may go on, where nothing else is said."""
PATIENCE_MAX = 8.0
HEARD_US = 2_000_000
"""A router not heard of for as long tells nothing of now."""
MORE_US = 1_000_000
"""While requests wait, another pair is woken this often."""
REFUSED_US = 5_000_000
WAKE_US = 30_000_000
"""How long a wake may take, where that is not known."""
LOST_US = 5_000_000
"""Requests that have waited as long, though an instance is said to be up, cannot reach it."""
SLEEP_REFUSED_US = 60_000_000
AGAIN_US = 5_000_000
"""An instance that was told to wake and does not is told again after this."""
ROUTERS_MAX = 256
GOVERNED_US = 10_000_000
"""An autoscaler not heard of for as long is not there: all sleep and wake by the rules here."""


def step(
    state: OperatorState,
    event: events.WorkSeen
    | events.DemandSeen
    | events.RestAsked
    | events.RestRecalled
    | events.RestRefused,
) -> list[Effect]:
    """Decide on one event."""
    match event:
        case events.WorkSeen():
            return work_seen(state, event)
        case events.DemandSeen():
            return demanded(state, event)
        case events.RestAsked():
            return asked(state, event)
        case events.RestRecalled():
            recalled(state, event)
            return []
        case events.RestRefused():
            return refused(state, event)


def work_seen(state: OperatorState, event: events.WorkSeen) -> list[Effect]:
    """A router tells what it and the instances have to do."""
    rest = state.rest
    if event.requests or event.arrived_requests != rest.arrived.get(event.router):
        rest.busy_us = event.now_us
    if event.router in rest.routers or len(rest.routers) < ROUTERS_MAX:
        rest.routers[event.router] = (event.now_us, event.queued_requests)
        rest.arrived[event.router] = event.arrived_requests
    return look(state, event.now_us)


def look(state: OperatorState, now_us: int) -> list[Effect]:
    """Put to sleep what has been idle for long enough; wake more while requests wait."""
    rest = state.rest
    for name in [n for n, (at_us, _) in rest.routers.items() if now_us - at_us > HEARD_US]:
        del rest.routers[name], rest.arrived[name]
    if governed(state, now_us):
        return []  # Who is idle, and how many more are wanted, is its business.
    if any(queued for _, queued in rest.routers.values()):
        return wake_more(state, now_us) if awake(state) else []
    if not rest.idle_sleep_us or not rest.routers:
        return []
    idle_us = now_us - rest.busy_us
    active = {} if now_us - rest.sleep_refused_us < SLEEP_REFUSED_US else awake(state)
    settled = all(now_us - i.since_us >= STAY_US and i.state == "active" for i in active.values())
    if not active or not settled or idle_us < patience_us(state):
        return []
    why = f"idle for {idle_us / 1e6:.1f} s"
    return sleep(state, list(active), rest.level, DRAIN_US, why, now_us)


def governed(state: OperatorState, now_us: int) -> bool:
    """Whether an autoscaler is there that says who sleeps."""
    return now_us - state.rest.scaler_us < GOVERNED_US


def patience_us(state: OperatorState) -> int:
    """How long to stay idle before going to sleep."""
    return max(state.rest.idle_sleep_us, round(state.rest.patience * break_even_us(state)))


def break_even_us(state: OperatorState) -> int:
    """The longest that one sleep and one wake took."""
    members = fleet(state).values()
    return max((i.slept_took_us + i.woke_took_us for i in members), default=0)


def demanded(state: OperatorState, event: events.DemandSeen) -> list[Effect]:
    """Requests wait and nobody is awake."""
    state.rest.busy_us = event.now_us
    serving = [i for i in fleet(state, "decode").values() if not i.rests]
    waking = any(i.state == "waking" for i in serving)
    active = any(i.state == "active" for i in serving)
    if waking or (active and event.oldest_wait_us < LOST_US):
        return []  # On its way already, or news of it is.
    for instance in fleet(state).values():
        instance.by_hand = False  # Who asked for sleep did not ask for silence.
    return wake_pair(state, f"requests wait at {event.router}: {event.held_requests}", event.now_us)


def wake_more(state: OperatorState, now_us: int) -> list[Effect]:
    """One more pair, if requests wait although those that were woken have come."""
    coming = [
        i
        for i in fleet(state, "decode").values()
        if not i.rests and i.state in ("waking", "silent", "draining")
    ]
    known_us = max((i.woke_took_us for i in coming), default=0)
    soon_us = (2 * known_us or WAKE_US) if coming else 0
    if now_us - state.rest.woken_us < max(MORE_US, soon_us):
        return []
    return wake_pair(state, "requests wait", now_us, by_hand=False)


def wake_pair(state: OperatorState, why: str, now_us: int, *, by_hand: bool = True) -> list[Effect]:
    """The best decode instance, and the best prefill instance for it.

    by_hand: of those too that somebody has put to sleep.
    """
    rest = state.rest
    if now_us - rest.woken_us < MORE_US // 2:
        return []
    chosen: list[str] = []
    near = ""
    for role in reversed(ROLES):
        ranked = sorted(
            (wake_cost(state, i, near), name)
            for name, i in fleet(state, role).items()
            if asleep(i, now_us)
            and now_us - i.rest_refused_us > REFUSED_US
            and (by_hand or not i.by_hand)
        )
        if role == "decode" and not ranked and not fleet(state, role).keys() & awake(state).keys():
            return []  # Prefill alone answers nobody.
        if ranked:
            chosen.append(ranked[0][1])
            near = state.instances[chosen[0]].node
    if chosen:
        learn(state, now_us)
        rest.woken_us = now_us
    return wake(state, chosen, why, now_us)


def wake_cost(
    state: OperatorState, instance: PlacedInstance, near: str
) -> tuple[bool, bool, bool, int]:
    """Orders candidates: one turning round first, then those that fit, near ones, quick ones."""
    lacking = instance.template.memory_bytes - instance.resident_bytes
    fits = lacking <= state.free.get(instance.node, 0)
    return (
        instance.state == "silent",
        not fits,
        bool(near) and instance.node != near,
        instance.woke_took_us,
    )


def learn(state: OperatorState, now_us: int) -> None:
    """Whether the sleep that ends now was worth it."""
    rest = state.rest
    if not rest.slept_us:
        return
    paid = now_us - rest.slept_us >= break_even_us(state)
    rest.patience = max(1.0, rest.patience / 2) if paid else min(PATIENCE_MAX, rest.patience * 2)
    rest.slept_us = 0


def asked(state: OperatorState, event: events.RestAsked) -> list[Effect]:
    """Somebody wants these instances (none named: all) to sleep or to wake."""
    names = event.instances or sorted(fleet(state))
    names = [name for name in names if name in fleet(state)]
    if event.wake:
        return wake(state, names, event.cause, event.now_us, asked=True)
    level = event.level or state.rest.level
    drain_us = DRAIN_US if event.drain_us < 0 else event.drain_us
    return sleep(state, names, level, drain_us, event.cause, event.now_us, by_hand=True)


def sleep(
    state: OperatorState,
    names: list[str],
    level: str,
    drain_us: int,
    why: str,
    now_us: int,
    *,
    by_hand: bool = False,
) -> list[Effect]:
    """Decide that they sleep, all at once. by_hand: somebody asked for it."""
    state.rest.slept_us = now_us
    found: list[Effect] = []
    for name in names:
        instance = state.instances[name]
        instance.turn, instance.rest_refused = max(now_us, instance.turn + 1), ""
        instance.rests, instance.by_hand, instance.scaled = True, by_hand, False
        found.append(
            effects.DecideSleep(
                instance=name,
                node=instance.node,
                turn=instance.turn,
                level=level,
                drain_us=drain_us,
                reason=why,
                by_hand=by_hand,
            )
        )
    return found


def wake(
    state: OperatorState, names: list[str], why: str, now_us: int, *, asked: bool = False
) -> list[Effect]:
    """Decide that they wake, all at once. asked: somebody asked for it."""
    found: list[Effect] = []
    for name in names:
        instance = state.instances[name]
        instance.turn, instance.rest_refused = max(now_us, instance.turn + 1), ""
        instance.rests, instance.by_hand, instance.scaled = False, False, False
        found.append(
            effects.DecideWake(
                instance=name, node=instance.node, turn=instance.turn, reason=why, by_hand=asked
            )
        )
    return found


def recalled(state: OperatorState, event: events.RestRecalled) -> None:
    """The control log holds this decision."""
    instance = state.instances.get(event.instance)
    if instance is not None and event.turn > instance.turn:
        instance.turn, instance.scaled = event.turn, event.scaled
        # What an earlier process was told does not bind this one.
        instance.rests = not event.wake and event.turn >= instance.started_us


def refused(state: OperatorState, event: events.RestRefused) -> list[Effect]:
    """Its node said no. Those that were to sleep with it wake again."""
    instance = state.instances.get(event.instance)
    if instance is None or event.turn < instance.turn:
        return []
    instance.turn = event.turn
    instance.rest_refused_us, instance.rest_refused = event.now_us, event.reason
    instance.rests = event.wake
    if event.wake:
        # The next best may go at once.
        state.rest.woken_us = 0
        return []
    if instance.scaled:
        return []  # Nobody was to sleep with it.
    state.rest.sleep_refused_us = event.now_us
    partners = [n for n, i in fleet(state).items() if i.rests and not i.by_hand and not i.scaled]
    return wake(state, partners, f"{event.instance} cannot sleep", event.now_us)


def fleet(state: OperatorState, role: str = "") -> dict[str, PlacedInstance]:
    """Instances that serve the model."""
    roles = (role,) if role else ROLES
    return {
        name: instance
        for name, instance in state.instances.items()
        if instance.wanted and instance.template.role in roles
    }


def awake(state: OperatorState) -> dict[str, PlacedInstance]:
    """Those that have not been told to sleep, and are at work or will be."""
    busy = ("active", "waking", "loading")
    return {n: i for n, i in fleet(state).items() if i.state in busy and not i.rests}


def asleep(instance: PlacedInstance, now_us: int) -> bool:
    """Whether a wake would do something that is not being done."""
    if not instance.rests and now_us - instance.turn < AGAIN_US:
        return False  # It was told to, and is on its way or waits for room.
    return instance.state in ("silent", "draining") or (
        instance.rests and instance.state != "waking"
    )
