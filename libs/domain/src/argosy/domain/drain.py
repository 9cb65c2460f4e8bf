"""How an instance is drained before it sleeps or stops: events and the effect of its core.

DrainStarted: the core takes no new work. It answers with ReportIdle as soon as nothing is left of
the work it has. DrainAborted: what is left has had its time and ends now; its callers go on
elsewhere. DrainEnded: the instance takes work again, whether the drain was over or not.
"""

from argosy.domain.core import Effect, Event


class DrainStarted(Event, frozen=True, kw_only=True, tag=True):
    """The instance takes no new work from now on."""


class DrainAborted(Event, frozen=True, kw_only=True, tag=True):
    """The work that is left has had its time."""


class DrainEnded(Event, frozen=True, kw_only=True, tag=True):
    """The instance takes work again."""


class ReportIdle(Effect, frozen=True, kw_only=True, tag=True):
    """Report that no work is left: a drain may go on to its next step."""
