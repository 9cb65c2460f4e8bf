"""Between the contract's words and the engine's: nothing invented, nothing dropped."""

import pytest

from argosy.domain.timing import Timing
from argosy.engine import text
from argosy.engine.api import EngineInfo, EngineStats, Logprobs, SamplingSpec
from argosy.instance import convert
from argosy.wire.inference.v1.inference_pb2 import Prompt, Sampling, Ticket


def test_fields_nobody_set_take_the_engines_defaults() -> None:
    assert convert.sampling_spec(Sampling(max_tokens=3)) == SamplingSpec(3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0.0),
        ("top_p", 0.5),
        ("seed", 0),
        ("seed", -5),
        ("top_logprobs", 0),
        ("json_schema", ""),
        ("presence_penalty", 0.0),
        ("frequency_penalty", -2.0),
        ("ignore_eos", True),
        ("top_k", 0),
        ("min_p", 0.5),
        ("repetition_penalty", 2.0),
        ("min_tokens", 3),
        ("stop_token_ids", (1, 2)),
        ("logit_bias", {1: -2.0}),
        ("regex", ""),
        ("choice", ("a", "b")),
        ("grammar", ""),
    ],
)
def test_a_field_that_is_set_gets_across_even_when_it_is_zero(field: str, value: object) -> None:
    spec = convert.sampling_spec(Sampling(max_tokens=3, **{field: value}))
    assert getattr(spec, field) == value


def test_every_field_that_shapes_tokens_has_a_place_in_the_engines_words() -> None:
    """The others work on text, which engines do not see."""
    fields = {field.name for field in Sampling.DESCRIPTOR.fields}
    assert fields - convert.ON_TEXT == set(SamplingSpec.__struct_fields__)


@pytest.mark.parametrize(("resumed", "left"), [(0, 5), (3, 2), (5, 0), (6, 0)])
def test_the_fewest_tokens_of_an_answer_count_those_of_earlier_attempts(
    resumed: int, left: int
) -> None:
    prompt = Prompt(sampling=Sampling(max_tokens=9, min_tokens=5), resumed_tokens=resumed)
    assert convert.engine_request(prompt).sampling.min_tokens == left


def test_a_prompt_becomes_a_request_of_its_attempt() -> None:
    prompt = Prompt(
        request_id="r", attempt=2, token_ids=[1, 2], cache_salt="t", sampling=Sampling(max_tokens=1)
    )
    request = convert.engine_request(prompt, dp_rank=3, kv_handle=b"h")
    assert request.request_id == "r/2" == convert.prompt_key(Ticket(request_id="r", attempt=2))
    assert (request.token_ids, request.cache_salt) == ([1, 2], "t")
    assert (request.produce, request.kv_handle, request.dp_rank) == (False, b"h", 3)


def test_load_says_what_the_engine_has_to_do_and_who_it_is() -> None:
    info, stats = EngineInfo(32, 100, 8192, 16), EngineStats(1, 2, 3, 4)
    load = convert.load_message("p-0", "e", stats, info, 5, 6)
    assert (load.instance_id, load.epoch, load.at_us) == ("p-0", "e", 6)
    assert (load.running_requests, load.waiting_requests, load.queued_prefill_tokens) == (1, 2, 3)
    assert (load.kv_used_blocks, load.kv_total_blocks, load.kv_held_blocks) == (4, 100, 5)


def test_load_says_how_long_steps_take_and_what_each_rank_has_to_do() -> None:
    ranks = (EngineStats(1, 2, 3, 4), EngineStats(5, 6, 7, 8))
    stats = EngineStats(6, 8, 10, 12, 1500, ranks)
    load = convert.load_message("p-0", "e", stats, EngineInfo(32, 100, 8192, 16, 2), 0, 6)
    assert load.step_us == 1500
    told = [
        (
            rank.running_requests,
            rank.waiting_requests,
            rank.queued_prefill_tokens,
            rank.kv_used_blocks,
        )
        for rank in load.ranks
    ]
    assert told == [(1, 2, 3, 4), (5, 6, 7, 8)]


def test_load_of_one_rank_names_no_ranks() -> None:
    load = convert.load_message("p-0", "e", EngineStats(), EngineInfo(32, 100, 8192, 16), 0, 6)
    assert not load.ranks


def test_every_number_of_an_engines_timing_gets_across() -> None:
    timing = Timing((1, 2, 3), (4, 5, 6), 7, 8, 9, (10, 11, 12))
    message = convert.timing_message(timing)
    assert message is not None
    fields = {field.name for field in message.DESCRIPTOR.fields}
    assert fields == set(Timing.__struct_fields__)
    told = [getattr(message, name) for name in Timing.__struct_fields__]
    again = [tuple(value) if hasattr(value, "__len__") else value for value in told]
    assert Timing(*again) == timing


def test_an_engine_that_does_not_know_its_timing_tells_none() -> None:
    assert convert.timing_message(None) is None


def test_logprobs_are_ranked_and_carry_the_tokens_text_and_bytes() -> None:
    tokenizer = text.sim_tokenizer()
    (lamp,), (door,) = (tokenizer.encode(word) for word in (" lamp", " door"))
    half = tokenizer.encode("é")[0]
    position = Logprobs(door, -2.0, {door: -2.0, lamp: -0.5, half: -3.0})
    found = convert.position_logprobs(position, tokenizer, 7)
    assert (found.chosen.token, found.chosen.logprob, found.text_offset) == (" door", -2.0, 7)
    assert [top.token for top in found.top] == [" lamp", " door", "\ufffd"]
    assert [top.bytes for top in found.top] == [b" lamp", b" door", b"\xc3"]


def test_equally_likely_tokens_come_in_the_same_order_every_time() -> None:
    tokenizer = text.sim_tokenizer()
    positions = [Logprobs(5, -1.0, dict.fromkeys(ids, -1.0)) for ids in ([5, 3, 4], [4, 5, 3])]
    ranked = [convert.position_logprobs(position, tokenizer, 0).top for position in positions]
    assert [top.token_id for top in ranked[0]] == [3, 4, 5]
    assert list(ranked[0]) == list(ranked[1])
