"""One instance in virtual time: the sim engine's scheduler, driven by the event queue."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from argosy.domain.lifecycle import NOT_SERVING
from argosy.engine.profile import Profile
from argosy.engine.sim.scheduler import EngineStep
from argosy.engine.sim.sequence import Sequence as EngineSequence
from argosy.instance.lifecycle import effects as lifecycle_effects
from argosy.instance.lifecycle.events import Loaded
from argosy.router.core import events
from argosy.sim.fleet.event_queue import EventQueue
from argosy.sim.fleet.instance_facts import InstancePublisher
from argosy.sim.fleet.lifecycle import SimLifecycle
from argosy.sim.fleet.ports import BlockSaver, LifecycleHost, Publish
from argosy.sim.fleet.spec import HEARTBEAT_US, InstanceShape

STEPS_MAX = 1 << 20
"""Equal decode steps planned as one: more than any answer has tokens, so never a limit."""
REPORT_US = 50_000
"""Load facts after steps that only decode are at least this far apart: such steps change little,
and come more often than a router needs to hear of them."""

OnTokens = Callable[[int, bool, bool], None]
"""Gets (tokens, whether they begin the answer, whether they end it)."""


@dataclass
class InstancePorts:
    """What instances need of the simulation. All of a fleet share one."""

    queue: EventQueue
    publish: Publish
    store: BlockSaver | None = None
    new_lifecycle: Callable[[LifecycleHost], SimLifecycle] | None = None
    """Begins the lifecycle of a start; None: instances never sleep."""
    on_step: Callable[[str, EngineStep], None] | None = None
    """For measurements: called with the instance's role after each of its steps."""


class SimInstance:
    """Computes whenever it has something to compute, and reports after each step."""

    def __init__(self, name: str, role: str, shape: InstanceShape, ports: InstancePorts) -> None:
        self.name = name
        self.role = role
        self.epoch = 0
        self.alive = False
        self.admitting = True
        """Whether it takes new requests."""
        self.attempts: set[str] = set()
        """The attempts of requests that occupy it."""
        self.lifecycle: SimLifecycle | None = None
        self.scheduler = shape.scheduler()
        self.on_pulled: dict[str, Callable[[], None]] = {}
        """By sequence: called once its KV has been pulled from a prefill instance."""
        self._on_tokens: dict[str, OnTokens] = {}
        self._shape = shape
        self._ports = ports
        self._queue = ports.queue
        self._facts = InstancePublisher(name, 0, ports.publish)
        self._step: EngineStep | None = None
        self._version = 0
        """Counts what was planned: calls of an older plan that still come do nothing."""
        self._reported_us = -REPORT_US
        self._joined_change = 0
        """The lifecycle change that `InstanceJoined` carries."""
        self._on_left: Callable[[], None] | None = None
        """Called once it has stopped for good; set while it drains for that."""

    @property
    def profile(self) -> Profile:
        """What steps and transfers take."""
        return self._shape.profile

    # -- lifecycle

    def start(self) -> None:
        """Join the fleet, empty."""
        self.epoch += 1
        self.alive = True
        self.scheduler = self._shape.scheduler()
        self._facts = InstancePublisher(self.name, self.epoch, self._ports.publish)
        self._step = None
        self.attempts, self.admitting = set(), True
        if self._ports.new_lifecycle is not None:
            self._joined_change = 0
            self.lifecycle = self._ports.new_lifecycle(self)
            self.lifecycle.feed(Loaded(now_us=self._queue.now_us))
        self._facts.joined(self.role, self._shape, self._joined_change)
        self._beat(self.epoch)

    def kill(self, restart_us: int) -> None:
        """Die as by SIGKILL, losing everything; start again after `restart_us`."""
        self.alive = False
        self._version += 1
        self._on_tokens.clear()
        self.on_pulled.clear()
        self._facts.left("killed")
        self._queue.after(restart_us, self.start)

    def drain(self, on_left: Callable[[], None]) -> None:
        """Admit nothing new, finish all attempts, stop for good, then call `on_left`."""
        self.admitting = False
        self._facts.lifecycle_changed(change=1, state="draining", cause="scaled down")
        self._on_left = on_left
        if not self.attempts:
            self._queue.after(0, self._leave)

    def _leave(self) -> None:
        on_left, self._on_left = self._on_left, None
        if on_left is None:
            return
        self.alive = False
        self._version += 1
        self._facts.left("scaled down")
        on_left()

    def lifecycle_changed(self, change: lifecycle_effects.PublishChange) -> None:
        """Publish a change of the lifecycle. The first one is published by joining."""
        if not self._joined_change:
            self._joined_change = change.change
            return
        self._facts.lifecycle_changed(change.change, change.state, change.cause)

    def forget_blocks(self) -> None:
        """Lose all cached KV blocks, and publish that."""
        self.scheduler.clear()
        self._report()

    # -- work

    def begin(self, key: str) -> None:
        """An attempt occupies the instance until `finish`."""
        self.attempts.add(key)

    def finish(self, key: str) -> None:
        """The attempt is over here."""
        self.attempts.discard(key)
        if not self.admitting and not self.attempts:
            if self._on_left is not None:
                # After everything else that happens at this very time.
                self._queue.after(0, self._leave)
            elif self.lifecycle is not None:
                self.lifecycle.drained()

    def submit(self, sequence: EngineSequence, rank: int, on_tokens: OnTokens) -> None:
        """Queue a sequence."""
        self.scheduler.add(sequence, rank)
        self._on_tokens[sequence.key] = on_tokens
        self._replan()

    def forget(self, key: str) -> None:
        """Drop a sequence and the KV it holds."""
        self._on_tokens.pop(key, None)
        self.scheduler.remove(key)
        self._replan()

    def cached_blocks(self, rank: int, hashes: Sequence[int]) -> int:
        """How many blocks a rank caches of a prompt, from its beginning on."""
        return self.scheduler.ranks[rank].pool.prefix_hit_blocks(hashes)

    def snapshot(self, now_us: int) -> events.KvSnapshotTaken:
        """All KV blocks it holds, including every change published so far."""
        return self._facts.snapshot(now_us, self.scheduler)

    # -- steps

    def _replan(self) -> None:
        """The work has changed: steps planned ahead end with the one under way."""
        if self._step is None:
            # After everything else that arrives at this very time: a batch starts as one.
            self._version += 1
            self._queue.at(self._queue.now_us, self._begin_step, self._version)
        elif self._step.steps > 1:
            self._step.cut(self._queue.now_us)
            self._await_end(self._step)

    def _begin_step(self, version: int) -> None:
        if version == self._version and self._step is None:
            self._next_step()

    def _next_step(self) -> None:
        self._step = self.scheduler.plan(self._queue.now_us, STEPS_MAX)
        for sequence in self.scheduler.take_pulled():
            self.on_pulled.pop(sequence.key)()
        if self._step is not None:
            self._await_end(self._step)
        elif (pull_us := self.scheduler.next_pull_us()) is not None:
            self._version += 1
            self._queue.at(pull_us, self._begin_step, self._version)

    def _await_end(self, step: EngineStep) -> None:
        self._version += 1
        self._queue.at(step.ends_us, self._end_step, self._version)

    def _end_step(self, version: int) -> None:
        if version != self._version:
            return
        done, self._step = self._step, None
        assert done is not None
        if self._ports.on_step is not None:
            self._ports.on_step(self.role, done)
        progress = self.scheduler.finish(done)
        if self._ports.store is not None:
            self._save_blocks(self._ports.store, done)
        ended = False
        for step in progress:
            ended = ended or step.last
            on_tokens = self._on_tokens[step.sequence.key]
            if step.last:
                del self._on_tokens[step.sequence.key]
            on_tokens(step.tokens, step.first, step.last)
        prefilled = any(share is not None and share.chunks for share in done.shares)
        if prefilled or ended or self._queue.now_us - self._reported_us >= REPORT_US:
            self._report()
        # A callback may have begun the next step already.
        if self._step is None:
            self._next_step()

    def _save_blocks(self, store: BlockSaver, done: EngineStep) -> None:
        for share in done.shares:
            for sequence, _ in share.chunks if share is not None else ():
                if sequence.key in self._on_tokens:
                    store.save(sequence)

    # -- reports

    def _beat(self, epoch: int) -> None:
        if self.alive and epoch == self.epoch:
            self._report()
            self._queue.after(HEARTBEAT_US, self._beat, epoch)

    def _report(self) -> None:
        """Publish the KV changes since the last report, and the load."""
        self._reported_us = self._queue.now_us
        self._facts.kv_changed(self.scheduler.take_changes())
        state = self.lifecycle.state if self.lifecycle is not None else None
        serving, change = (
            (state.state not in NOT_SERVING, state.change) if state else (self.admitting, 0)
        )
        change = 1 if self._on_left is not None else change
        self._facts.load(self._queue.now_us, self.scheduler, serving=serving, change=change)
