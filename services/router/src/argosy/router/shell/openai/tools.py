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


def forced_schema(tools: list[dict[str, Any]], choice: str | dict[str, Any] | None) -> str | None:
    """The schema of a call the caller insists on; None when the model may choose."""
    if choice in (None, "auto", "none"):
        return None
    schemas = {}
    for tool in tools:
        function = mapping(tool, "function")
        name = function.get("name")
        if not isinstance(name, str):
            raise ArgosyError(Reason.BAD_REQUEST, "every tool needs function.name")
        schemas[name] = {
            "type": "object",
            "properties": {
                "name": {"const": name},
                "arguments": mapping(function, "parameters") or {"type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
    if choice == "required" and schemas:
        wanted = list(schemas.values())
        return json.dumps(wanted[0] if len(wanted) == 1 else {"anyOf": wanted})
    if isinstance(choice, dict):
        name = str(mapping(choice, "function").get("name"))
        if name in schemas:
            return json.dumps(schemas[name])
        raise ArgosyError(Reason.BAD_REQUEST, f"tool_choice names '{name}', which is not in tools")
    raise ArgosyError(
        Reason.BAD_REQUEST, "tool_choice must be none, auto, required (with tools) or a function"
    )


def mapping(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """A field that is a JSON object, or absent. Raises BAD_REQUEST for anything else."""
    value = fields.get(name) or {}
    if not isinstance(value, dict):
        raise ArgosyError(Reason.BAD_REQUEST, f"{name} must be a JSON object, not {value!r}")
    return value


class ToolSplitter:
    """Parts an answer, as it streams, into what to say and what to call.

    forced: the whole answer is one call. Otherwise text flows until MARK begins.
    """

    def __init__(self, *, forced: bool) -> None:
        self._forced = forced
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
        return (rest if rest.strip() else ""), calls


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
