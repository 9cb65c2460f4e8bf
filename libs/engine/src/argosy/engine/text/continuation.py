"""Prompts that end inside the final message, for the model to go on with it.

A mark is appended to the final message, and the rendered chat is cut at the mark. That
drops whatever the template puts after a message, as Hugging Face does it.
"""

from typing import Any

from argosy.engine.text.chat_messages import bad_request

MARK = "CONTINUE_FINAL_MESSAGE_TAG "
"""The space at its end tells whether the template trims messages."""


def mark_end_of_final(messages: list[dict[str, Any]]) -> str:
    """Append the mark to the final message's text, in place; returns the text before."""
    content = messages[-1].get("content") if messages else None
    if not isinstance(content, str):
        raise bad_request("continue_final_message: the final message has no text to continue")
    messages[-1]["content"] = content + MARK
    return content


def cut_at_mark(rendered: str, final: str) -> str:
    """The chat up to the mark. Raises BAD_REQUEST if the template changed the message `final`."""
    at = rendered.rfind(MARK.strip())
    if at < 0 or final.strip() not in rendered:
        raise bad_request(
            "continue_final_message: the model's chat template leaves out the final message, or "
            "a part of it, so it cannot be continued"
        )
    kept = rendered[:at]
    return kept if rendered.startswith(MARK, at) else kept.rstrip()
