"""Who may sleep and wake on this node: the silent pool, and its sums.

A silent instance holds the memory it was read to hold, and no device; one that is awake, or on
its way there, holds all it was promised. So what is promised never exceeds the node, not even
while instances change places. A wake for which there is no room waits if room is on its way
(another is going to sleep, or ending), and begins the moment that is there; otherwise it is
refused, with the sum. Of several that wait the one decided first goes first.
"""

from argosy.domain.core import Effect
from argosy.domain.lifecycle import NOT_SERVING
from argosy.domain.lifecycle_view import LifecycleFact
from argosy.node_agent.core import effects, events
from argosy.node_agent.core.state import GIB, NodeState, Process, ProcessPhase


def sleep_decided(state: NodeState, event: events.SleepDecided) -> list[Effect]:
    """Let it sleep, if the silent pool has room for it."""
    process = state.processes.get(event.name)
    if process is None or event.decision_sequence <= process.decision_sequence:
        return []
    process.decision_sequence, process.waits = event.decision_sequence, ""
    if process.phase is not ProcessPhase.RUNNING or (
        process.sleep_state == "silent" and not process.woken_sequence
    ):
        return []
    if refusal := full(state, event.name, process, event.level):
        return [
            effects.AnnounceSleepDecisionRefused(
                name=event.name,
                decision_sequence=event.decision_sequence,
                reason=refusal,
                wake=False,
            )
        ]
    process.pooled, process.woken_sequence, process.level = True, 0, event.level
    return [
        effects.PutToSleep(
            name=event.name,
            decision_sequence=event.decision_sequence,
            level=event.level,
            drain_us=event.drain_us,
            cause=event.cause,
        )
    ]


def wake_decided(state: NodeState, event: events.WakeDecided) -> list[Effect]:
    """Let it wake, if what it needs is free, or will be."""
    process = state.processes.get(event.name)
    if process is None or event.decision_sequence <= process.decision_sequence:
        return []
    process.decision_sequence, process.waits = event.decision_sequence, event.cause
    if process.phase is not ProcessPhase.RUNNING:
        process.waits = ""
        return []
    return try_wake(state, event.name, process)


def lifecycle_changed(state: NodeState, event: events.LifecycleChanged) -> None:
    """An instance says in which state it is. What other processes than the one here say is late."""
    process = state.processes.get(event.name)
    if process is None or event.epoch != process.epoch:
        return
    lifecycle = process.lifecycle
    is_news = lifecycle.apply(
        LifecycleFact(state=event.state, at_us=event.now_us, epoch=event.epoch, change=event.change)
    )
    # One that is already as was decided has nothing new to say, and answers with its last change.
    if not is_news and (lifecycle.ended(event.epoch) or event.change != lifecycle.newest.change):
        return
    if process.phase is not ProcessPhase.RUNNING:
        return  # What it holds it holds until it is gone.
    process.sleep_state = event.state if event.state in NOT_SERVING else ""
    if process.sleep_state == "silent" and event.decision_sequence >= process.woken_sequence:
        # Read, not promised: what cannot be freed counts too.
        if event.resident_bytes:
            process.asleep_bytes[process.level] = event.resident_bytes
        process.held_bytes = process.expected_bytes(process.level)
    elif process.sleep_state == "silent":
        # It was told to wake in the middle of its sleep: it goes on to do so.
        process.sleep_state = "waking"
    else:
        process.held_bytes = process.memory_bytes
    leaves = (
        process.sleep_state not in ("draining", "silent")
        and event.decision_sequence >= process.decision_sequence
    )
    process.pooled = process.pooled and not leaves


def retry_wakes(state: NodeState) -> list[Effect]:
    """Wakes that wait, in order of their decisions."""
    waiting = sorted((p.decision_sequence, name) for name, p in state.processes.items() if p.waits)
    return [e for _, name in waiting for e in try_wake(state, name, state.processes[name])]


def try_wake(state: NodeState, name: str, process: Process) -> list[Effect]:
    """Wake it, let it wait, or refuse."""
    if process.sleep_state == "silent" and (lacking := lacks(state, name, process)):
        if coming(state, process):
            return []
        process.waits = ""
        return [
            effects.AnnounceSleepDecisionRefused(
                name=name, decision_sequence=process.decision_sequence, reason=lacking, wake=True
            )
        ]
    cause, process.waits = process.waits, ""
    process.held_bytes = process.memory_bytes
    process.pooled, process.woken_sequence = False, process.decision_sequence
    if process.sleep_state == "silent":
        process.sleep_state = "waking"
    return [effects.WakeUp(name=name, decision_sequence=process.decision_sequence, cause=cause)]


def lacks(state: NodeState, name: str, process: Process) -> str:
    """What is missing for it to be awake, as a sum; empty when nothing is."""
    more = process.memory_bytes - process.held_bytes
    if more > state.free_bytes:
        return (
            f"{name} needs {more / GIB:.1f} GiB more to wake ({process.memory_bytes / GIB:.1f}, of "
            f"which it holds {process.held_bytes / GIB:.1f}); of this node's "
            f"{state.memory_bytes / GIB:.1f} GiB {state.free_bytes / GIB:.1f} are free "
            f"(promised: {promised(state)}). Let another sleep first"
        )
    held_by = holders(state, process.devices_assigned)
    taken = {device: other for device, other in held_by.items() if other != name}
    if taken:
        held = ", ".join(f"device {device} by {other}" for device, other in sorted(taken.items()))
        return f"{name} needs what is held: {held}. Let that sleep first"
    return ""


def coming(state: NodeState, process: Process) -> bool:
    """Whether what is missing will be free soon: others are on their way to sleep or to end."""
    leaving = {
        name: other
        for name, other in state.processes.items()
        if other is not process
        and (other.phase is ProcessPhase.STOPPING or other.sleep_state == "draining")
    }
    room = state.free_bytes + sum(other.held_bytes for other in leaving.values())
    held_by = holders(state, process.devices_assigned).values()
    stuck = [n for n in held_by if n not in leaving and state.processes[n] is not process]
    return process.memory_bytes - process.held_bytes <= room and not stuck


def full(state: NodeState, name: str, process: Process, level: str) -> str:
    """Why the silent pool cannot take one more; empty when it can."""
    asleep = {n: p for n, p in state.processes.items() if p.pooled and p is not process}
    held = sum(p.expected_bytes(p.level) for p in asleep.values())
    more = process.expected_bytes(level)
    if state.silent_bytes and held + more > state.silent_bytes:
        known = "" if level in process.asleep_bytes else " at most (it has not slept yet)"
        return (
            f"{name} would hold {more / GIB:.1f} GiB{known} asleep at level {level}; of the silent "
            f"pool's {state.silent_bytes / GIB:.1f} GiB {held / GIB:.1f} are held by "
            f"{', '.join(sorted(asleep)) or 'nobody'}. Raise silent_bytes, or stop one of them"
        )
    for device in process.devices_assigned:
        beside = [n for n, p in asleep.items() if device in p.devices_assigned]
        if len(beside) >= state.silent_per_device:
            return (
                f"{len(beside)} instances sleep on device {device} already "
                f"({', '.join(sorted(beside))}), the most allowed: stop one of them"
            )
    return ""


def holders(state: NodeState, devices: list[int]) -> dict[int, str]:
    """Who holds which of these devices now: nobody who sleeps, or has no process."""
    return {
        device: name
        for name, process in state.processes.items()
        if process.sleep_state != "silent"
        and process.phase not in (ProcessPhase.STOPPED, ProcessPhase.REFUSED)
        for device in process.devices_assigned
        if device in devices
    }


def promised(state: NodeState) -> str:
    """What is held by whom, for people."""
    held = (
        f"{name} {process.held_bytes / GIB:.1f}"
        for name, process in sorted(state.processes.items())
        if process.held_bytes
    )
    return ", ".join(held) or "nothing"
