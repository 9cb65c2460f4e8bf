from typing import Any

import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.router.shell.openai.replies import ChoiceReply, error_body, retry_after_s, usage_of
from argosy.router.shell.openai.tools import ToolSplitter
from argosy.wire.inference.v1 import inference_pb2

CALL = '<tool_call>{"name": "sail", "arguments": {}}</tool_call>'
STOP, LENGTH = inference_pb2.FINISH_REASON_STOP, inference_pb2.FINISH_REASON_LENGTH


def chunk(text: str, finish: Any = None, **fields: Any) -> inference_pb2.TokenChunk:
    return inference_pb2.TokenChunk(text=text, finish_reason=finish, **fields)


def scored(spelt: bytes, offset: int = 0) -> inference_pb2.PositionLogprobs:
    text = spelt.decode(errors="replace")
    token = inference_pb2.TokenLogprob(token=text, logprob=-0.5, bytes=spelt)
    return inference_pb2.PositionLogprobs(chosen=token, top=[token], text_offset=offset)


def used(prompt: int, completion: int, cached: int = 0) -> ChoiceReply:
    usage = inference_pb2.Usage(
        prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached
    )
    choice = ChoiceReply(0, chat=True)
    choice.add(chunk("", STOP, usage=usage))
    return choice


def test_pieces_of_a_chat_are_deltas_and_the_last_says_why_it_ended() -> None:
    choice = ChoiceReply(2, chat=True)
    first, last = choice.add(chunk("ahoy")), choice.add(chunk(" there", LENGTH))
    assert first == {
        "index": 2,
        "delta": {"content": "ahoy"},
        "logprobs": None,
        "finish_reason": None,
    }
    assert last is not None
    assert (last["delta"], last["finish_reason"]) == ({"content": " there"}, "length")


def test_pieces_of_a_completion_are_text() -> None:
    piece = ChoiceReply(0, chat=False).add(chunk("ahoy", STOP))
    assert piece == {"index": 0, "text": "ahoy", "logprobs": None, "finish_reason": "stop"}


def test_the_whole_is_what_the_pieces_were() -> None:
    for chat in (True, False):
        choice = ChoiceReply(0, chat)
        for piece in (chunk("ahoy"), chunk(" there", STOP)):
            choice.add(piece)
        whole = choice.whole()
        assert (whole["message"]["content"] if chat else whole["text"]) == "ahoy there"
        assert whole["finish_reason"] == "stop"


def test_a_chunk_that_says_nothing_yet_is_no_piece() -> None:
    assert ChoiceReply(0, chat=True).add(chunk("")) is None


def test_a_call_ends_a_chat_as_such_and_is_not_said() -> None:
    choice = ChoiceReply(0, chat=True, tools=ToolSplitter(forced=False))
    said = [choice.add(chunk(piece)) for piece in ("Aye. ", CALL[:20], CALL[20:])]
    last = choice.add(chunk("", STOP))
    assert [piece["delta"]["content"] for piece in said if piece] == ["Aye. "]
    assert last is not None
    assert last["finish_reason"] == "tool_calls"
    (call,) = last["delta"]["tool_calls"]
    assert (call["index"], call["function"]["name"]) == (0, "sail")


@pytest.mark.parametrize(("text", "content"), [(CALL, None), ("Aye. " + CALL, "Aye. ")])
def test_a_whole_message_with_a_call_has_the_text_that_was_said(text: str, content: Any) -> None:
    choice = ChoiceReply(0, chat=True, tools=ToolSplitter(forced=False))
    choice.add(chunk(text, STOP))
    message = choice.whole()["message"]
    assert message["content"] == content
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["sail"]


def test_text_held_back_for_a_call_that_never_came_is_said_at_the_end() -> None:
    choice = ChoiceReply(0, chat=True, tools=ToolSplitter(forced=False))
    choice.add(chunk("a <tool"))
    last = choice.add(chunk("", STOP))
    assert last is not None
    assert (last["delta"], last["finish_reason"]) == ({"content": "<tool"}, "stop")


@pytest.mark.parametrize("spelt", ["é".encode(), b" \xc3", b"\xa9"])
def test_logprobs_of_a_chat_have_the_tokens_own_bytes(spelt: bytes) -> None:
    piece = ChoiceReply(0, chat=True).add(chunk("é", logprobs=[scored(spelt)]))
    assert piece is not None
    (position,) = piece["logprobs"]["content"]
    assert position["token"] == spelt.decode(errors="replace")
    assert position["bytes"] == list(spelt)
    assert position["top_logprobs"] == [{k: position[k] for k in ("token", "logprob", "bytes")}]


def test_logprobs_of_a_completion_say_where_in_the_answer_each_token_begins() -> None:
    choice = ChoiceReply(0, chat=False)
    pieces = [
        choice.add(chunk(text, logprobs=[scored(text.encode(), offset)]))
        for text, offset in (("ab", 0), ("é", 2), ("c", 3))
    ]
    assert [piece and piece["logprobs"]["text_offset"] for piece in pieces] == [[0], [2], [3]]
    logprobs = choice.whole()["logprobs"]
    assert (logprobs["tokens"], logprobs["text_offset"]) == (["ab", "é", "c"], [0, 2, 3])


def test_parts_of_characters_have_names_of_their_own_in_a_completions_logprobs() -> None:
    position = scored(b"\xc3")
    position.top.append(scored(b" \xa9").chosen)
    position.top.append(scored("\ufffd".encode()).chosen)
    choice = ChoiceReply(0, chat=False)
    choice.add(chunk("", logprobs=[position]))
    logprobs = choice.whole()["logprobs"]
    assert logprobs["tokens"] == ["bytes:\\xc3"]
    assert list(logprobs["top_logprobs"][0]) == ["bytes:\\xc3", "bytes:\\x20\\xa9", "\ufffd"]


def test_logprobs_come_even_with_text_that_is_held_back() -> None:
    piece = ChoiceReply(0, chat=True).add(chunk("", logprobs=[scored(b"<")]))
    assert piece is not None
    assert piece["logprobs"]["content"][0]["token"] == "<"


def test_usage_counts_each_prompt_once_however_many_answers_it_got() -> None:
    two_prompts_three_answers_each = [used(10, 1, cached=4)] * 3 + [used(20, 2)] * 3
    usage = usage_of(two_prompts_three_answers_each, prompts=2)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (30, 9)
    assert usage["total_tokens"] == 39
    assert usage["prompt_tokens_details"] == {"cached_tokens": 4}


def test_an_error_reads_as_openai_clients_expect_it() -> None:
    body = error_body(ArgosyError(Reason.MODEL_NOT_FOUND, "no model 'x' here", param="model"))
    assert body == {
        "error": {
            "message": "no model 'x' here",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
            "reason": "MODEL_NOT_FOUND",
        }
    }


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.PROMPT_TOO_LONG, "context_length_exceeded"),
        (Reason.OVERLOADED, "rate_limit_exceeded"),
        (Reason.BAD_REQUEST, None),
        (Reason.NO_INSTANCE, None),
    ],
)
def test_an_error_has_openais_code_where_there_is_one_and_its_own_reason(
    reason: Reason, code: str | None
) -> None:
    error = error_body(ArgosyError(reason, "x"))["error"]
    assert (error["code"], error["param"], error["reason"]) == (code, None, reason.name)


@pytest.mark.parametrize("reason", list(Reason))
def test_a_caller_is_told_when_to_try_again_if_that_is_of_use(reason: Reason) -> None:
    assert retry_after_s(ArgosyError(reason, "x", retry_after_ms=1001)) == 2
    assert bool(retry_after_s(ArgosyError(reason, "x"))) == (reason.value.http in (429, 503))
