"""The table of an instance's life. What is not in it does not happen.

`LifeCore` goes by it for what an instance does itself; what happens to its process is told by
the node agent, under the same names. docs/reference/life.md is generated from it.
"""

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """Where an instance is."""

    PENDING = "pending"
    LOADING = "loading"
    ACTIVE = "active"
    DRAINING = "draining"
    SILENT = "silent"
    WAKING = "waking"
    STOPPED = "stopped"
    FAILED = "failed"


RESTING = frozenset({State.DRAINING, State.SILENT, State.WAKING})
"""States in which a process takes no requests for now."""
MEANING = {
    State.PENDING: "decided, but no process yet: no node, no room, or a wait between restarts",
    State.LOADING: "the process runs and loads the model",
    State.ACTIVE: "takes requests",
    State.DRAINING: "takes no new requests; finishes what runs, then sleeps or stops",
    State.SILENT: "asleep: the process is there, KV memory and perhaps weights are not",
    State.WAKING: "memory is coming back; it takes requests as soon as it is active",
    State.STOPPED: "left in good order",
    State.FAILED: "its process ended, or gave itself up; the node agent starts another",
}


class Transition(NamedTuple):
    """One row: from where to where, who may cause it, and the fact that tells of it."""

    before: State
    after: State
    who: str
    fact: str


DECIDED = "a decision to wake (WakeDecided)"
ASKED = "a decision, or whoever ends the process"
ITSELF = "the instance"
AGENT = "the node agent"

TABLE = (
    Transition(State.PENDING, State.LOADING, AGENT, "InstanceStarted"),
    Transition(State.LOADING, State.ACTIVE, ITSELF, "InstanceReady"),
    Transition(State.ACTIVE, State.DRAINING, ASKED, "InstanceDraining"),
    Transition(State.DRAINING, State.ACTIVE, DECIDED, "InstanceReady"),
    Transition(State.DRAINING, State.SILENT, ITSELF, "InstanceSlept"),
    Transition(State.SILENT, State.WAKING, DECIDED, "InstanceWaking"),
    Transition(State.WAKING, State.ACTIVE, ITSELF, "InstanceWoke"),
    Transition(State.DRAINING, State.STOPPED, ITSELF, "InstanceStopped"),
    Transition(State.SILENT, State.STOPPED, ITSELF, "InstanceStopped"),
    Transition(State.WAKING, State.STOPPED, ITSELF, "InstanceStopped"),
    Transition(State.PENDING, State.STOPPED, AGENT, "InstanceExited"),
    Transition(State.LOADING, State.STOPPED, AGENT, "InstanceExited"),
    Transition(State.LOADING, State.FAILED, AGENT, "InstanceExited"),
    Transition(State.ACTIVE, State.FAILED, AGENT, "InstanceExited"),
    Transition(State.DRAINING, State.FAILED, AGENT, "InstanceExited"),
    Transition(State.SILENT, State.FAILED, AGENT, "InstanceExited"),
    Transition(State.WAKING, State.FAILED, AGENT, "InstanceExited"),
    Transition(State.STOPPED, State.LOADING, AGENT, "InstanceStarted"),
    Transition(State.FAILED, State.LOADING, AGENT, "InstanceStarted"),
    Transition(State.FAILED, State.PENDING, AGENT, "InstanceRefused"),
)
"""Every change there is."""

FACTS = {(row.before, row.after): row.fact for row in TABLE}


def fact_of(before: State, after: State) -> str:
    """The fact that tells of this change. Raises ValueError for one that is not in the table."""
    fact = FACTS.get((before, after))
    if fact is None:
        raise ValueError(f"an instance cannot go from {before} to {after}")
    return fact


class Step(StrEnum):
    """What sleeping and waking are made of."""

    DRAIN = "drain"
    FLUSH = "flush"
    WITHDRAW = "withdraw"
    FREE = "free"
    LOAD = "load"
    REGISTER = "register"
    WARM_UP = "warm_up"


SLEEP = (Step.DRAIN, Step.FLUSH, Step.WITHDRAW, Step.FREE)
"""Requests end or go elsewhere; KV goes to the stores; NIXL lets go of memory; memory goes."""
WAKE = (Step.LOAD, Step.REGISTER, Step.WARM_UP)
"""Memory comes back; NIXL hears of it; one token is made."""
STOP = (Step.DRAIN, Step.FLUSH)
"""Before a process ends."""
TURNS = (Step.DRAIN, Step.FLUSH)
"""Steps that a wake can end at once: nothing has been let go of yet."""
