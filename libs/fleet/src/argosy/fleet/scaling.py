"""`spec.scaling` of a fleet file: when instances sleep, and how many there may be."""

from datetime import datetime, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, model_validator

from argosy.fleet import plan_text
from argosy.fleet.section import INSTANCES_MAX, Section, contradiction
from argosy.fleet.units import Duration, seconds

DWELL = "10m"
SCALED = {"prefill", "decode", "budget", "silent", "slo", "plans"}


def check_plan(text: str) -> str:
    """A plan that can be read, and whose time there is."""
    made = datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))
    try:
        plan_text.spans(plan_text.read(text), made, made, made + timedelta(days=8))
    except OverflowError as error:
        raise ValueError(f"the plan '{text}' is beyond the calendar") from error
    return text


def check_zone(name: str) -> str:
    """A time zone there is."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("no such time zone: write such as Europe/Berlin or UTC") from error
    return name


class SloSpec(Section):
    """What callers are promised."""

    ttft_p99: Duration | None = Field(None, alias="ttftP99")
    tpot_p99: Duration | None = Field(None, alias="tpotP99")


class PoolScaling(Section):
    """How many of a role may be awake. `max`: there may be in all; unset: `replicas`."""

    min: int = Field(1, ge=0, le=INSTANCES_MAX)
    max: int | None = Field(None, ge=0, le=INSTANCES_MAX)

    @model_validator(mode="after")
    def check(self) -> "PoolScaling":
        """Refuse what contradicts itself."""
        if self.max is not None and self.min > self.max:
            raise contradiction("min is above max: swap them", "min")
        return self


class ScalingSpec(Section):
    """When instances sleep, and how many there may be."""

    mode: Literal["advise", "act"] | None = None
    """Whether the autoscaler's decisions are acted on. Unset: they are, where any field is given
    that is about more than going to sleep; else there is none."""
    prefill: PoolScaling = Field(default_factory=PoolScaling)
    decode: PoolScaling = Field(default_factory=PoolScaling)
    budget: int = Field(0, ge=0)
    """Most instances at work at once, both roles; 0: all there may be."""
    dwell: Duration = DWELL
    """After an instance was added, none of its role is taken away for as long."""
    silent: int = Field(0, ge=0)
    """How many instances of each role are kept asleep, beside those awake."""
    idle_sleep_after: Duration | None = None
    """All that serve the model sleep when nothing was asked for as long; unset: never."""
    sleep_level: Literal["dram", "disk"] = "dram"
    """Where weights are meanwhile: in host memory, or only in the model's files."""
    slo: SloSpec | None = None
    plans: list[Annotated[str, AfterValidator(check_plan)]] = Field(default_factory=list)
    timezone: Annotated[str, AfterValidator(check_zone)] = "UTC"

    @model_validator(mode="after")
    def check(self) -> "ScalingSpec":
        """Refuse what contradicts itself."""
        for role in ("prefill", "decode"):
            if getattr(self, role).min == 0 and self.idle_sleep_after is None:
                message = "min: 0 needs idleSleepAfter: when are the last ones to sleep?"
                raise contradiction(message, role, "min")
        return self

    @property
    def acting(self) -> str:
        """advise, act, or nothing: no autoscaler."""
        return self.mode or ("act" if self.model_fields_set & SCALED else "")

    def idle_sleep_ms(self) -> int:
        """How long nothing must be asked for before all sleep; 0: they never do."""
        after = self.idle_sleep_after
        return round(seconds(after) * 1e3) if after is not None else 0
