import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.domain.errors import ArgosyError, Reason
from argosy.router.shell.openai.tools import ToolSplitter, forced_schema, parse_call

SAIL = {"function": {"name": "sail", "parameters": {"type": "object", "required": ["to"]}}}
MOOR = {"function": {"name": "moor"}}
CALL = '<tool_call>\n{"name": "sail", "arguments": {"to": {"port": "<tool"}}}\n</tool_call>'
BROKEN = "<tool_call>{oops}</tool_call>"
BARE = '{"name": "sail", "arguments": {"to": 1}}'


def split(pieces: list[str], *, forced: bool = False) -> tuple[str, list[tuple[str, Any]]]:
    splitter = ToolSplitter(forced=forced)
    said = "".join(splitter.push(piece) for piece in pieces)
    rest, calls = splitter.finish()
    functions = [call["function"] for call in calls]
    return said + rest, [(f["name"], json.loads(f["arguments"])) for f in functions]


pieces_of_text = st.sampled_from(
    ["Aye. ", "a < b", "<", "<tool_call>", CALL, "\n", "</tool_call>", BROKEN]
)


@settings(max_examples=examples(200))
@given(text=st.lists(pieces_of_text, max_size=5).map("".join), cuts=st.sets(st.integers(0, 250)))
@example(text="Aye. " + CALL, cuts=set(range(90)))
def test_any_chunking_of_an_answer_says_and_calls_the_same(text: str, cuts: set[int]) -> None:
    bounds = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [text[at:to] for at, to in pairwise(bounds)]
    assert split(pieces) == split([text])


@settings(max_examples=examples(200))
@given(text=st.lists(pieces_of_text, max_size=5).map("".join))
def test_what_is_no_call_is_said_to_the_letter(text: str) -> None:
    said, calls = split([text])
    assert len(calls) == text.count(CALL)
    assert said.rstrip() == text.replace(CALL, "").rstrip()


def test_text_before_a_call_is_said_and_the_call_is_not() -> None:
    assert split(["Aye. ", CALL]) == ("Aye. ", [("sail", {"to": {"port": "<tool"}})])


def test_text_flows_before_the_answer_ends() -> None:
    splitter = ToolSplitter(forced=False)
    assert [splitter.push(piece) for piece in ("Aye", " <b", " <too")] == ["Aye", " <b", " "]


def test_several_calls_come_in_order() -> None:
    moor = CALL.replace("sail", "moor")
    said, calls = split([f"{CALL}\n{moor}"])
    assert (said, [name for name, _ in calls]) == ("", ["sail", "moor"])


def test_a_call_cut_short_by_its_mark_is_still_a_call() -> None:
    assert split([CALL.removesuffix("</tool_call>")])[1] == [("sail", {"to": {"port": "<tool"}})]


@pytest.mark.parametrize(
    "broken", [BROKEN, '<tool_call>{"arguments": {}}</tool_call>', "<tool_call>"]
)
def test_a_call_that_does_not_parse_stays_text(broken: str) -> None:
    assert split([broken]) == (broken, [])


def test_a_broken_call_beside_a_good_one_stays_text() -> None:
    said, calls = split([CALL + BROKEN])
    assert (said, [name for name, _ in calls]) == (BROKEN, ["sail"])


def test_what_is_said_after_a_call_is_not_lost() -> None:
    assert split([CALL + " Done."])[0] == " Done."


@settings(max_examples=examples(50))
@given(cut=st.integers(0, len(BARE)))
def test_a_forced_answer_is_one_call_however_it_is_cut(cut: int) -> None:
    assert split([BARE[:cut], BARE[cut:]], forced=True) == ("", [("sail", {"to": 1})])


def test_a_forced_answer_cut_short_is_given_as_text() -> None:
    assert split([BARE[:-4]], forced=True) == (BARE[:-4], [])


def test_each_call_has_an_id_of_its_own() -> None:
    splitter = ToolSplitter(forced=False)
    splitter.push(CALL + CALL)
    _, calls = splitter.finish()
    assert len({call["id"] for call in calls}) == 2
    assert {call["type"] for call in calls} == {"function"}


@pytest.mark.parametrize("encoded", ["", "[]", "7", '{"name": 7}', '{"arguments": {}}'])
def test_what_names_no_function_is_no_call(encoded: str) -> None:
    assert parse_call(encoded) is None


def test_arguments_may_be_called_parameters_or_be_left_out() -> None:
    for encoded, arguments in (
        ('{"name": "f", "parameters": {"a": 1}}', {"a": 1}),
        ('{"name": "f"}', {}),
    ):
        call = parse_call(encoded)
        assert call is not None
        assert json.loads(call["function"]["arguments"]) == arguments


# -- calls the caller insists on


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_a_call_is_not_forced_unless_the_caller_insists(choice: str | None) -> None:
    assert forced_schema([SAIL], choice) is None


def test_required_with_one_tool_is_that_tools_schema() -> None:
    schema = json.loads(forced_schema([SAIL], "required") or "")
    assert schema["properties"]["name"] == {"const": "sail"}
    assert schema["properties"]["arguments"] == SAIL["function"]["parameters"]
    assert (schema["required"], schema["additionalProperties"]) == (["name", "arguments"], False)


def test_required_with_several_tools_is_any_of_them() -> None:
    schema = json.loads(forced_schema([SAIL, MOOR], "required") or "")
    assert [each["properties"]["name"]["const"] for each in schema["anyOf"]] == ["sail", "moor"]


def test_a_named_tool_is_that_tools_schema() -> None:
    schema = json.loads(forced_schema([SAIL, MOOR], {"function": {"name": "moor"}}) or "")
    assert schema["properties"]["name"] == {"const": "moor"}
    assert schema["properties"]["arguments"] == {"type": "object"}


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        ([], "required"),
        ([SAIL], "sometimes"),
        ([SAIL], {}),
        ([SAIL], {"function": "sail"}),
        ([SAIL], {"function": {"name": "sink"}}),
        ([SAIL], {"function": {"name": ["sail"]}}),
        ([{"type": "function"}], "required"),
        ([{"function": "sail"}], "required"),
        ([{"function": {"name": 7}}], "required"),
        ([{"function": {"name": "f", "parameters": "x"}}], "required"),
    ],
)
def test_a_choice_that_cannot_be_kept_is_refused(tools: list[Any], choice: Any) -> None:
    with pytest.raises(ArgosyError) as refused:
        forced_schema(tools, choice)
    assert refused.value.reason is Reason.BAD_REQUEST
