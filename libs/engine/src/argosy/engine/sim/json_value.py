"""JSON values that a JSON schema allows, without a model.

What is not understood is refused, never passed over: a value that the schema forbids is no answer.
"""

import math
from typing import Any

from argosy.engine.api import EngineRefused
from argosy.engine.sim.draw import CHARS_MAX, Draw
from argosy.engine.sim.json_schema import NOTES, apart, has_type, merged, types_of
from argosy.engine.sim.regex_text import regex_text

DEPTH_MAX = 24
OPTIONAL_DEPTH = 3
"""Deeper than this, what is optional is left out: schemas that hold themselves come to an end."""
TRIES_MAX = 50
ANY_TYPE = frozenset("type enum const anyOf oneOf allOf $ref".split())
BY_TYPE = {
    "object": frozenset("properties required additionalProperties".split()),
    "array": frozenset("items prefixItems minItems maxItems uniqueItems".split()),
    "string": frozenset("minLength maxLength pattern format".split()),
    "number": frozenset("minimum maximum exclusiveMinimum exclusiveMaximum multipleOf".split()),
    "boolean": frozenset(),
    "null": frozenset(),
}
FORMATS = {
    "date-time": "2024-05-17T08:30:00Z",
    "date": "2024-05-17",
    "time": "08:30:00Z",
    "duration": "P1D",
    "email": "someone@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "uri": "https://example.org/",
    "uuid": "7d444840-9dc0-4c1f-8f1d-2f2f2f2f2f2f",
}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class TooDeep(EngineRefused):
    """The schema nests deeper than DEPTH_MAX on every way tried."""


class JsonWriter:
    """Invents values for one schema."""

    def __init__(self, schema: Any, draw: Draw) -> None:
        self._root = schema
        self._draw = draw

    def value(self, schema: Any, depth: int = 0) -> Any:
        """A value that the schema allows. Raises EngineRefused."""
        self._draw.step()
        if depth > DEPTH_MAX:
            raise TooDeep(f"the sim engine follows a schema {DEPTH_MAX} levels deep, no deeper")
        if schema is True:
            return self._word()
        if not isinstance(schema, dict):
            raise EngineRefused(f"no value can satisfy the schema {schema!r}")
        schema = self._resolved(schema, depth)
        if "const" in schema or "enum" in schema:
            return self._listed(schema)
        for name in ("anyOf", "oneOf"):
            if name in schema:
                return self._alternative(schema, name, depth)
        return self._typed(schema, depth)

    def _resolved(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """The schema with its $ref and allOf merged in."""
        for _ in range(DEPTH_MAX):
            if "$ref" in schema:
                rest = {name: item for name, item in schema.items() if name != "$ref"}
                schema = merged(rest, self._referred(schema["$ref"]))
            elif "allOf" in schema:
                parts = schema["allOf"]
                schema = {name: item for name, item in schema.items() if name != "allOf"}
                for part in parts:
                    schema = merged(schema, part)
            else:
                return schema
        raise TooDeep(f"a $ref or allOf goes round in circles, or over {DEPTH_MAX} levels")

    def _referred(self, reference: Any) -> Any:
        found = self._root
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise EngineRefused(f"$ref {reference!r} does not point into the schema (#/...)")
        for step in reference.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                raise EngineRefused(f"$ref {reference!r} points at nothing")
            found = found[name]
        return found

    def _listed(self, schema: dict[str, Any]) -> Any:
        """One of the values the schema names, if nothing else limits them."""
        rest = schema.keys() - NOTES - {"const", "enum", "type"}
        if rest:
            raise self._unknown(min(rest))
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        if "const" in schema:
            values = [value for value in values if value == schema["const"]]
        types = types_of(schema)
        values = [value for value in values if types is None or has_type(value, types)]
        if not values:
            raise EngineRefused("no value of an enum or const fits the rest of its schema")
        return self._draw.of(values)

    def _alternative(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        """The first alternative that comes to an end, from a drawn one on."""
        rest = {key: item for key, item in schema.items() if key != name}
        options = schema[name]
        if not isinstance(options, list) or not options:
            raise EngineRefused(f"{name} must be a list that is not empty")
        if name == "oneOf" and len(options) > 1 and not apart(options):
            raise EngineRefused(
                "the sim engine follows oneOf only where types or a const tell its parts apart: "
                "use anyOf, or the vllm engine"
            )
        start = self._draw.below(len(options))
        for option in options[start:] + options[:start]:
            try:
                return self.value(merged(rest, option), depth + 1)
            except TooDeep as error:
                last = error
        raise last

    def _typed(self, schema: dict[str, Any], depth: int) -> Any:
        types = types_of(schema)
        if types is None:
            used = [kind for kind, names in BY_TYPE.items() if names & schema.keys()]
            types = used or ["object" if depth == 0 else "string"]
        kind = self._draw.of(types)
        family = "number" if kind == "integer" else kind
        if family not in BY_TYPE:
            raise EngineRefused(f"there is no JSON type {kind!r}")
        every = ANY_TYPE.union(*(BY_TYPE.values()))
        if unknown := schema.keys() - NOTES - every:
            raise self._unknown(min(unknown))
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                return self._string(schema)
            case "boolean":
                return bool(self._draw.below(2))
            case "null":
                return None
        return self._number(schema, whole=kind == "integer")

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        known = schema.get("properties", {})
        if not isinstance(known, dict):
            raise EngineRefused("properties must be a JSON object")
        required = schema.get("required", [])
        further = schema.get("additionalProperties", True)
        wanted = [name for name in known if name in required or self._optional(depth)]
        found = {}
        for name in [*wanted, *(name for name in required if name not in known)]:
            try:
                found[name] = self.value(known.get(name, further), depth + 1)
            except TooDeep:
                if name in required:
                    raise
        return found

    def _optional(self, depth: int) -> bool:
        return depth < OPTIONAL_DEPTH and bool(self._draw.below(2))

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems", [])
        fewest, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        count = max(fewest, min(most, len(first) or (1 if self._optional(depth) else 0)))
        if count > most or count > CHARS_MAX:
            raise EngineRefused(f"no array has {fewest} to {most} items here")
        items = schema.get("items", True)
        found: list[Any] = []
        for part in [*first[:count], *[items] * (count - len(first))]:
            item = self.value(part, depth + 1)
            for _ in range(TRIES_MAX if schema.get("uniqueItems") else 0):
                if item not in found:
                    break
                item = self.value(part, depth + 1)
            found.append(item)
        if schema.get("uniqueItems") and any(item in found[:at] for at, item in enumerate(found)):
            raise EngineRefused(f"the sim engine found no {count} items that differ")
        return found

    def _string(self, schema: dict[str, Any]) -> str:
        fewest, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        if "format" in schema and "pattern" in schema:
            raise EngineRefused("the sim engine follows a string's format or pattern, not both")
        for _ in range(TRIES_MAX):
            text = self._text(schema, fewest, most)
            if fewest <= len(text) <= most:
                return text
        raise EngineRefused(
            f"the sim engine found no string of {fewest} to {most} characters that fits"
        )

    def _text(self, schema: dict[str, Any], fewest: int, most: float) -> str:
        if "pattern" in schema:
            return regex_text(schema["pattern"], self._draw)
        if "format" in schema:
            if schema["format"] not in FORMATS:
                raise self._unknown(f"format {schema['format']!r}")
            return FORMATS[schema["format"]]
        length = int(min(max(fewest, 3 + self._draw.below(6)), most))
        return self._word(length)

    def _word(self, length: int = 5) -> str:
        if length > CHARS_MAX:
            raise EngineRefused(f"the sim engine writes at most {CHARS_MAX} characters")
        return "".join(self._draw.of(LETTERS) for _ in range(length))

    def _number(self, schema: dict[str, Any], *, whole: bool) -> Any:
        """The least number allowed, or a small one above it."""
        step = schema.get("multipleOf", 1)
        low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        above, below = (
            schema.get("exclusiveMinimum", -math.inf),
            schema.get("exclusiveMaximum", math.inf),
        )
        start = max(low, above)
        if start == -math.inf:
            start = min(0, high, below)
        first = math.ceil(start / step)
        found = [
            number
            for number in ((first + offset) * step for offset in range(-2, 12))
            if low <= number <= high and above < number < below
        ]
        found = [number for number in found if not whole or number == int(number)]
        if found:
            number = self._draw.of(found)
            return int(number) if number == int(number) else number
        if whole or "multipleOf" in schema:
            raise EngineRefused("the sim engine found no number in a schema's range")
        middle = (max(low, above) + min(high, below)) / 2
        if not (low <= middle <= high and above < middle < below):
            raise EngineRefused("no number is in a schema's range")
        return middle

    def _unknown(self, name: str) -> EngineRefused:
        return EngineRefused(
            f"the sim engine cannot follow '{name}' in a schema: leave it out, or use the vllm "
            "engine"
        )
