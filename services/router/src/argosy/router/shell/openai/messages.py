"""The messages of a chat: their parts become text."""

from typing import Any

from argosy.domain.errors import ArgosyError
from argosy.router.shell.openai.options import bad_option

TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""The kinds of parts that are text, and the field that has it."""


def plain(message: dict[str, Any], number: int) -> dict[str, Any]:
    """A message whose text parts are joined. Raises BAD_REQUEST for what is not text."""
    where = f"messages[{number}]"
    if not isinstance(message.get("role"), str):
        raise bad_option(f"{where}.role", f"{where} has no role: every message needs one")
    for name in ("audio", "function_call"):
        if message.get(name) is not None:
            raise bad_option(f"{where}.{name}", f"{where}.{name} is not supported: leave it out")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(
            part_text(part, f"{where}.content[{at}]") for at, part in enumerate(content)
        )
    elif content is not None and not isinstance(content, str):
        raise bad_option(
            f"{where}.content", f"{where}.content must be text or a list of text parts"
        )
    refused = message.get("refusal")
    if not content and isinstance(refused, str):
        # What the assistant said when it refused, as the API gives it back beside null content.
        content = refused
    kept = {name: value for name, value in message.items() if name != "refusal"}
    return {**kept, "content": content or ""}


def part_text(part: Any, where: str) -> str:
    """The text of one content part. Raises BAD_REQUEST naming the part."""
    kind = part.get("type") if isinstance(part, dict) else None
    field = TEXT_PARTS.get(kind) if isinstance(kind, str) else None
    if field is None:
        raise not_text(where, kind)
    said = part.get(field)
    if not isinstance(said, str):
        raise bad_option(f"{where}.{field}", f"{where}.{field} must be text")
    return said


def not_text(where: str, kind: Any) -> ArgosyError:
    """For pictures, sounds and files."""
    return bad_option(
        where,
        f"{where} is of type {kind!r}, and this server takes text only: leave the part out, or "
        "say it in words",
    )
