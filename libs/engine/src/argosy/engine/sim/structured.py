"""Answers in a form: text that keeps to a JSON schema, a regular expression or a choice.

The text depends on the prompt (and, as all sampled answers of the sim engine, on the seed) and on
nothing else, so that an answer made anew elsewhere is the same answer. A form that cannot be
followed is refused.
"""

import json
from collections.abc import Sequence

from argosy.engine import text
from argosy.engine.api import EngineRefused, SamplingSpec
from argosy.engine.sim.draw import Draw
from argosy.engine.sim.json_value import JsonWriter
from argosy.engine.sim.regex_text import regex_text

MALFORMED = (
    AttributeError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    ZeroDivisionError,
)


def structured_tokens(
    sampling: SamplingSpec, tokenizer: text.Tokenizer, seed: int
) -> Sequence[int]:
    """The whole answer without its end. Raises EngineRefused."""
    if sampling.logit_bias:
        raise EngineRefused(
            "the sim engine cannot weigh tokens in a structured answer: leave out logit_bias"
        )
    answer = structured_text(sampling, Draw(seed))
    try:
        token_ids = tokenizer.encoder.encode(answer, add_special_tokens=False).ids
    except (TypeError, UnicodeError) as error:
        raise EngineRefused("the form asks for text that is not Unicode") from error
    if tokenizer.encoder.decode(token_ids) != answer:
        raise EngineRefused(
            f"this vocabulary cannot spell {answer[:100]!r}, which the form asks for"
        )
    return list(token_ids)


def structured_text(sampling: SamplingSpec, draw: Draw) -> str:
    """A text in the form that is asked for. Raises EngineRefused."""
    if sampling.choice:
        return draw.of(sampling.choice)
    if sampling.regex is not None:
        return regex_text(sampling.regex, draw)
    if sampling.json_schema is not None:
        return schema_text(sampling.json_schema, draw)
    raise EngineRefused("the sim engine cannot follow a grammar: use the vllm engine for it")


def schema_text(encoded: str, draw: Draw) -> str:
    """JSON text that satisfies a schema. Raises EngineRefused."""
    try:
        schema = json.loads(encoded)
        value = JsonWriter(schema, draw).value(schema)
    except MALFORMED as error:
        raise EngineRefused(f"the JSON schema is malformed: {error!r}") from error
    return json.dumps(value, ensure_ascii=False)
