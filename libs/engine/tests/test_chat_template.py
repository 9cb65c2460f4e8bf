"""Chats become what Hugging Face's renderer makes of them, for templates as families ship them."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.engine import text
from argosy.engine.text import ChatOptions
from argosy.engine.text.chat_template import ChatTemplates

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
CHATML = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
)
THINKING = (  # as Qwen 3
    CHATML + "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)
HERMES = (  # as Qwen 2.5
    "{%- if tools %}{{- '# Tools\\n' }}{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}"
    "{%- endif %}{%- for m in messages %}{%- if m.tool_calls %}{%- for call in m.tool_calls %}"
    "{%- if call.function is defined %}{%- set call = call.function %}{%- endif %}"
    '{{- \'<tool_call>\\n{"name": "\' }}{{- call.name }}{{- \'", "arguments": \' }}'
    "{{- call.arguments | tojson }}{{- '}\\n</tool_call>' }}{%- endfor %}"
    "{%- elif m.role == 'tool' %}"
    "{%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}"
    "{{- '<|im_start|>user' }}{%- endif %}{{- '\\n<tool_response>' + m.content }}"
    "{%- else %}{{- m.role + ': ' + m.content }}{%- endif %}{%- endfor %}"
)
LLAMA = (  # as Llama 3.1
    "{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    '{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}'
    '{%- set date_string = "26 Jul 2024" %}{%- endif %}{%- endif %}'
    "{{- 'Today Date: ' + date_string + '\\n' }}{%- for t in tools or [] %}"
    "{{- t | tojson(indent=4) }}{{- '\\n\\n' }}{%- endfor %}{%- for message in messages %}"
    "{%- if 'tool_calls' in message %}{%- if not message.tool_calls|length == 1 %}"
    '{{- raise_exception("This model only supports single tool-calls at once!") }}{%- endif %}'
    "{%- set tool_call = message.tool_calls[0].function %}"
    '{{- \'{"name": "\' + tool_call.name + \'", "parameters": \' }}'
    "{{- tool_call.arguments | tojson }}{{- '}<|eot_id|>' }}{%- else %}"
    "{{- '<|start_header_id|>' + message['role'] + '\\n\\n' + message['content'] | trim + "
    "'<|eot_id|>' }}{%- endif %}{%- endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% set ns = namespace(index=0) %}{% for m in messages %}"
    "{% if m['role'] == 'tool' %}{% continue %}{% endif %}"
    "{% if (m['role'] == 'user') != (ns.index % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}{% set ns.index = ns.index + 1 %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% elif m.tool_calls is defined %}"
    "[TOOL_CALLS]{{ m.tool_calls | map(attribute='function') | list | tojson }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
GRANITE = (
    "{%- set system = 'You are Granite. Today is ' + strftime_now('%B %d, %Y') + '.' %}\n"
    "{{- system }}\n{%- if documents %}{%- for d in documents %}\n"
    "    {{- '<|doc|>' + d['title'] + ': ' + d['text'] }}\n{%- endfor %}\n{%- endif %}\n"
    "{%- for m in messages %}\n    {{- '<|role|>' + m['role'] + m['content'] }}\n{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|role|>assistant' }}{%- endif %}"
)
TRAINED = (  # as SmolLM 3
    "{% for m in messages %}\n  {% if m.role == 'assistant' %}\n"
    "    {% set x = m.content %}\n    {% generation %}\n{{ x + eos_token }}{% set x = 'in' %}\n"
    "    {% endgeneration %}\n{{ x }}{% else %}{{ m.content }}{% endif %}\n"
    "  {% if loop.index > 2 %}{% break %}{% endif %}\n{% endfor %}"
)
JSON_OPTIONS = (
    "{{ messages | tojson(sort_keys=true, separators=(',', ':')) }}{{ messages | tojson(true) }}"
    "{{ messages[0] | tojson(ensure_ascii=False, indent=2) }}{{ '<a&b>' | tojson }}{{ no_token }}"
    "{{ messages[0].content | tojson }}"
)
TEMPLATES = {
    "chatml": CHATML + "{%- endif %}",
    "thinking": THINKING,
    "hermes": HERMES,
    "llama": LLAMA,
    "mistral": MISTRAL,
    "granite": GRANITE,
    "trained": TRAINED,
    "json": JSON_OPTIONS,
}

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
HELLO = [{"role": "user", "content": "  Grüße <b>&  "}, {"role": "assistant", "content": "Hi  "}]


def called(arguments: object) -> list[dict[str, Any]]:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [
        {"role": "user", "content": "How is it?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "fine"},
    ]


def render(
    template: str,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None = None,
    **options: Any,
) -> str:
    templates = ChatTemplates({"default": template}, SPECIAL)
    return templates.render(messages, tools, ChatOptions(**options))


def says(found: pytest.ExceptionInfo[ArgosyError]) -> str:
    assert found.value.reason is Reason.BAD_REQUEST
    return found.value.message


# -- equal to Hugging Face

CASES: list[Mapping[str, Any]] = [
    {"messages": HELLO},
    {"messages": HELLO, "add_generation_prompt": False},
    {"messages": HELLO, "tools": TOOLS},
    {"messages": called({"city": "Köln", "n": [1, None]}), "tools": TOOLS},
    {"messages": HELLO, "enable_thinking": False},
    {"messages": HELLO, "date_string": "1 May 2020", "bos_token": "<other>"},
    {"messages": HELLO, "documents": [{"title": "T", "text": "words"}]},
    {"messages": HELLO, "continue_final_message": True},
    {"messages": [*HELLO, {**HELLO[0]}], "continue_final_message": True},
    {"messages": [HELLO[1]]},
]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_is_rendered_as_hugging_face_renders_it(name: str, case: Mapping[str, Any]) -> None:
    theirs = pytest.importorskip("transformers.utils.chat_template_utils")
    options = dict(case)
    messages, tools = options.pop("messages"), options.pop("tools", None)
    asked = {"add_generation_prompt": not options.get("continue_final_message"), **options}
    try:
        (wanted,), _ = theirs.render_jinja_template(
            [messages], tools, chat_template=TEMPLATES[name], **{**SPECIAL, **asked}
        )
    except (TypeError, ValueError, jinja2.TemplateError) as refused:
        with pytest.raises(ArgosyError) as found:
            render(TEMPLATES[name], messages, tools, variables=options)
        alike = "continue_final_message" if "continue_final" in str(refused) else str(refused)
        assert alike in says(found)
    else:
        assert render(TEMPLATES[name], messages, tools, variables=options) == wanted


# -- the messages


@pytest.mark.parametrize("arguments", ['{"city": "Bonn"}', {"city": "Bonn"}])
def test_tool_call_arguments_reach_the_template_as_objects(arguments: object) -> None:
    assert '"arguments": {"city": "Bonn"}' in render(HERMES, called(arguments))


@pytest.mark.parametrize("arguments", ["", None, "{}", {}])
def test_a_call_without_arguments_has_an_empty_object(arguments: object) -> None:
    assert '"arguments": {}' in render(HERMES, called(arguments))


@pytest.mark.parametrize("arguments", ['{"city": ', "[1]", '"text"', [1], 7, "[" * 100_000])
def test_arguments_that_are_no_object_are_refused_naming_message_and_call(
    arguments: object,
) -> None:
    with pytest.raises(ArgosyError) as refused:
        render(HERMES, called(arguments))
    assert "messages[1].tool_calls[0].function.arguments" in says(refused)


@pytest.mark.parametrize("calls", ["no list", [7], [{"id": "c"}]])
def test_tool_calls_of_another_form_are_refused_naming_them(calls: object) -> None:
    with pytest.raises(ArgosyError) as refused:
        render(HERMES, [{"role": "assistant", "content": "", "tool_calls": calls}])
    assert "messages[0].tool_calls" in says(refused)


@pytest.mark.parametrize("calls", [None, []])
def test_optional_fields_that_are_empty_are_not_there_for_the_template(calls: object) -> None:
    said = {"role": "user", "content": "hi", "tool_calls": calls, "name": None}
    assert render("{{ messages[0].keys() | list }}", [said]) == "['role', 'content']"


def test_rendering_leaves_the_callers_messages_as_they_are() -> None:
    messages = called('{"a": 1}')
    before = json.dumps(messages)
    render(HERMES, messages)
    render(CHATML + "{%- endif %}", messages, continue_final_message=True)
    assert json.dumps(messages) == before


# -- options


def test_the_prompt_ends_where_the_assistant_speaks_unless_told_otherwise() -> None:
    assert render(THINKING, HELLO).endswith("<|im_start|>assistant\n")
    assert render(THINKING, HELLO, add_generation_prompt=False).endswith("<|im_end|>\n")


def test_a_prompt_that_continues_the_final_message_ends_in_it() -> None:
    assert render(THINKING, HELLO, continue_final_message=True).endswith("assistant\nHi  ")
    assert render(LLAMA, HELLO, continue_final_message=True).endswith("assistant\n\nHi")


@pytest.mark.parametrize(
    "options",
    [
        {"add_generation_prompt": True, "continue_final_message": True},
        {"variables": {"add_generation_prompt": True, "continue_final_message": True}},
    ],
)
def test_continuing_and_beginning_a_message_exclude_each_other(options: dict[str, Any]) -> None:
    with pytest.raises(ArgosyError) as refused:
        render(THINKING, HELLO, **options)
    assert "exclude each other" in says(refused)


@pytest.mark.parametrize(
    ("template", "final"), [("{{ messages[0].role }}", "x"), (CHATML + "{%- endif %}", None)]
)
def test_a_final_message_that_the_prompt_would_not_end_in_cannot_be_continued(
    template: str, final: str | None
) -> None:
    with pytest.raises(ArgosyError) as refused:
        render(template, [{"role": "assistant", "content": final}], continue_final_message=True)
    assert "continue_final_message" in says(refused)


@pytest.mark.parametrize("name", ["messages", "tools", "chat_template", "tokenize"])
def test_template_variables_cannot_replace_the_chat(name: str) -> None:
    with pytest.raises(ArgosyError) as refused:
        render(THINKING, HELLO, variables={name: []})
    assert f"chat_template_kwargs holds {name}" in says(refused)


def test_only_the_text_of_the_final_message_can_be_continued() -> None:
    with pytest.raises(ArgosyError) as refused:
        render(THINKING, HELLO, variables={"continue_final_message": "reasoning_content"})
    assert "must be true or false" in says(refused)


def test_a_template_knows_the_date() -> None:
    before = time.strftime("%Y-%m-%d")
    rendered = render("{{ strftime_now('%Y-%m-%d') }}", HELLO)
    assert rendered in {before, time.strftime("%Y-%m-%d")}


# -- several templates


@pytest.mark.parametrize(
    ("names", "name", "tools", "chosen"),
    [
        (["default", "tool_use"], "", None, "default"),
        (["default", "tool_use"], "", TOOLS, "tool_use"),
        (["default", "rag"], "", TOOLS, "default"),
        (["default", "rag"], "rag", TOOLS, "rag"),
        (["rag"], "", None, "rag"),
    ],
)
def test_of_named_templates_the_one_for_the_request_is_taken(
    names: list[str], name: str, tools: list[Any] | None, chosen: str
) -> None:
    templates = ChatTemplates({n: n for n in names}, {})
    assert templates.render(HELLO, tools, ChatOptions(template=name)) == chosen


@pytest.mark.parametrize(("names", "name"), [(["a", "b"], ""), (["default", "a"], "c")])
def test_a_template_that_is_not_there_is_refused_naming_those_that_are(
    names: list[str], name: str
) -> None:
    with pytest.raises(ArgosyError) as refused:
        ChatTemplates({n: n for n in names}, {}).render(HELLO, None, ChatOptions(template=name))
    assert ", ".join(sorted(names)) in says(refused)


def folder_with(folder: Path, config: dict[str, object], files: dict[str, str]) -> text.Tokenizer:
    text.sim_tokenizer().encoder.save(str(folder / "tokenizer.json"))
    for name, content in {"tokenizer_config.json": json.dumps(config), **files}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    return text.load(str(folder))


def test_named_templates_are_read_from_the_configuration_or_from_files(tmp_path: Path) -> None:
    listed = [{"name": "default", "template": "d"}, {"name": "rag", "template": "r"}]
    inside = folder_with(tmp_path, {"chat_template": listed}, {})
    assert inside.templates.by_name == {"default": "d", "rag": "r"}
    files = {"chat_template.jinja": "file", "additional_chat_templates/tool_use.jinja": "tools"}
    beside = folder_with(tmp_path, {"chat_template": listed}, files)
    assert beside.templates.by_name == {"default": "file", "tool_use": "tools"}


def test_special_tokens_that_a_model_has_not_are_undefined_in_its_template(tmp_path: Path) -> None:
    config: dict[str, object] = {"eos_token": {"content": "</s>"}, "pad_token": None}
    loaded = folder_with(tmp_path, config, {"special_tokens_map.json": '{"bos_token": "<s>"}'})
    assert loaded.templates.special_tokens == {"eos_token": "</s>", "bos_token": "<s>"}
