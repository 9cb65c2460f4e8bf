"""Which options a request may have: none is ever ignored without a word.

An option is honoured (it is a field of the request), or changes nothing in an answer (NO_EFFECT),
or may only say its default (UNSUPPORTED). Any other is refused, with the nearest known name.
"""

import difflib
from collections.abc import Iterable
from typing import Any

from argosy.domain.errors import ArgosyError, Reason

NO_EFFECT = {
    "user": "names a person to the provider's abuse checks, of which there are none here",
    "safety_identifier": "likewise",
    "metadata": "labels a stored answer; answers are not stored here",
    "store": "asks the provider to keep the answer, for its own console",
    "prompt_cache_key": "a hint for placing; prefixes are found by their content here",
    "prompt_cache_retention": "likewise; how long KV is kept is the fleet's setting",
}
"""Options that change nothing in an answer, and why."""

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "add_special_tokens": (),
    "allowed_token_ids": ([],),
    "audio": (),
    "bad_words": ([],),
    "best_of": (1,),
    "cache_salt": ("",),
    "early_stopping": (False,),
    "echo": (False,),
    "function_call": (),
    "functions": ([],),
    "guided_decoding_backend": (),
    "guided_whitespace_pattern": (),
    "include_reasoning": (True,),
    "kv_transfer_params": (),
    "length_penalty": (1,),
    "logprob_token_ids": ([],),
    "media_io_kwargs": ({},),
    "mm_processor_kwargs": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "priority": (0,),
    "prompt_cache_options": (),
    "prompt_embeds": (),
    "prompt_logprobs": (),
    "repetition_detection": (),
    "request_id": (),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "session_id": (),
    "spaces_between_special_tokens": (True,),
    "stream_interval": (1,),
    "suffix": ("",),
    "thinking_token_budget": (-1,),
    "truncate_prompt_tokens": (),
    "truncation_side": (),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
    "vllm_xargs": ({},),
    "watermarking": (False,),
    "web_search_options": (),
}
"""Options we know and cannot honour, and the values that ask for nothing."""

INSTEAD = {
    "functions": "send tools, which took its place",
    "function_call": "send tool_choice, which took its place",
    "priority": "send service_tier",
    "request_id": "send the header x-request-id",
}
VERBATIM = frozenset(
    "messages tools tool_choice response_format guided_json structured_outputs metadata "
    "chat_template_kwargs documents".split()
)
"""Fields whose inside is the caller's own, and is left as it came."""


def known_options(fields: dict[str, Any], honoured: Iterable[str]) -> dict[str, Any]:
    """The fields to honour: null is the same as absent.

    Raises BAD_REQUEST for the first field that would have to be ignored.
    """
    honoured = set(honoured)
    found = {}
    for name, value in fields.items():
        if value is None or name in NO_EFFECT:
            continue
        if name in honoured:
            found[name] = value
        elif name not in UNSUPPORTED:
            raise unknown(name, honoured)
        elif value not in UNSUPPORTED[name]:
            instead = INSTEAD.get(name, "leave it out")
            raise bad_option(name, f"{name} is not supported: {instead}")
    return found


def unknown(name: str, honoured: Iterable[str], where: str = "") -> ArgosyError:
    """For an option nobody knows: most often a typing error."""
    known = [*honoured, *(() if where else (*NO_EFFECT, *UNSUPPORTED))]
    near = difflib.get_close_matches(name[:100], sorted(known), 1)
    hint = f"did you mean {near[0]}?" if near else "leave it out"
    return bad_option(where + name[:100], f"there is no option {where}{name[:100]}: {hint}")


def bad_option(name: str, message: str) -> ArgosyError:
    """A BAD_REQUEST that names its field."""
    return ArgosyError(Reason.BAD_REQUEST, message, param=name)


def whole_numbers(value: Any) -> Any:
    """The same value, where numbers without a fraction are integers however they were written."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [whole_numbers(item) for item in value]
    if isinstance(value, dict):
        return {name: whole_numbers(item) for name, item in value.items()}
    return value
