"""Which of vLLM's steps computed something, what that was, and how long they took.

vLLM says what a step computed. Of its time it says, on some executors, next to nothing. But
a step whose requests were there before begins when the step before it ends; and of one that
begins in an idle engine, a request that both starts and ends in it tells the time.
"""

from typing import Any, NamedTuple

from argosy.engine.api import RankStep, StepEnded


class StepReport(NamedTuple):
    """What vLLM reports of one step.

    transfers: bytes of each KV transfer that ended; not whose they are.
    goes_on: whether there are requests that the next step can compute.
    details: vLLM's SchedulerIterationDetails; None: the step computed nothing.
    finished_s: of a request that ended, the seconds from its scheduling to its first token;
        0: none ended.
    """

    running: int
    waiting: int
    kv_share: float
    transfers: list[int]
    goes_on: bool
    details: Any
    finished_s: float


class StepTimes:
    """See the module."""

    def __init__(self) -> None:
        self._ended_s = 0.0
        self._goes_on = False

    def rest(self) -> None:
        """All requests are gone: there is no next step until another comes."""
        self._goes_on = False

    def stepped(self, step: StepReport, now_s: float) -> StepEnded | None:
        """What the step computed; None if it computed nothing."""
        took_s = now_s - self._ended_s if self._goes_on else step.finished_s
        self._ended_s, self._goes_on = now_s, step.goes_on
        details = step.details
        if details is None or details.is_dummy:
            return None
        done = RankStep(details.num_ctx_tokens, details.num_generation_requests, step.kv_share)
        return StepEnded(round(took_s * 1e6), [done])
