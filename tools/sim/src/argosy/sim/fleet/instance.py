"""One instance in virtual time: the sim engine's scheduler, and the facts it tells."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from argosy.domain.lifecycle import NOT_SERVING
from argosy.engine.api import BlocksChanged
from argosy.engine.profile import Profile
from argosy.engine.sim.scheduler import EngineStep, Scheduler
from argosy.engine.sim.sequence import Sequence
from argosy.instance.lifecycle.events import Loaded
from argosy.router.core import events
from argosy.sim.fleet.lifecycle import SimLifecycle

if TYPE_CHECKING:
    from argosy.sim.fleet.kv_store import SimStore
    from argosy.sim.fleet.simulation import Simulation

STEPS_MAX = 1 << 20
REPORT_US = 50_000
"""Load facts of steps that only decode are at least this far apart."""


class SimInstance:
    """An instance. It computes whenever it has something to, and reports after each step."""

    def __init__(
        self,
        simulation: "Simulation",
        name: str,
        role: str,
        profile: Profile,
        blocks: int,
        block_tokens: int,
        max_running: int,
        dp_ranks: int,
    ) -> None:
        self.simulation = simulation
        self.name = name
        self.role = role
        self.profile = profile
        self.epoch = 0
        self.alive = False
        self._shape = (profile, blocks, block_tokens, max_running, dp_ranks)
        self.scheduler = Scheduler(*self._shape)
        self.on_token: dict[str, Callable[[int, bool, bool], None]] = {}
        """Who is told of a sequence's tokens: (tokens, first, last)."""
        self.on_pulled: dict[str, Callable[[], None]] = {}
        self._step: EngineStep | None = None
        self._version = 0
        self._reported_us = -REPORT_US
        self._kv_sequence = 0
        self.life: SimLifecycle | None = None
        self.holding = False
        """It takes nothing new."""
        self.work: set[str] = set()
        """Attempts it has to do with."""
        self._joined_change = 0
        self._leave: Callable[[], None] | None = None
        """Called once nothing is left to do, when it drains to stop for good."""

    def start(self) -> None:
        """Join the fleet, empty."""
        self.epoch += 1
        self.alive = True
        self.scheduler = Scheduler(*self._shape)
        self._step, self._kv_sequence = None, 0
        self.work, self.holding = set(), False
        if self.simulation.autoscaler is not None:
            self._joined_change = 0
            self.life = SimLifecycle(self)
            self.life.feed(Loaded(now_us=self.simulation.now_us))
        change = self._joined_change
        profile, blocks, block_tokens, max_running, dp_ranks = self._shape
        context = blocks * block_tokens
        self.simulation.tell(
            lambda now_us: events.InstanceJoined(
                now_us=now_us,
                instance=self.name,
                epoch=str(self.epoch),
                role=self.role,
                address=self.name,
                node=f"node-{self.name}",
                model="model",
                kv_total_blocks=blocks,
                block_tokens=block_tokens,
                max_model_tokens=context,
                max_running_requests=max_running,
                announced_us=0,
                dp_ranks=dp_ranks,
                tokens_per_step=profile.tokens_per_step,
                rack="rack",
                timing=profile,
                change=change,
            )
        )
        self._beat(self.epoch)

    def kill(self, restart_us: int) -> None:
        """As SIGKILL: what it had is gone; it starts again after `restart_us`."""
        self.alive = False
        self._version += 1
        self.on_token.clear()
        self.on_pulled.clear()
        epoch = str(self.epoch)
        self.simulation.tell(
            lambda now_us: events.InstanceLeft(
                now_us=now_us, instance=self.name, epoch=epoch, reason="killed"
            )
        )
        self.simulation.after(restart_us, self.start)

    def drain(self, gone: Callable[[], None]) -> None:
        """Take nothing new, finish what there is, stop for good; then `gone` is called."""
        self.holding = True
        name, epoch = self.name, str(self.epoch)
        self.simulation.tell(
            lambda now_us: events.InstanceLifecycleChanged(
                now_us=now_us,
                instance=name,
                epoch=epoch,
                change=1,
                state="draining",
                cause="scaled down",
            )
        )
        self._leave = gone
        if not self.work:
            self.simulation.after(0, self._left)

    def _left(self) -> None:
        gone, self._leave = self._leave, None
        if gone is None:
            return
        self.alive = False
        self._version += 1
        name, epoch = self.name, str(self.epoch)
        self.simulation.tell(
            lambda now_us: events.InstanceLeft(
                now_us=now_us, instance=name, epoch=epoch, reason="scaled down"
            )
        )
        gone()

    def told_of_life(self, change: int) -> bool:
        """Whether a change in its life is news beside that it has joined."""
        if self._joined_change:
            return True
        self._joined_change = change
        return False

    def begin(self, key: str) -> None:
        """Have to do with an attempt, until `finish`."""
        self.work.add(key)

    def finish(self, key: str) -> None:
        """The attempt is over here."""
        self.work.discard(key)
        if self.holding and not self.work:
            if self._leave is not None:
                # After whatever else happens at this very time.
                self.simulation.after(0, self._left)
            elif self.life is not None:
                self.life.idle()

    def forget_blocks(self) -> None:
        """Its KV memory is gone."""
        self.scheduler.clear()
        self._report()

    def submit(
        self, sequence: Sequence, rank: int, on_token: Callable[[int, bool, bool], None]
    ) -> None:
        """Queue a sequence."""
        self.scheduler.add(sequence, rank)
        self.on_token[sequence.key] = on_token
        self._disturb()

    def forget(self, key: str) -> None:
        """Drop a sequence and the KV it holds."""
        self.on_token.pop(key, None)
        self.scheduler.remove(key)
        self._disturb()

    def snapshot(self, now_us: int) -> events.KvSnapshotTaken:
        """The KV blocks it holds, its changes told so far included."""
        blocks = [rank.pool.known_blocks() for rank in self.scheduler.ranks]
        return events.KvSnapshotTaken(
            now_us=now_us,
            instance=self.name,
            epoch=str(self.epoch),
            sequence=self._kv_sequence,
            blocks=blocks,
        )

    def _disturb(self) -> None:
        """Something came up: steps planned ahead end with the one under way."""
        if self._step is None:
            # After whatever else arrives at this very time: a batch starts as one.
            self._version += 1
            self.simulation.at(self.simulation.now_us, self._begin, self._version)
        elif self._step.steps > 1:
            self._step.cut(self.simulation.now_us)
            self._schedule()

    def _go_on(self) -> None:
        now_us = self.simulation.now_us
        self._step = self.scheduler.plan(now_us, STEPS_MAX)
        for sequence in self.scheduler.take_pulled():
            self.on_pulled.pop(sequence.key)()
        if self._step is not None:
            self._schedule()
        elif (pull_us := self.scheduler.next_pull_us()) is not None:
            self._version += 1
            self.simulation.at(pull_us, self._begin, self._version)

    def _schedule(self) -> None:
        assert self._step is not None
        self._version += 1
        self.simulation.at(self._step.ends_us, self._step_over, self._version)

    def _begin(self, version: int) -> None:
        if version == self._version and self._step is None:
            self._go_on()

    def _step_over(self, version: int) -> None:
        if version != self._version:
            return
        done, self._step = self._step, None
        assert done is not None
        if self.simulation.on_step is not None:
            self.simulation.on_step(self, done)
        progress = self.scheduler.finish(done)
        if self.simulation.store is not None:
            self._save(self.simulation.store, done)
        ended = False
        for step in progress:
            ended = ended or step.last
            tell = self.on_token[step.sequence.key]
            if step.last:
                del self.on_token[step.sequence.key]
            tell(step.tokens, step.first, step.last)
        prefilled = any(share is not None and share.chunks for share in done.shares)
        if prefilled or ended or self.simulation.now_us - self._reported_us >= REPORT_US:
            self._report()
        if self._step is None:
            self._go_on()

    def _save(self, store: "SimStore", done: EngineStep) -> None:
        for share in done.shares:
            for sequence, _ in share.chunks if share is not None else ():
                if sequence.key in self.on_token:
                    store.save(sequence)

    def _beat(self, epoch: int) -> None:
        if self.alive and epoch == self.epoch:
            self._report()
            self.simulation.after(self.simulation.heartbeat_us, self._beat, epoch)

    def _report(self) -> None:
        """Load and KV changes, as they are now, to be heard a moment later."""
        self._reported_us = at_us = self.simulation.now_us
        name, epoch = self.name, str(self.epoch)
        for change in self.scheduler.take_changes():
            self._kv_sequence += 1
            self._tell_change(change, self._kv_sequence)
        stats = self.scheduler.stats()
        ranks = [
            events.RankLoad(
                s.running_requests, s.waiting_requests, s.queued_prefill_tokens, s.kv_used_blocks
            )
            for s in stats.ranks or (stats,)
        ]
        step_us = self.scheduler.step_us
        life = self.life.state if self.life is not None else None
        serving, last = (
            (life.state not in NOT_SERVING, life.change) if life else (not self.holding, 0)
        )
        last = 1 if self._leave is not None else last
        self.simulation.tell(
            lambda now_us: events.LoadReported(
                now_us=now_us,
                instance=name,
                epoch=epoch,
                ranks=ranks,
                at_us=at_us,
                kv_held_blocks=0,
                step_us=step_us,
                serving=serving,
                change=last,
            )
        )

    def _tell_change(self, change: BlocksChanged, number: int) -> None:
        name, epoch = self.name, str(self.epoch)
        self.simulation.tell(
            lambda now_us: events.KvChanged(
                now_us=now_us,
                instance=name,
                epoch=epoch,
                sequence=number,
                stored=change.stored,
                removed=change.removed,
                cleared=change.cleared,
                dp_rank=change.dp_rank,
            )
        )
