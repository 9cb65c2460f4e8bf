"""OpenAI's messages in the form that Hugging Face's chat templates expect."""

import json
from collections.abc import Sequence
from typing import Any

from argosy.domain.errors import ArgosyError, Reason


def messages_for_template(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Copies of the messages: tool-call arguments are objects, empty optional fields are gone.

    Clients send arguments as JSON text and write null for what is not there, but templates
    take whatever a message holds for given. Raises BAD_REQUEST naming message and call.
    """
    return [ready(message, f"messages[{index}]") for index, message in enumerate(messages)]


def ready(message: dict[str, Any], where: str) -> dict[str, Any]:
    """One message as templates expect it. `where` names it in errors."""
    found = {k: v for k, v in message.items() if v is not None or k == "content"}
    calls = found.pop("tool_calls", None)
    if not calls:
        return found
    if not isinstance(calls, list):
        raise bad_request(f"{where}.tool_calls must be an array of tool calls")
    found["tool_calls"] = [
        with_object(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(calls)
    ]
    return found


def with_object(call: Any, where: str) -> dict[str, Any]:
    """A tool call whose arguments are an object."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise bad_request(f"{where} has no function: send a name and arguments in it")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            raise bad_request(f"{where}.function.arguments is not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise bad_request(f"{where}.function.arguments must be a JSON object")
    return {**call, "function": {**function, "arguments": arguments}}


def bad_request(message: str) -> ArgosyError:
    """A BAD_REQUEST."""
    return ArgosyError(Reason.BAD_REQUEST, message)
