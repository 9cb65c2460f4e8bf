"""What an instance has done, in sums, and its last passes: what capacity is learned from."""

from collections import deque

from argosy.domain import histogram
from argosy.engine.api import PassEnded
from argosy.wire.inference.v1 import inference_pb2

PASSES_MAX = 32
"""Passes told in one report; of more, the last ones."""


class WorkCounters:
    """Keeps the contract's Work and Passes; a few additions for each pass and each answer."""

    def __init__(self) -> None:
        self._work = inference_pb2.Work()
        self._passes: deque[PassEnded] = deque(maxlen=PASSES_MAX)

    def passed(self, ended: PassEnded) -> None:
        """Take in a pass. Warm-ups are the caller's to leave out."""
        work = self._work
        for rank in ended.ranks:
            work.prefill_tokens += rank.prefill_tokens
            work.decode_tokens += rank.decode_requests
        if ended.us:
            work.passes += 1
            work.pass_us_sum += ended.us
            self._passes.append(ended)

    def started(self, ttft_ms: float) -> None:
        """An answer's first token is there."""
        histogram.count(self._work.ttft_buckets, max(0.0, ttft_ms))

    def finished(self, output_tokens: int = 0, tpot_ms: float | None = None) -> None:
        """A request is done. tpot_ms: if the answer had a second token here."""
        work = self._work
        work.finished_requests += 1
        work.output_tokens += output_tokens
        work.output_tokens_squared += float(output_tokens * output_tokens)
        if tpot_ms is not None:
            histogram.count(work.tpot_buckets, tpot_ms)

    def tell(self, load: inference_pb2.Load) -> None:
        """Put the sums into a report, and the passes since the last one."""
        load.work.CopyFrom(self._work)
        for ended in self._passes:
            slowest = ended.ranks[0]
            load.passes.add(
                us=ended.us,
                prefill_tokens=slowest.prefill_tokens,
                decode_requests=slowest.decode_requests,
                kv_share=slowest.kv_share,
            )
        self._passes.clear()
