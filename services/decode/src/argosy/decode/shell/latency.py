"""How quickly an answer came: its TTFT and TPOT, as decode can see them."""

import time

from argosy.decode.shell.answer import AnswerStream
from argosy.instance.work_counters import WorkCounters
from argosy.wire.inference.v1 import inference_pb2


class LatencyRecorder:
    """Of one answer, counted once: by who finishes it, or for TTFT by who begins it."""

    def __init__(
        self, worked: WorkCounters, ticket: inference_pb2.Ticket, answer: AnswerStream
    ) -> None:
        self._worked = worked
        self._issued_ms = ticket.issued_ms
        self._answer = answer
        self.begun = False
        self._begun_s = 0.0
        self._begun_with = 0

    def begin(self, now_ms: float) -> None:
        """The first of its tokens to be made here have come. now_ms: wall time."""
        self.begun = True
        self._begun_s = time.monotonic()
        self._begun_with = self._answer.produced
        prompt = self._answer.prompt
        if not prompt.resumed_tokens and not prompt.sent_token_ids:
            self._worked.started(now_ms - self._issued_ms)

    def end(self) -> None:
        """The answer is complete."""
        produced = self._answer.produced
        later, tpot_ms = produced - self._begun_with, None
        if later:
            tpot_ms = 1e3 * (time.monotonic() - self._begun_s) / later
        self._worked.finished(produced, tpot_ms)
