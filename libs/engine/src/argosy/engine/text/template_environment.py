"""Hugging Face's environment for chat templates: its tags, filters and functions.

The services do without transformers, so it is made here; a test holds the two equal.
"""

import functools
import json
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox


class Generation(jinja2.ext.Extension):
    """The tag {% generation %}, which marks for trainers what the assistant said."""

    tags = {"generation"}  # noqa: RUF012 - declared so by jinja2

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        """Its body, in a scope of its own, as with Hugging Face."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


@functools.lru_cache(maxsize=16)
def compiled(template: str) -> jinja2.Template:
    """A template in Hugging Face's environment. Sandboxed: models are data."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = strftime_now
    return environment.from_string(template)


@functools.lru_cache(maxsize=16)
def variables_of(template: str) -> frozenset[str]:
    """The names that a template reads and does not set itself."""
    parsed = compiled(template).environment.parse(template)
    return frozenset(jinja2.meta.find_undeclared_variables(parsed))


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Hugging Face's filter, with its order of arguments; jinja2's own would escape HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def strftime_now(form: str) -> str:
    """Today, in local time as with Hugging Face, for templates that tell the model the date."""
    return datetime.now().strftime(form)  # noqa: DTZ005, TID251 - a template has no other clock


def refuse(message: str) -> None:
    """What templates call on messages they cannot render."""
    raise jinja2.TemplateError(message)
