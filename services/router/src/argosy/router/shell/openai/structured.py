"""Which form an answer must have, by any of the names that clients know for it."""

import json
from dataclasses import dataclass
from typing import Any

from argosy.domain.errors import ArgosyError
from argosy.router.shell.openai.options import bad_option, unknown
from argosy.router.shell.openai.tools import mapping
from argosy.wire.inference.v1 import inference_pb2

FORMS = ("json", "json_object", "regex", "choice", "grammar")
DEFAULTS = {
    "disable_any_whitespace": False,
    "disable_additional_properties": False,
    "whitespace_pattern": None,
    "structural_tag": None,
}
"""Further fields of structured_outputs, which may only say their defaults."""


@dataclass(frozen=True)
class Form:
    """One form. name: the field of the request that asks for it."""

    name: str
    kind: str
    value: Any

    def put(self, sampling: inference_pb2.Sampling) -> None:
        """Ask for it. Raises BAD_REQUEST for a value of the wrong kind."""
        value = self.value
        match self.kind:
            case "json" if isinstance(value, (dict, str)):
                sampling.json_schema = value if isinstance(value, str) else json.dumps(value)
            case "json_object" if value is True:
                sampling.json_schema = json.dumps({"type": "object"})
            case "regex" if isinstance(value, str):
                sampling.regex = value
            case "grammar" if isinstance(value, str):
                sampling.grammar = value
            case "choice" if isinstance(value, list) and all(isinstance(v, str) for v in value):
                if not value:
                    raise bad_option(self.name, f"{self.name} needs at least one text")
                sampling.choice.extend(value)
            case _:
                raise bad_option(self.name, f"{self.name} must be {WANTED[self.kind]}")


WANTED = {
    "json": "a JSON schema, as an object or as text",
    "json_object": "true",
    "regex": "text, a regular expression",
    "grammar": "text, a grammar",
    "choice": "a list of texts",
}


def forms_of(request: Any) -> list[Form]:
    """The forms that the guided_* fields, structured_outputs and response_format ask for."""
    forms = []
    for kind in ("json", "regex", "choice", "grammar"):
        name = f"guided_{kind}"
        if getattr(request, name) is not None:
            forms.append(Form(name, kind, getattr(request, name)))
    for name, value in (request.structured_outputs or {}).items():
        where = f"structured_outputs.{name}"
        if value is None or (name == "json_object" and value is False):
            continue
        if name in FORMS:
            forms.append(Form(where, name, value))
        elif name not in DEFAULTS:
            raise unknown(name, FORMS, "structured_outputs.")
        elif value != DEFAULTS[name]:
            raise bad_option(where, f"{where} is not supported: leave it out")
    asked = response_form(request.response_format)
    return forms if asked is None else [*forms, asked]


def put_form(sampling: inference_pb2.Sampling, request: Any, forced_call: str | None) -> None:
    """Ask for the form the request has, if any. Raises BAD_REQUEST.

    forced_call: the schema of a call the caller insists on. A response_format is for what is said,
    and nothing is said beside such a call; any other form would contradict it.
    """
    forms = forms_of(request)
    if forced_call is not None:
        forms = [form for form in forms if form.name != "response_format"]
        forms.append(Form("tool_choice", "json", forced_call))
    if len(forms) > 1:
        names = " and ".join(form.name for form in forms)
        raise bad_option(forms[1].name, f"an answer has one form: leave out all but one of {names}")
    for form in forms:
        form.put(sampling)


def response_form(response_format: dict[str, Any] | None) -> Form | None:
    """What a response_format asks for; None for free text."""
    if response_format is None:
        return None
    match response_format.get("type"):
        case "text":
            return None
        case "json_object":
            return Form("response_format", "json_object", True)
        case "json_schema":
            schema = mapping(response_format, "json_schema").get("schema")
            if isinstance(schema, dict):
                return Form("response_format", "json", schema)
    raise unknown_format()


def unknown_format() -> ArgosyError:
    """For a response_format nobody knows."""
    return bad_option(
        "response_format",
        "response_format must be text, json_object, or json_schema with json_schema.schema",
    )
