"""The TTFT and TPOT of an answer, as its decode instance sees them.

TTFT is the time from the ticket to the first token. TPOT is (latency - TTFT) / (output tokens - 1):
the mean time between an answer's tokens, not counting the first. Where the engine yields several
tokens at first, or an earlier attempt made some, those are the first token's: they took no time
here.
"""

import time

from argosy.decode.shell.answer import AnswerStream
from argosy.instance.work_counters import WorkCounters
from argosy.wire.inference.v1 import inference_pb2


class LatencyRecorder:
    """Counts one answer: its TTFT if it begins here, its TPOT if it ends here."""

    def __init__(
        self, counters: WorkCounters, ticket: inference_pb2.Ticket, answer: AnswerStream
    ) -> None:
        self._counters = counters
        self._issued_ms = ticket.issued_ms
        self._answer = answer
        self.begun = False
        self._begun_s = 0.0
        self._begun_with = 0

    def begin(self, now_ms: float) -> None:
        """The first tokens made here have come. now_ms: wall time."""
        self.begun = True
        self._begun_s = time.monotonic()
        self._begun_with = self._answer.produced
        prompt = self._answer.prompt
        if not prompt.resumed_tokens and not prompt.sent_token_ids:
            self._counters.started(now_ms - self._issued_ms)

    def end(self) -> None:
        """The answer is complete."""
        produced = self._answer.produced
        after_first, tpot_ms = produced - self._begun_with, None
        if after_first:
            tpot_ms = 1e3 * (time.monotonic() - self._begun_s) / after_first
        self._counters.finished(produced, tpot_ms)
