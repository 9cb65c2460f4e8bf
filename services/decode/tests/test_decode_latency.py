"""What decode tells of how quickly its answers came."""

from typing import Any

from argosy.decode.shell.answer import AnswerStream
from argosy.decode.shell.latency import LatencyRecorder
from argosy.domain.histogram import bucket_of
from argosy.engine.api import EngineOutput
from argosy.engine.text import sim_tokenizer
from argosy.instance.work_counters import WorkCounters
from argosy.wire.inference.v1 import inference_pb2

ENCODER = sim_tokenizer()
WORDS = ENCODER.encode(" the house ab ab the house")
ISSUED_MS = 1_700_000_000_000


def answered(*sizes: int, **prompt: Any) -> inference_pb2.Work:
    """The sums after one answer that came in outputs of these sizes, 80 ms after its ticket."""
    counters = WorkCounters()
    sampling = inference_pb2.Sampling(max_tokens=99)
    answer = AnswerStream(
        inference_pb2.Prompt(token_ids=WORDS, sampling=sampling, **prompt), ENCODER
    )
    latency = LatencyRecorder(counters, inference_pb2.Ticket(issued_ms=ISSUED_MS), answer)
    for number, size in enumerate(sizes):
        answer.chunk(EngineOutput(WORDS[:1] * size, finish="length" if number else None))
        if not latency.begun:
            latency.begin(ISSUED_MS + 80)
    latency.end()
    load = inference_pb2.Load()
    counters.add_to(load)
    return load.work


def test_an_answer_counts_once_with_all_its_tokens() -> None:
    work = answered(1, 3)
    assert (work.finished_requests, work.output_tokens, work.output_tokens_squared) == (1, 4, 16)
    assert sum(work.ttft_buckets) == sum(work.tpot_buckets) == 1
    assert work.ttft_buckets[bucket_of(80)] == 1


def test_a_resumed_answer_is_whole_and_its_first_token_was_anothers() -> None:
    work = answered(1, 3, resumed_tokens=2)
    assert (work.output_tokens, len(work.ttft_buckets)) == (6, 0)
    assert sum(work.tpot_buckets) == 1


def test_an_answer_made_anew_is_not_counted_with_what_was_sent_before() -> None:
    work = answered(1, 3, sent_token_ids=WORDS[:1] * 2)
    assert (work.output_tokens, len(work.ttft_buckets)) == (4, 0)


def test_an_answer_without_a_second_token_has_no_time_per_token() -> None:
    work = answered(1)
    assert (work.finished_requests, len(work.tpot_buckets)) == (1, 0)
