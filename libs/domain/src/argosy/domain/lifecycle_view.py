"""What is known of an instance's life: the one reducer of lifecycle facts, and its order rules.

Two sources tell of an instance. Each of its processes tells of its own changes and numbers them
from 1; load reports repeat the last number. Its node agent tells that a process started, that it
ended, or that none could be started. These facts travel on different subjects: they overtake each
other, come twice, and are read back from the control log in any order. The rules:

1. A newer process replaces an older one, whatever the older one says. A process is named by its
   epoch. Epochs have no order, so the process whose earliest known fact is the later one is the
   newer. All times are of the node's clock. (The latest fact would not do: when a node agent dies,
   its processes take up to their grace period to stop, and tell of that beside their successors.)
2. Where those times are equal, a process that runs is newer than a refusal to start one, and that
   is newer than a process that ended: a node agent may tell of all three in one millisecond. If
   this does not decide it either, a process that is now heard to load or to be active is newer.
3. Within one process the change number decides and no clock does. The start comes before every
   numbered change. The end comes after all of them: nothing that a process said counts once its
   node agent has said that it ended.
4. A load report may say only that a process takes no requests. That stands until a fact of the
   same number says in which state the process is.
5. A fact that names no process (a refusal) is ordered by its time alone.
6. Facts of a process that has not been heard of before are kept like any other, so an end that
   overtakes its start holds. Of each instance the newest PROCESSES_MAX processes are remembered.
7. A state that is not in the transition table is ignored.

So the order in which facts come makes no difference to the view (but for the last sentence of
rule 2, which needs two processes that begin in one microsecond), and the view never goes back to
an older state. One thing is taken on trust: a node's clock is not set back by more than a process
takes to load. Where it is, an instance may be shown as ended until its process next starts.
"""

import msgspec

from argosy.domain.lifecycle import TABLE, LifecycleState

STATES = frozenset({state for row in TABLE for state in (row.before, row.after)})
ENDS = frozenset({LifecycleState.STOPPED, LifecycleState.FAILED})
BEGINS = frozenset({LifecycleState.LOADING, LifecycleState.ACTIVE})
PROCESSES_MAX = 8
"""A fact that is not acknowledged comes again for 150 s at most: 5 deliveries, 30 s apart. One that
fails again and again is started every 10 s then, but says nothing between its start and its end,
so what older ones said is long past."""
STARTED = -1
"""Stands for the number of a start: before every change of the process."""
ENDED = 1 << 62
"""Stands for the number of an end: after every change of the process."""


class LifecycleFact(msgspec.Struct, frozen=True, kw_only=True):
    """One fact of an instance's life."""

    state: str
    """A state of the transition table."""
    at_us: int
    """When it came to be in it, by its node's clock."""
    epoch: str = ""
    """Of its process; empty: the fact names none."""
    change: int = 0
    """Number of the change, where the process tells of it; 0: its node agent does."""
    exact: bool = True
    """False: that it takes no requests is all that is known (rule 4)."""
    cause: str = ""


class ProcessView(msgspec.Struct):
    """What is known of one process of an instance."""

    epoch: str
    state: LifecycleState
    change: int
    """Of the newest change known; STARTED before the first, ENDED after the last."""
    at_us: int
    """The earliest time that a fact of it tells of; of a refusal, the latest."""
    exact: bool = True
    cause: str = ""
    started_us: int = 0
    """When its node agent says that it started; 0: that is not known."""

    @property
    def order(self) -> tuple[int, int]:
        """Greater for the newer of two processes (rules 1 and 2)."""
        ended, refused = self.state in ENDS, self.state is LifecycleState.PENDING
        return self.at_us, 0 if ended else 1 if refused else 2


NOTHING = ProcessView("", LifecycleState.PENDING, STARTED, 0)


class LifecycleView(msgspec.Struct):
    """Where an instance is in its life, by all facts so far. See the module for the rules."""

    processes: list[ProcessView] = []
    """The newest first."""

    @property
    def newest(self) -> ProcessView:
        """The process that the instance is now, or was last; one without epoch before any fact."""
        return self.processes[0] if self.processes else NOTHING

    @property
    def state(self) -> LifecycleState:
        """The state the instance is in."""
        return self.newest.state

    def ended(self, epoch: str) -> bool:
        """Whether that process has ended, or a newer one has taken its place."""
        newest = self.newest
        return newest.epoch != epoch or newest.state in ENDS

    def apply(self, fact: LifecycleFact) -> bool:
        """Take a fact in. Returns whether it is news: whether it changed what is shown."""
        if fact.state not in STATES:
            return False
        before, state = self._shown(), LifecycleState(fact.state)
        process = next((p for p in self.processes if p.epoch == fact.epoch), None)
        if process is None:
            process = ProcessView(fact.epoch, state, STARTED - 1, fact.at_us)
            self.processes.append(process)
        if self._advance(process, state, fact) and state in BEGINS:
            # Of equals the first in the list stays first, because the sort is stable.
            self.processes.remove(process)
            self.processes.insert(0, process)
        self.processes.sort(key=lambda p: p.order, reverse=True)
        del self.processes[PROCESSES_MAX:]
        return self._shown() != before

    def _advance(self, process: ProcessView, state: LifecycleState, fact: LifecycleFact) -> bool:
        """Let a process be in that state, unless more is known of it. Returns whether it is."""
        number = number_of(state, fact.change)
        if state is LifecycleState.LOADING:
            process.started_us = max(fact.at_us, process.started_us)
        if process.epoch:
            process.at_us = min(fact.at_us, process.at_us)
            if (number, fact.exact) <= (process.change, process.exact):
                return False
        elif fact.at_us < process.at_us:
            return False
        else:
            process.at_us = fact.at_us
        process.state, process.change = state, number
        process.exact, process.cause = fact.exact, fact.cause
        return True

    def _shown(self) -> tuple[str, int, bool, LifecycleState, int]:
        newest = self.newest
        at_us = 0 if newest.epoch else newest.at_us
        return newest.epoch, newest.change, newest.exact, newest.state, at_us


def number_of(state: LifecycleState, change: int) -> int:
    """What orders a fact within its process (rule 3)."""
    if not change and state in ENDS:
        return ENDED
    return STARTED if state is LifecycleState.LOADING else change
