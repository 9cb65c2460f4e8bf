from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.decode.shell.answer import AnswerStream
from argosy.domain.errors import ArgosyError, Reason
from argosy.engine.api import EngineOutput, Logprobs
from argosy.engine.text import sim_tokenizer
from argosy.wire.inference.v1 import inference_pb2

ENCODER = sim_tokenizer()
PROMPT = ENCODER.encode("<|im_start|>user\nWhere do we house? é☃<|im_end|>\n")
EOS = ENCODER.eos_token_ids[0]

pieces = st.sampled_from([*"ab\né☃😀", " the", " house"])
texts = st.lists(pieces, min_size=1, max_size=12).map("".join)
stops = st.lists(st.text(st.sampled_from("ab\né☃"), min_size=1, max_size=3), max_size=2)
runs = st.lists(st.integers(1, 4), min_size=1)
"""How many tokens each engine output brings; repeated as often as it takes."""


@dataclass
class HeardChunks:
    """What a caller has of an answer."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    last: inference_pb2.TokenChunk | None = None


def outputs(
    tokens: list[int], sizes: list[int], finish: str | None = "length"
) -> list[EngineOutput]:
    found, at = [], 0
    while at < len(tokens):
        size = sizes[len(found) % len(sizes)]
        ends = at + size >= len(tokens)
        found.append(EngineOutput(tokens[at : at + size], finish=finish if ends else None))
        at += size
    return found


def listen(answer: AnswerStream, engine_outputs: list[EngineOutput]) -> HeardChunks:
    heard = HeardChunks()
    for output in engine_outputs:
        chunk = answer.chunk(output)
        heard.text += chunk.text
        heard.token_ids += chunk.token_ids
        if answer.finished:
            heard.last = chunk
            break
    return heard


def answer_to(stop: list[str] | None = None, **fields: object) -> AnswerStream:
    given_fields = {"token_ids": PROMPT} | fields
    sampling = inference_pb2.Sampling(max_tokens=99, stop=stop or [])
    return AnswerStream(
        inference_pb2.Prompt(request_id="a", sampling=sampling, **given_fields), ENCODER
    )


@settings(max_examples=examples(200))
@given(text=texts, sizes=runs, stop=stops.filter(lambda stop: len(stop) < 2))
def test_an_answer_is_its_text_up_to_the_stop_string(
    text: str, sizes: list[int], stop: list[str]
) -> None:
    heard = listen(answer_to(stop), outputs(ENCODER.encode(text), sizes))
    stops_at = text.find(stop[0]) if stop else -1
    assert heard.last is not None
    assert heard.text == (text if stops_at < 0 else text[:stops_at])
    stopped = heard.last.finish_reason == inference_pb2.FINISH_REASON_STOP
    assert stopped == (stops_at >= 0)


@settings(max_examples=examples(300))
@given(text=texts, sizes=runs, stop=stops, data=st.data())
def test_a_resumed_answer_is_exactly_the_rest(
    text: str, sizes: list[int], stop: list[str], data: st.DataObject
) -> None:
    tokens = ENCODER.encode(text)
    whole = listen(answer_to(stop), outputs(tokens, sizes))
    assert whole.last is not None
    split = data.draw(st.integers(0, len(whole.token_ids) - 1))
    before = listen(answer_to(stop), outputs(tokens[:split], sizes, finish=None))
    resumed = answer_to(
        stop, token_ids=PROMPT + before.token_ids, resumed_tokens=len(before.token_ids)
    )
    rest = listen(resumed, outputs(tokens[split:], sizes))
    assert before.text + rest.text == whole.text
    assert before.token_ids + rest.token_ids == whole.token_ids
    assert rest.last is not None
    assert rest.last.usage == whole.last.usage
    assert rest.last.finish_reason == whole.last.finish_reason


@settings(max_examples=examples(200))
@given(text=texts, sizes=runs, data=st.data())
def test_a_structured_answer_made_anew_skips_what_was_sent(
    text: str, sizes: list[int], data: st.DataObject
) -> None:
    tokens = ENCODER.encode(text)
    whole = listen(answer_to(), outputs(tokens, sizes))
    split = data.draw(st.integers(0, len(tokens) - 1))
    before = listen(answer_to(), outputs(tokens[:split], sizes, finish=None))
    rest = listen(answer_to(sent_token_ids=before.token_ids), outputs(tokens, sizes))
    assert before.text + rest.text == whole.text
    assert before.token_ids + rest.token_ids == whole.token_ids
    assert rest.last is not None
    assert whole.last is not None
    assert rest.last.usage == whole.last.usage


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_structured_answer_that_differs_from_what_was_sent_is_diverged(at: int) -> None:
    sent = ENCODER.encode("abc")
    anew = [*sent[:at], ENCODER.encode("x")[0], *sent[at + 1 :]]
    with pytest.raises(ArgosyError) as diverged:
        listen(answer_to(sent_token_ids=sent), outputs(anew, [2]))
    assert diverged.value.reason is Reason.DIVERGED


def test_a_structured_answer_that_ends_before_what_was_sent_is_diverged() -> None:
    sent = ENCODER.encode("abc")
    with pytest.raises(ArgosyError) as diverged:
        listen(answer_to(sent_token_ids=sent), outputs(sent[:2], [1], finish="stop"))
    assert diverged.value.reason is Reason.DIVERGED


def test_usage_counts_the_prompt_and_every_token_produced_for_it() -> None:
    resumed = answer_to(token_ids=[*PROMPT, 5, 6, 7], resumed_tokens=3)
    heard = listen(resumed, [EngineOutput([8, 9], finish="length", cached_tokens=4)])
    assert heard.last is not None
    usage = heard.last.usage
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
    assert counts == (len(PROMPT), 5, 4)


def test_the_mark_that_ends_an_answer_is_not_part_of_its_text() -> None:
    tokens = [*ENCODER.encode("aye"), EOS]
    heard = listen(answer_to(), outputs(tokens, [1], finish="stop"))
    assert heard.text == "aye"


def test_tokens_after_a_stop_string_are_neither_sent_nor_counted() -> None:
    heard = listen(answer_to(["b"]), outputs(ENCODER.encode("abcd"), [4]))
    assert (heard.text, heard.token_ids) == ("a", ENCODER.encode("ab"))
    assert heard.last is not None
    assert heard.last.usage.completion_tokens == 2


def test_text_held_back_for_a_stop_string_is_given_when_the_answer_ends() -> None:
    answer = answer_to(["a stop"])
    first = answer.chunk(EngineOutput(ENCODER.encode("a st")))
    last = answer.chunk(EngineOutput(ENCODER.encode("x"), finish="length"))
    assert (first.text, last.text) == ("", "a stx")


def test_logprobs_come_for_the_tokens_that_are_sent() -> None:
    tokens = ENCODER.encode("abc")
    logprobs = [Logprobs(token, -0.5, {token: -0.5}) for token in tokens]
    answer = answer_to(sent_token_ids=tokens[:2])
    chunk = answer.chunk(EngineOutput(tokens, logprobs, finish="length"))
    assert [position.chosen.token for position in chunk.logprobs] == ["c"]


def test_logprobs_say_where_in_the_whole_answer_a_token_begins() -> None:
    tokens = ENCODER.encode("é the x")
    logprobs = [Logprobs(token, -0.5, {}) for token in tokens]
    whole = answer_to(["never"]).chunk(EngineOutput(tokens, logprobs, finish="length"))
    assert [position.text_offset for position in whole.logprobs] == [0, 0, 1, 5, 6]
    assert b"".join(position.chosen.bytes for position in whole.logprobs) == whole.text.encode()

    resumed = answer_to(token_ids=[*PROMPT, *tokens[:3]], resumed_tokens=3)
    rest = resumed.chunk(EngineOutput(tokens[3:], logprobs[3:], finish="length"))
    assert [position.text_offset for position in rest.logprobs] == [5, 6]


def heard_text(text: str, finish: str = "length", **sampling: object) -> str:
    wanted = inference_pb2.Sampling(max_tokens=99, **sampling)  # type: ignore[arg-type]
    prompt = inference_pb2.Prompt(request_id="a", sampling=wanted, token_ids=PROMPT)
    return listen(AnswerStream(prompt, ENCODER), outputs(ENCODER.encode(text), [1], finish)).text


@pytest.mark.parametrize(
    ("sampling", "text"),
    [
        ({"stop": ["cd"]}, "ab"),
        ({"stop": ["cd"], "include_stop_str_in_output": True}, "abcd"),
        ({"stop": ["cde", "cd"], "include_stop_str_in_output": True}, "abcd"),
        ({"stop": ["cd", "fg"], "min_tokens": 4}, "abcde"),
        ({"stop": ["cd"], "min_tokens": 3}, "ab"),
        ({"stop": ["cd"], "min_tokens": 99}, "abcdefgh"),
    ],
)
def test_a_stop_string_ends_an_answer_where_its_options_say(
    sampling: dict[str, object], text: str
) -> None:
    assert heard_text("abcdefgh", **sampling) == text


@pytest.mark.parametrize(
    ("sampling", "text"),
    [
        ({}, "ab"),
        ({"include_stop_str_in_output": True}, "abc"),
        ({"skip_special_tokens": False}, "ab"),
    ],
)
def test_a_stop_token_has_no_text_unless_it_is_asked_for(
    sampling: dict[str, object], text: str
) -> None:
    stop_token_ids = ENCODER.encode("c")
    assert heard_text("abc", "stop", stop_token_ids=stop_token_ids, **sampling) == text
    assert heard_text("abcb", "stop", stop_token_ids=stop_token_ids) == "abcb"


@pytest.mark.parametrize(("skip", "text"), [(None, "ab"), (True, "ab"), (False, "a<|im_start|>b")])
def test_special_tokens_have_text_if_it_is_asked_for(skip: bool | None, text: str) -> None:
    assert heard_text("a<|im_start|>b", skip_special_tokens=skip) == text
    assert heard_text("a<|im_start|>b<|im_end|>", "stop", skip_special_tokens=skip) == text


@settings(max_examples=examples(100))
@given(
    text=texts, stop=stops, fewest=st.integers(0, 12), keep=st.booleans(), split=st.integers(0, 99)
)
def test_the_options_of_stop_strings_hold_over_attempts(
    text: str, stop: list[str], fewest: int, keep: bool, split: int
) -> None:
    tokens = ENCODER.encode(text)
    wanted = inference_pb2.Sampling(
        max_tokens=99, stop=stop, min_tokens=fewest, include_stop_str_in_output=keep
    )

    def listened(given_ids: list[int], rest: list[int], finish: str | None) -> HeardChunks:
        prompt = inference_pb2.Prompt(
            sampling=wanted, token_ids=[*PROMPT, *given_ids], resumed_tokens=len(given_ids)
        )
        return listen(AnswerStream(prompt, ENCODER), outputs(rest, [1], finish))

    whole = listened([], tokens, "length")
    done = whole.token_ids[: split % len(whole.token_ids)]
    first = listened([], done, None)
    assert first.text + listened(done, tokens[len(done) :], "length").text == whole.text
