"""The transition table of an instance's lifecycle: no other transition happens.

`LifecycleCore` (argosy.instance.lifecycle) carries out and publishes what an instance does itself;
its node agent publishes what happens to its process. lifecycle_view.py derives an instance's state
from these facts. docs/reference/lifecycle.md is generated from this module.
"""

from enum import StrEnum
from typing import NamedTuple


class LifecycleState(StrEnum):
    """The states of an instance; MEANING explains them."""

    PENDING = "pending"
    LOADING = "loading"
    ACTIVE = "active"
    DRAINING = "draining"
    SILENT = "silent"
    WAKING = "waking"
    STOPPED = "stopped"
    FAILED = "failed"


NOT_SERVING = frozenset({LifecycleState.DRAINING, LifecycleState.SILENT, LifecycleState.WAKING})
"""States in which a process is there and takes no requests for now."""
MEANING = {
    LifecycleState.PENDING: "decided, but no process: no node, no room, or a wait between restarts",
    LifecycleState.LOADING: "the process runs and loads the model",
    LifecycleState.ACTIVE: "takes requests",
    LifecycleState.DRAINING: "takes no new requests; finishes what runs, then sleeps or stops",
    LifecycleState.SILENT: "asleep: the process is there, KV memory and perhaps weights are not",
    LifecycleState.WAKING: "memory is coming back; it takes requests as soon as it is active",
    LifecycleState.STOPPED: "left in good order",
    LifecycleState.FAILED: "its process ended, or gave itself up; the node agent starts another",
}


class Transition(NamedTuple):
    """One row: from where to where, who may cause it, and the fact that tells of it."""

    before: LifecycleState
    after: LifecycleState
    who: str
    fact: str


DECIDED = "a decision to wake (WakeDecided)"
ASKED = "a decision, or a signal to end the process"
ITSELF = "the instance"
AGENT = "the node agent"

TABLE = (
    Transition(LifecycleState.PENDING, LifecycleState.LOADING, AGENT, "InstanceStarted"),
    Transition(LifecycleState.LOADING, LifecycleState.ACTIVE, ITSELF, "InstanceReady"),
    Transition(LifecycleState.ACTIVE, LifecycleState.DRAINING, ASKED, "InstanceDraining"),
    Transition(LifecycleState.DRAINING, LifecycleState.ACTIVE, DECIDED, "InstanceReady"),
    Transition(LifecycleState.DRAINING, LifecycleState.SILENT, ITSELF, "InstanceSlept"),
    Transition(LifecycleState.SILENT, LifecycleState.WAKING, DECIDED, "InstanceWaking"),
    Transition(LifecycleState.WAKING, LifecycleState.ACTIVE, ITSELF, "InstanceWoke"),
    Transition(LifecycleState.DRAINING, LifecycleState.STOPPED, ITSELF, "InstanceStopped"),
    Transition(LifecycleState.SILENT, LifecycleState.STOPPED, ITSELF, "InstanceStopped"),
    Transition(LifecycleState.WAKING, LifecycleState.STOPPED, ITSELF, "InstanceStopped"),
    Transition(LifecycleState.PENDING, LifecycleState.STOPPED, AGENT, "InstanceExited"),
    Transition(LifecycleState.LOADING, LifecycleState.STOPPED, AGENT, "InstanceExited"),
    Transition(LifecycleState.LOADING, LifecycleState.FAILED, AGENT, "InstanceExited"),
    Transition(LifecycleState.ACTIVE, LifecycleState.FAILED, AGENT, "InstanceExited"),
    Transition(LifecycleState.DRAINING, LifecycleState.FAILED, AGENT, "InstanceExited"),
    Transition(LifecycleState.SILENT, LifecycleState.FAILED, AGENT, "InstanceExited"),
    Transition(LifecycleState.WAKING, LifecycleState.FAILED, AGENT, "InstanceExited"),
    Transition(LifecycleState.STOPPED, LifecycleState.LOADING, AGENT, "InstanceStarted"),
    Transition(LifecycleState.FAILED, LifecycleState.LOADING, AGENT, "InstanceStarted"),
    Transition(LifecycleState.FAILED, LifecycleState.PENDING, AGENT, "InstanceRefused"),
)
"""Every change there is."""

FACTS = {(row.before, row.after): row.fact for row in TABLE}


def fact_of(before: LifecycleState, after: LifecycleState) -> str:
    """The fact that tells of this change. Raises ValueError for one that is not in the table."""
    fact = FACTS.get((before, after))
    if fact is None:
        raise ValueError(f"an instance cannot go from {before} to {after}")
    return fact


class LifecycleStep(StrEnum):
    """What sleeping and waking are made of."""

    DRAIN = "drain"
    FLUSH = "flush"
    WITHDRAW = "withdraw"
    FREE = "free"
    LOAD = "load"
    REGISTER = "register"
    WARM_UP = "warm_up"


SLEEP = (LifecycleStep.DRAIN, LifecycleStep.FLUSH, LifecycleStep.WITHDRAW, LifecycleStep.FREE)
"""Requests end or go elsewhere; KV goes to the stores; NIXL lets go of memory; memory goes."""
WAKE = (LifecycleStep.LOAD, LifecycleStep.REGISTER, LifecycleStep.WARM_UP)
"""Memory comes back; NIXL hears of it; one token is made."""
STOP = (LifecycleStep.DRAIN, LifecycleStep.FLUSH)
"""Before a process ends."""
TURNS = (LifecycleStep.DRAIN, LifecycleStep.FLUSH)
"""Steps that a wake can end at once: nothing has been let go of yet."""
