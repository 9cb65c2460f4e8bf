"""Structured answers of the sim engine: they have the form asked for, or are refused."""

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from argosy.engine import text
from argosy.engine.api import EngineRefused, SamplingSpec
from argosy.engine.sim.draw import Draw
from argosy.engine.sim.regex_text import regex_text
from argosy.engine.sim.structured import schema_text, structured_tokens

SEEDS = range(40)
TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "minItems": 0},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["name", "next"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
TAGGED = [
    {
        "type": "object",
        "properties": {"kind": {"const": kind}, kind: {"type": "integer"}},
        "required": ["kind", kind],
    }
    for kind in ("boat", "bird")
]
SCHEMAS: dict[str, Any] = {
    "any object": {},
    "object": {"type": "object"},
    "properties": {
        "type": "object",
        "properties": {"knots": {"type": "integer", "minimum": 3}, "name": {"type": "string"}},
        "required": ["knots"],
        "additionalProperties": False,
    },
    "required but not listed": {"type": "object", "required": ["a"], "additionalProperties": True},
    "enum": {"enum": ["a", 7, None, {"b": [1]}]},
    "typed enum": {"type": "string", "enum": ["a", "b", 7]},
    "const": {"const": {"a": 1}},
    "several types": {"type": ["string", "null", "boolean"]},
    "string length": {"type": "string", "minLength": 12, "maxLength": 12},
    "empty string": {"type": "string", "maxLength": 0},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-\\d+$"},
    "pattern of a length": {"type": "string", "pattern": "[ab]*", "minLength": 2, "maxLength": 3},
    "format": {"type": "string", "format": "date-time"},
    "integer range": {"type": "integer", "minimum": -7, "exclusiveMaximum": -5},
    "integer above": {"type": "integer", "exclusiveMinimum": 10**15},
    "number range": {"type": "number", "exclusiveMinimum": 0.25, "exclusiveMaximum": 0.5},
    "multiple": {"type": "number", "multipleOf": 0.5, "minimum": 1.2, "maximum": 1.7},
    "array": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    "tuple": {"type": "array", "prefixItems": [{"type": "null"}, {"const": 2}], "items": False},
    "unique": {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 3, "uniqueItems": True},
    "anyOf": {"anyOf": [{"type": "integer"}, {"type": "object", "required": ["x"]}]},
    "oneOf by type": {"oneOf": [{"type": "integer"}, {"type": "string"}]},
    "oneOf by tag": {"oneOf": TAGGED},
    "allOf": {"allOf": [TAGGED[0], {"required": ["also"], "properties": {"also": {"const": 1}}}]},
    "recursive": TREE,
    "recursive to the root": {
        "type": "object",
        "properties": {"inner": {"$ref": "#"}, "value": {"type": "number"}},
        "required": ["value"],
    },
    "escaped text": {"const": 'a "quote", a \\ and a line\n'},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_answer_satisfies_its_schema(name: str) -> None:
    validator = Draft202012Validator(SCHEMAS[name])
    for seed in SEEDS:
        validator.validate(json.loads(schema_text(json.dumps(SCHEMAS[name]), Draw(seed))))


def test_an_empty_schema_is_any_object() -> None:
    assert isinstance(json.loads(schema_text("{}", Draw(1))), dict)


def test_an_answer_depends_on_its_seed_and_on_nothing_else() -> None:
    encoded = json.dumps(SCHEMAS["properties"])
    answers = [schema_text(encoded, Draw(seed)) for seed in SEEDS]
    assert answers == [schema_text(encoded, Draw(seed)) for seed in SEEDS]
    assert len(set(answers)) > len(SEEDS) / 4


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ("{", "malformed"),
        ("false", "no value can satisfy"),
        ('{"type": "nonsense"}', "no JSON type 'nonsense'"),
        ('{"properties": []}', "properties must be"),
        ('{"type": "string", "minLength": "x"}', "malformed"),
        ('{"not": {"type": "string"}}', "cannot follow 'not'"),
        ('{"type": "object", "patternProperties": {}}', "cannot follow 'patternProperties'"),
        ('{"type": "string", "format": "iri"}', "cannot follow 'format"),
        ('{"oneOf": [{"type": "integer"}, {"type": "number"}]}', "oneOf"),
        ('{"$ref": "#/$defs/none"}', "points at nothing"),
        ('{"$ref": "other.json"}', "does not point into the schema"),
        ('{"$ref": "#"}', "goes round in circles"),
        ('{"type": "array", "items": {"$ref": "#"}, "minItems": 1}', "levels deep"),
        ('{"type": "array", "items": {"$ref": "#"}, "minItems": 9}', "levels deep"),
        ('{"type": "integer", "minimum": 2, "maximum": 1}', "no number"),
        ('{"type": "string", "minLength": 1000000}', "at most"),
        ('{"enum": []}', "no value of an enum"),
        ('{"type": "string", "minLength": 9, "pattern": "^a$"}', "found no string"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused(schema: str, says: str) -> None:
    with pytest.raises(EngineRefused, match=re.escape(says)):
        schema_text(schema, Draw(1))


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{3}-\d{4}",
        r"^a$|^b$",
        r"[^a-z]+x?",
        r"(yes|no){2}",
        r"(?P<quote>['\"]).*?(?P=quote)",
        r"[ä-ü]é",
        r"\W\S\D",
        r"[\w.]+@\w+\.com",
        r"(?:(?:a|b){2,}?){3}",
        "",
    ],
)
def test_an_answer_matches_its_regular_expression_from_end_to_end(pattern: str) -> None:
    for seed in SEEDS:
        assert re.fullmatch(pattern, regex_text(pattern, Draw(seed)))


@pytest.mark.parametrize(
    "pattern",
    ["(", r"\bfoo", "(?i)x", "(?=a)a", "a$b", "a^b", "a*+b", "(a{900}){900}", "a{99999999999999}"],
)
def test_a_regular_expression_that_cannot_be_followed_is_refused(pattern: str) -> None:
    with pytest.raises(EngineRefused):
        regex_text(pattern, Draw(1))


def answer(**form: Any) -> str:
    tokenizer = text.sim_tokenizer()
    return str(
        tokenizer.encoder.decode(structured_tokens(SamplingSpec(8, **form), tokenizer, seed=3))
    )


def test_an_answer_is_one_of_the_choices_spelt_with_the_engines_own_vocabulary() -> None:
    assert answer(choice=("oui, à bord",)) == "oui, à bord"
    assert answer(choice=("yes", "no")) in ("yes", "no")


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"grammar": "root ::= 'a'"}, "cannot follow a grammar"),
        ({"choice": ("<|im_end|>",)}, "cannot spell"),
        ({"regex": "[\ud800-\ud802]"}, "not Unicode"),
        ({"choice": ("a",), "logit_bias": {1: 5.0}}, "logit_bias"),
    ],
)
def test_a_form_the_sim_engine_cannot_give_is_refused(form: dict[str, Any], says: str) -> None:
    with pytest.raises(EngineRefused, match=says):
        answer(**form)
