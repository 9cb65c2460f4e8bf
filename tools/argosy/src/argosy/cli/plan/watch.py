"""How a policy's run went, as time went: for pictures."""

from dataclasses import dataclass

from argosy.sim.scaling.flow_level import FlowSimulation
from argosy.sim.scaling.observation import Observation, ScalingPolicy


@dataclass(frozen=True)
class PlotSample:
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


class RecordingPolicy:
    """A policy that notes how it is whenever it is asked."""

    def __init__(self, policy: ScalingPolicy) -> None:
        self.name, self.every_s = policy.name, policy.every_s
        self.moments: list[PlotSample] = []
        self.simulation: FlowSimulation | None = None
        """The one it decides for: set before that runs."""
        self._policy = policy

    def decide(self, observation: Observation) -> dict[str, int]:
        """What the policy decides."""
        simulation = self.simulation
        assert simulation is not None
        moving = sum(observation.warming.values()) + sum(observation.draining.values())
        self.moments.append(
            PlotSample(
                observation.now_s,
                simulation.arrived,
                simulation.finished,
                simulation.attained,
                observation.ready["prefill"],
                observation.ready["decode"],
                moving,
            )
        )
        return self._policy.decide(observation)
