"""Chat templates, rendered as Hugging Face's `apply_chat_template` does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2

from argosy.engine.text.chat_messages import bad_request, messages_for_template
from argosy.engine.text.continuation import cut_at_mark, mark_end_of_final
from argosy.engine.text.template_environment import compiled

RESERVED = {"chat_template", "conversation", "messages", "tokenize", "tools"}
"""Names that `chat_template_kwargs` may not hold: they are fields of their own."""
TEMPLATE_ERRORS = (
    jinja2.TemplateError,
    TypeError,
    AttributeError,
    ValueError,
    LookupError,
    ArithmeticError,
    RuntimeError,
)
"""What Python raises for templates and messages that do not fit each other."""


@dataclass(frozen=True)
class ChatOptions:
    """How to render a chat; names as with Hugging Face.

    add_generation_prompt: None means so unless the final message is continued.
    template: the name of one of the model's templates; empty for the usual one.
    variables: for the template; `chat_template_kwargs` in requests. Options of the names
    above may stand there too.
    """

    add_generation_prompt: bool | None = None
    continue_final_message: bool = False
    template: str = ""
    documents: Sequence[Mapping[str, Any]] | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ChatTemplates:
    """A model's chat templates by name, and the special tokens they may use by name."""

    by_name: dict[str, str]
    special_tokens: dict[str, str]

    def render(
        self, messages: Sequence[Any], tools: Sequence[Any] | None, options: ChatOptions
    ) -> str:
        """The chat as text. Raises BAD_REQUEST saying what the template or the chat lacks."""
        source = self.choose(options.template, tools)
        variables, continues = self._variables(options)
        ready = messages_for_template(messages)
        final = mark_end_of_final(ready) if continues else ""
        try:
            text = compiled(source).render(
                messages=ready, tools=list(tools) if tools else None, **variables
            )
        except TEMPLATE_ERRORS as error:
            message = f"the model's chat template refuses these messages: {error}"
            raise bad_request(message) from error
        return cut_at_mark(text, final) if continues else text

    def choose(self, name: str, tools: Sequence[Any] | None) -> str:
        """The template of that name; else `tool_use` with tools, `default`, or the only one."""
        if not self.by_name:
            raise bad_request("this model has no chat template; use /v1/completions")
        usual = ("tool_use", "default") if tools else ("default",)
        for wanted in (name,) if name else usual:
            if wanted in self.by_name:
                return self.by_name[wanted]
        if len(self.by_name) == 1 and not name:
            return next(iter(self.by_name.values()))
        raise bad_request(
            f"chat_template: this model has no template '{name or 'default'}'; name one of: "
            + ", ".join(sorted(self.by_name))
        )

    def _variables(self, options: ChatOptions) -> tuple[dict[str, Any], bool]:
        """What the template sees beside the chat, and whether the final message goes on."""
        if reserved := RESERVED & options.variables.keys():
            raise bad_request(
                f"chat_template_kwargs holds {', '.join(sorted(reserved))}, which the template "
                "gets from the request: leave it out there"
            )
        variables = {
            "add_generation_prompt": options.add_generation_prompt,
            "continue_final_message": options.continue_final_message,
            "documents": options.documents,
            **self.special_tokens,
            **options.variables,
        }
        continues = variables.pop("continue_final_message")
        if not isinstance(continues, bool):
            raise bad_request("continue_final_message must be true or false")
        if variables["add_generation_prompt"] is None:
            variables["add_generation_prompt"] = not continues
        elif continues and variables["add_generation_prompt"]:
            raise bad_request(
                "continue_final_message and add_generation_prompt exclude each other: a prompt "
                "ends either in the final message or where the next one begins"
            )
        return variables, continues
