"""Tool calls: forced ones through a schema, free ones found in the text.

Free calls are read in the form chat templates teach: <tool_call>{json}</tool_call>.
"""

import json
import re
import uuid
from typing import Any

from argosy.domain.errors import ArgosyError, Reason
from argosy.engine.text import overlap

MARK = "<tool_call>"
CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*(?:</tool_call>|$)", re.DOTALL)


def permitted(
    tools: list[dict[str, Any]] | None, choice: str | dict[str, Any] | None
) -> tuple[list[dict[str, Any]], str | dict[str, Any] | None]:
    """The tools that may be called, and the choice among them.

    A choice of the form allowed_tools becomes a shorter list and a plain choice: what is not
    allowed is not told to the model. Raises BAD_REQUEST.
    """
    tools = tools or []
    known = [function_name(tool, f"tools[{at}]") for at, tool in enumerate(tools)]
    if not isinstance(choice, dict) or choice.get("type") != "allowed_tools":
        return tools, choice
    allowed = mapping(choice, "allowed_tools")
    mode, named = allowed.get("mode"), allowed.get("tools")
    if mode not in ("auto", "required") or not isinstance(named, list) or not named:
        raise bad_choice("allowed_tools needs mode (auto or required) and tools, not empty")
    names = {function_name(tool, "tool_choice.allowed_tools.tools") for tool in named}
    if missing := names.difference(known):
        raise bad_choice(f"tool_choice allows '{min(missing)}', which is not in tools")
    return [tool for tool, name in zip(tools, known, strict=True) if name in names], mode


def function_name(tool: Any, where: str) -> str:
    """The name of a tool, which must be a function. Raises BAD_REQUEST."""
    if not isinstance(tool, dict) or tool.get("type", "function") != "function":
        message = f"{where}: only tools of type function are supported"
        raise ArgosyError(Reason.BAD_REQUEST, message, param="tools")
    name = mapping(tool, "function").get("name")
    if not isinstance(name, str):
        message = f"{where}: every tool needs function.name"
        raise ArgosyError(Reason.BAD_REQUEST, message, param="tools")
    return name


def forced_schema(tools: list[dict[str, Any]], choice: str | dict[str, Any] | None) -> str | None:
    """The schema of a call the caller insists on; None when the model may choose."""
    if choice in (None, "auto", "none"):
        return None
    schemas = {}
    for at, tool in enumerate(tools):
        name = function_name(tool, f"tools[{at}]")
        schemas[name] = {
            "type": "object",
            "properties": {
                "name": {"const": name},
                "arguments": mapping(mapping(tool, "function"), "parameters") or {"type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
    if choice == "required" and schemas:
        wanted = list(schemas.values())
        return json.dumps(wanted[0] if len(wanted) == 1 else {"anyOf": wanted})
    if isinstance(choice, dict) and choice.get("type", "function") == "function":
        name = str(mapping(choice, "function").get("name"))
        if name in schemas:
            return json.dumps(schemas[name])
        raise bad_choice(f"tool_choice names '{name}', which is not in tools")
    raise bad_choice(
        "tool_choice must be none, auto, required (with tools), a function, or allowed_tools"
    )


def bad_choice(message: str) -> ArgosyError:
    """For a tool_choice that cannot be followed."""
    return ArgosyError(Reason.BAD_REQUEST, message, param="tool_choice")


def mapping(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """A field that is a JSON object, or absent. Raises BAD_REQUEST for anything else."""
    value = fields.get(name) or {}
    if not isinstance(value, dict):
        message = f"{name} must be a JSON object, not {str(value)[:100]!r}"
        raise ArgosyError(Reason.BAD_REQUEST, message, param=name)
    return value


class ToolSplitter:
    """Parts an answer, as it streams, into what to say and what to call.

    forced: the whole answer is one call. Otherwise text flows until MARK begins.
    single: the caller takes one call; further ones are dropped.
    """

    def __init__(self, *, forced: bool, single: bool = False) -> None:
        self._forced = forced
        self._calls_max = 1 if single else None
        self._held = ""
        self._calling = forced

    def push(self, text: str) -> str:
        """Text that is certainly not part of a call."""
        self._held += text
        if self._calling:
            return ""
        at = self._held.find(MARK)
        if at >= 0:
            self._calling = True
            said, self._held = self._held[:at], self._held[at:]
            return said
        keep = overlap(self._held, MARK)
        cut = len(self._held) - keep
        said, self._held = self._held[:cut], self._held[cut:]
        return said

    def finish(self) -> tuple[str, list[dict[str, Any]]]:
        """The rest of the text, and the calls; a call that does not parse stays text."""
        if not self._calling:
            return self._held, []
        calls: list[dict[str, Any]] = []

        def take(encoded: str, whole: str) -> str:
            call = parse_call(encoded)
            if call is None:
                return whole
            calls.append(call)
            return ""

        if self._forced:
            return take(self._held, self._held), calls
        rest = CALL.sub(lambda found: take(found[1], found[0]), self._held)
        return (rest if rest.strip() else ""), calls[: self._calls_max]


def parse_call(encoded: str) -> dict[str, Any] | None:
    """One call as OpenAI writes it; None if it is not one."""
    try:
        call = json.loads(encoded)
    except ValueError:
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", call.get("parameters", {}))
    return {
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": call["name"], "arguments": json.dumps(arguments)},
    }
