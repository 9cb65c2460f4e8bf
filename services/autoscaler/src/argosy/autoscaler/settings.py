"""Settings of the autoscaler."""

from pydantic import Field

from argosy.autoscaler.core.state import ScalerLimits
from argosy.mesh.settings import ServiceSettings


class AutoscalerSettings(ServiceSettings):
    """Settings of the process. How far it may scale is in the fleet file."""

    tick_s: float = Field(5, gt=0, description="Plans are made anew this often; bursts at once.")
    slot_s: int = Field(
        60, ge=1, description="A slot of history, forecast and plan. Longer: calmer and coarser."
    )
    plan_slots: int = Field(240, ge=2, description="Slots that a plan looks ahead.")
    stale_s: float = Field(
        15, gt=0, description="After this long without a router's report nothing is taken away."
    )
    decay_s: float = Field(
        600,
        gt=0,
        description="After this long without one the fleet goes back, step by step, to its file.",
    )
    manual_hold_s: float = Field(
        600,
        ge=0,
        description="The plan leaves an instance alone for this long after a person decided on it.",
    )
    season_s: float = Field(21_600, gt=0, description="Prophet is fitted anew this often.")
    country: str = Field(
        "", pattern="^([A-Z]{2})?$", description="Whose public holidays count, e.g. DE; none unset."
    )

    def limits(self) -> ScalerLimits:
        """Those of them that the core needs."""
        return ScalerLimits(
            tick_us=round(1e6 * self.tick_s),
            slot_us=1_000_000 * self.slot_s,
            plan_slots=self.plan_slots,
            stale_us=round(1e6 * self.stale_s),
            decay_us=round(1e6 * self.decay_s),
            manual_hold_us=round(1e6 * self.manual_hold_s),
            season_us=round(1e6 * self.season_s),
        )
