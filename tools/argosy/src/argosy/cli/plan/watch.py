"""How a policy's run went, as time went: for pictures."""

from dataclasses import dataclass

from argosy.sim.scaling.flow_level import FlowWorld
from argosy.sim.scaling.observation import Policy, Seen


@dataclass(frozen=True)
class Moment:
    """When the policy was asked. Counts of requests are since the beginning."""

    at_s: float
    arrived: float
    finished: float
    attained: float
    """Of those that finished, within the SLO."""
    prefill: int
    """At work, as are `decode`."""
    decode: int
    moving: int
    """Starting, waking or draining."""


class Watched:
    """A policy that notes how it is whenever it is asked."""

    def __init__(self, policy: Policy) -> None:
        self.name, self.every_s = policy.name, policy.every_s
        self.moments: list[Moment] = []
        self.world: FlowWorld | None = None
        """The one it decides for: set before that runs."""
        self._policy = policy

    def decide(self, seen: Seen) -> dict[str, int]:
        """What the policy decides."""
        world = self.world
        assert world is not None
        moving = sum(seen.warming.values()) + sum(seen.draining.values())
        self.moments.append(
            Moment(
                seen.now_s, world.arrived, world.finished, world.attained, seen.ready["prefill"],
                seen.ready["decode"], moving,
            )
        )  # fmt: skip
        return self._policy.decide(seen)
