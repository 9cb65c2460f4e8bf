"""The facts one instance publishes, as a live one does."""

from collections.abc import Sequence

from argosy.engine.api import BlocksChanged
from argosy.engine.sim.scheduler import Scheduler
from argosy.router.core import events
from argosy.sim.fleet.ports import Publish
from argosy.sim.fleet.spec import InstanceShape


class InstancePublisher:
    """Publishes the facts of one start (epoch) of an instance."""

    def __init__(self, name: str, epoch: int, publish: Publish) -> None:
        self.name = name
        self.epoch = str(epoch)
        self.kv_sequence = 0
        """The number of the last KV change that was published."""
        self._publish = publish

    def joined(self, role: str, shape: InstanceShape, change: int) -> None:
        """The instance serves requests. `change` numbers its lifecycle's state."""
        self._publish(
            lambda now_us: events.InstanceJoined(
                now_us=now_us,
                instance=self.name,
                epoch=self.epoch,
                role=role,
                address=self.name,
                node=f"node-{self.name}",
                model="model",
                kv_total_blocks=shape.kv_blocks,
                block_tokens=shape.block_tokens,
                max_model_tokens=shape.kv_blocks * shape.block_tokens,
                max_running_requests=shape.max_running,
                announced_us=0,
                dp_ranks=shape.dp_ranks,
                tokens_per_step=shape.profile.tokens_per_step,
                rack="rack",
                timing=shape.profile,
                change=change,
            )
        )

    def left(self, reason: str) -> None:
        """The instance is gone."""
        self._publish(
            lambda now_us: events.InstanceLeft(
                now_us=now_us, instance=self.name, epoch=self.epoch, reason=reason
            )
        )

    def lifecycle_changed(self, change: int, state: str, cause: str) -> None:
        """The instance is in another state of its lifecycle."""
        self._publish(
            lambda now_us: events.InstanceLifecycleChanged(
                now_us=now_us,
                instance=self.name,
                epoch=self.epoch,
                change=change,
                state=state,
                cause=cause,
            )
        )

    def kv_changed(self, changes: Sequence[BlocksChanged]) -> None:
        """KV blocks were stored or removed."""
        for change in changes:
            self.kv_sequence += 1
            self._publish_kv_change(change, self.kv_sequence)

    def _publish_kv_change(self, change: BlocksChanged, sequence: int) -> None:
        self._publish(
            lambda now_us: events.KvChanged(
                now_us=now_us,
                instance=self.name,
                epoch=self.epoch,
                sequence=sequence,
                stored=change.stored,
                removed=change.removed,
                cleared=change.cleared,
                dp_rank=change.dp_rank,
            )
        )

    def load(self, at_us: int, scheduler: Scheduler, *, serving: bool, change: int) -> None:
        """The load is this, by rank."""
        stats = scheduler.stats()
        ranks = [
            events.RankLoad(
                s.running_requests, s.waiting_requests, s.queued_prefill_tokens, s.kv_used_blocks
            )
            for s in stats.ranks or (stats,)
        ]
        step_us = scheduler.step_us
        self._publish(
            lambda now_us: events.LoadReported(
                now_us=now_us,
                instance=self.name,
                epoch=self.epoch,
                ranks=ranks,
                at_us=at_us,
                kv_held_blocks=0,
                step_us=step_us,
                serving=serving,
                change=change,
            )
        )

    def snapshot(self, now_us: int, scheduler: Scheduler) -> events.KvSnapshotTaken:
        """All KV blocks the instance holds, including every change published so far."""
        return events.KvSnapshotTaken(
            now_us=now_us,
            instance=self.name,
            epoch=self.epoch,
            sequence=self.kv_sequence,
            blocks=[rank.pool.known_blocks() for rank in scheduler.ranks],
        )
