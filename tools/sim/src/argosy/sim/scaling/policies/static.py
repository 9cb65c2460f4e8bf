"""Peak-provisioned: as many as ever may be, always."""

from argosy.sim.scaling.observation import Observation


class Static:
    """Every instance of the budget, split between roles as the peak wants it."""

    name = "static"
    every_s = 60.0

    def __init__(self, wanted: dict[str, int]) -> None:
        self._wanted = wanted

    def decide(self, observation: Observation) -> dict[str, int]:
        """The same, whatever is seen."""
        return dict(self._wanted)
