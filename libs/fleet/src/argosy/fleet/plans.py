"""Operational plans: those of the fleet file and those added since, as windows of time.

A plan that contradicts another is refused, with both named: what has to be at least cannot be
more than what may be at most while both hold, nor more than the file's bounds; and nothing can be
taken away by a cap while scaling down is forbidden.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from argosy.domain.errors import ArgosyError, Reason
from argosy.domain.plan_window import PlanWindow
from argosy.fleet import plan_text

AHEAD = timedelta(days=8)
"""Windows are known so far ahead: every day of the week, and more than a plan's horizon."""
CONFLICTS_AHEAD = timedelta(days=35)
log = logging.getLogger(__name__)

PLANS_MAX = 256
FILE = "fleet file"


@dataclass(frozen=True)
class OperationalPlan:
    """A plan and when it was made, Unix microseconds."""

    name: str
    text: str
    source: str
    made_us: int


class Plans:
    """All of them. Raises ArgosyError for one that cannot be."""

    def __init__(self) -> None:
        self._timezone = "UTC"
        self._highs: dict[str, int] = {}
        self._budget = 0
        self._of_file: dict[str, OperationalPlan] = {}
        self._added: dict[str, OperationalPlan] = {}

    def apply(
        self, texts: list[str], timezone: str, highs: dict[str, int], budget: int, made_us: int
    ) -> None:
        """Take over what the fleet file says.

        highs: the most instances there may be, by role; budget: of all roles together, 0: no bound.
        """
        self._timezone, self._highs, self._budget = timezone or "UTC", highs, budget
        before = {plan.text: plan for plan in self._of_file.values()}
        self._of_file = {
            f"file-{number}": before.get(text)
            or OperationalPlan(f"file-{number}", text, FILE, made_us)
            for number, text in enumerate(texts, start=1)
        }

    def changed(self, name: str, text: str, made_us: int) -> None:
        """The control log says so; no text: it is no more."""
        if text:
            self._added[name] = OperationalPlan(name, text, "operator", made_us)
        else:
            self._added.pop(name, None)

    def check(self, name: str, text: str, now_us: int) -> str:
        """The name it is to have. Raises ArgosyError when it cannot be read or contradicts."""
        for old in [p for p in self._added.values() if p.name != name]:
            if not self.windows_of(old, now_us):
                del self._added[old.name]  # Its time is over.
        if len(self.all()) - (name in self._added) >= PLANS_MAX:
            raise ArgosyError(Reason.BAD_REQUEST, f"there are {PLANS_MAX} plans: remove one first")
        name = name or named(text, {plan.name for plan in self.all()})
        if name in self._of_file:
            message = f"plan '{name}' is of the fleet file: choose another name, or change the file"
            raise ArgosyError(Reason.PLAN_CONFLICT, message)
        new = OperationalPlan(name, text, "operator", now_us)
        mine = self.windows_of(new, now_us)
        for window in mine:
            if refused := self._beyond_file(window):
                raise ArgosyError(Reason.PLAN_CONFLICT, f"plan '{name}' ({text}): {refused}")
        for other in self.all():
            if other.name != name:
                self._check_pair(new, mine, other, now_us)
        return name

    def _check_pair(
        self, new: OperationalPlan, mine: list[PlanWindow], other: OperationalPlan, now_us: int
    ) -> None:
        for theirs in self.windows_of(other, now_us):
            for window in mine:
                apart = window.until_us <= theirs.from_us or theirs.until_us <= window.from_us
                if not apart and (why := contradiction(window, theirs)):
                    at = datetime.fromtimestamp(
                        max(window.from_us, theirs.from_us) / 1e6, self._zone()
                    )
                    raise ArgosyError(
                        Reason.PLAN_CONFLICT,
                        f"plan '{new.name}' ({new.text}) contradicts plan '{other.name}' "
                        f"({other.text}) at {at:%a %Y-%m-%d %H:%M}: {why}. Remove one of them, or "
                        "change its time or count",
                    )

    def _beyond_file(self, window: PlanWindow) -> str:
        if window.kind != "at_least":
            return ""
        highs, budget = self._highs, self._budget
        most = highs.get(window.role, budget) if highs else window.count
        if window.count > min(most, budget or most):
            of = f"{window.role} max" if window.role else "budget"
            return f"the fleet file's {of} is {most}: raise it there, or ask for fewer"
        return ""

    def all(self) -> list[OperationalPlan]:
        """Those of the file first."""
        return [*self._of_file.values(), *self._added.values()]

    def get(self, name: str) -> OperationalPlan | None:
        """By its name, one that can be removed."""
        return self._added.get(name)

    def windows(self, now_us: int, since_us: int = 0) -> list[PlanWindow]:
        """When which of them hold over the time ahead, and did since then (0: now)."""
        first_us = since_us or now_us
        ahead = timedelta(microseconds=now_us - first_us) + AHEAD
        found = []
        for plan in self.all():
            try:
                found += self.windows_of(plan, first_us, ahead)
            except ArgosyError as error:
                log.error("plan %s is left out: %s", plan.name, error.message)
        return found

    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self._timezone)

    def windows_of(
        self, plan: OperationalPlan, now_us: int, ahead: timedelta = CONFLICTS_AHEAD
    ) -> list[PlanWindow]:
        """When a plan holds over the time ahead. Raises ArgosyError for one that cannot be read."""
        try:
            read = plan_text.read(plan.text)
            made = datetime.fromtimestamp(plan.made_us / 1e6, self._zone())
            after = datetime.fromtimestamp(now_us / 1e6, UTC)
            spans = plan_text.spans(read, made, after, after + ahead)
        except (ValueError, OverflowError) as error:
            raise ArgosyError(Reason.BAD_REQUEST, str(error)) from error
        return [
            PlanWindow(
                plan.name,
                round(1e6 * start.timestamp()),
                round(1e6 * end.timestamp()),
                read.kind,
                read.role,
                read.count,
                read.rack,
            )
            for start, end in spans
        ]


def contradiction(one: PlanWindow, other: PlanWindow) -> str:
    """Why both cannot hold at once; empty when they can."""
    kinds = {one.kind: one, other.kind: other}
    if {"at_least", "at_most"} <= kinds.keys():
        least, most = kinds["at_least"], kinds["at_most"]
        # A cap on both together binds each role; a floor of one role is one of both together.
        comparable = not most.role or most.role == least.role
        if comparable and least.count > most.count:
            return f"at least {least.count} is more than at most {most.count}"
    if {"hold", "at_most"} <= kinds.keys():
        return "a cap may have to take instances away while scaling down is forbidden"
    return ""


def named(text: str, taken: set[str]) -> str:
    """A name made of the text."""
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    base = "-".join(words)[:40] or "plan"
    names = (base if number == 1 else f"{base}-{number}" for number in range(1, PLANS_MAX + 2))
    return next(name for name in names if name not in taken)
