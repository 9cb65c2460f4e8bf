"""Sums of what an instance has done, and its last steps: capacity is learned from them."""

from collections import deque

from argosy.domain import histogram
from argosy.engine.api import StepEnded
from argosy.wire.inference.v1 import inference_pb2

STEPS_MAX = 32
"""Steps in one report; of more, the last ones. A report goes out every 20 ms: more steps in that
time say nothing new."""


class WorkCounters:
    """Keeps the contract's Work and Steps; costs a few additions for each step and each answer."""

    def __init__(self) -> None:
        self._work = inference_pb2.Work()
        self._steps: deque[StepEnded] = deque(maxlen=STEPS_MAX)

    def step_ended(self, ended: StepEnded) -> None:
        """Count a step. The caller leaves warm-ups out."""
        work = self._work
        for rank in ended.ranks:
            work.prefill_tokens += rank.prefill_tokens
            work.decode_tokens += rank.decode_requests
        if ended.us:
            work.steps += 1
            work.step_us_sum += ended.us
            self._steps.append(ended)

    def started(self, ttft_ms: float) -> None:
        """Count an answer's first token. ttft_ms: from the ticket on."""
        histogram.count(self._work.ttft_buckets, max(0.0, ttft_ms))

    def finished(self, output_tokens: int = 0, tpot_ms: float | None = None) -> None:
        """Count a finished request.

        tpot_ms: (latency - TTFT) / (output tokens - 1); None if no second token was made here.
        """
        work = self._work
        work.finished_requests += 1
        work.output_tokens += output_tokens
        work.output_tokens_squared += float(output_tokens * output_tokens)
        if tpot_ms is not None:
            histogram.count(work.tpot_buckets, tpot_ms)

    def add_to(self, load: inference_pb2.Load) -> None:
        """Put the sums into a report, and the steps since the last report."""
        load.work.CopyFrom(self._work)
        for ended in self._steps:
            slowest = ended.ranks[0]
            load.steps.add(
                us=ended.us,
                prefill_tokens=slowest.prefill_tokens,
                decode_requests=slowest.decode_requests,
                kv_share=slowest.kv_share,
            )
        self._steps.clear()
