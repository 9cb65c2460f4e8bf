"""What spans of load cost the process that is loaded, and how long callers wait."""

import statistics
from dataclasses import dataclass, field

from argosy.bench.load_generator import LoadOrder, LoadOutcome
from argosy.bench.processes import BenchProcesses

WARM_UP_REQUESTS = 40
LATE_S = 0.5
"""Answers that end later than this after the last question: the rate is not sustained."""


@dataclass(frozen=True)
class Span:
    """One span of load, and the CPU its requests cost the loaded process."""

    outcome: LoadOutcome
    cpu_s: float

    @property
    def cpu_ms(self) -> float:
        """Per request, milliseconds."""
        return 1e3 * self.cpu_s / max(1, self.outcome.requests)

    def route_ms(self, share: float) -> float:
        """A percentile of the Route call alone."""
        return percentile(self.outcome.route_ms, share)

    def ttft_ms(self, share: float) -> float:
        """A percentile of the time to first token."""
        return percentile(self.outcome.ttft_ms, share)


@dataclass
class Cost:
    """One kind of request at one rate: its spans, in order."""

    spans: list[Span] = field(default_factory=list)

    @property
    def cpu_ms(self) -> float:
        """CPU per request, the median of the spans, milliseconds."""
        return statistics.median(span.cpu_ms for span in self.spans)

    @property
    def requests(self) -> int:
        """Asked in all spans."""
        return sum(span.outcome.requests for span in self.spans)

    @property
    def failed(self) -> int:
        """Answers that failed or came incomplete."""
        return sum(span.outcome.errors + span.outcome.incomplete for span in self.spans)

    @property
    def first_error(self) -> str:
        """What the first of them said."""
        return next((s.outcome.first_error for s in self.spans if s.outcome.first_error), "")

    @property
    def sustained(self) -> bool:
        """Whether most spans ended when their questions did."""
        return statistics.median(span.outcome.late_s for span in self.spans) < LATE_S

    def over(self, baseline: "Cost") -> float:
        """CPU against a baseline's, span by span: the median ratio."""
        return statistics.median(
            mine.cpu_ms / base.cpu_ms for mine, base in zip(self.spans, baseline.spans, strict=True)
        )


async def measure(processes: BenchProcesses, process: str, order: LoadOrder, cost: Cost) -> None:
    """Load `process` with one more span of requests, warm from the first."""
    warm_up = LoadOrder(order.address, order.direct, order.seed + 1, requests=WARM_UP_REQUESTS)
    await processes.order(warm_up)
    before_s = processes.cpu_s(process)
    outcome = await processes.order(order)
    cost.spans.append(Span(outcome, processes.cpu_s(process) - before_s))


def percentile(values: list[float], share: float) -> float:
    """The value at least `share` of them do not exceed; 0 for none."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else 0.0
