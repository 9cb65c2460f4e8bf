"""What JSON schemas say, joined and told apart."""

import json
from typing import Any

from argosy.engine.api import EngineRefused

NOTES = frozenset(
    "title description default examples deprecated readOnly writeOnly $schema $id $comment $anchor "
    "$defs definitions discriminator nullable contentEncoding contentMediaType".split()
)
"""Keywords that allow and forbid nothing, or are looked up by others."""

PYTHON_TYPES = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}


def merged(first: dict[str, Any], second: Any) -> dict[str, Any]:
    """A schema for what both allow. Raises EngineRefused where both say different things."""
    if second is True:
        return first
    if not isinstance(second, dict):
        raise EngineRefused(f"no value can satisfy the schema {second!r}")
    both = {**second, **first}
    for name in first.keys() & second.keys() - NOTES:
        if name == "properties":
            both[name] = {**second[name], **first[name]}
            for key in sorted(first[name].keys() & second[name].keys()):
                if first[name][key] != second[name][key]:
                    raise EngineRefused(f"the sim engine cannot join two schemas of '{key}'")
        elif name == "required":
            both[name] = list(dict.fromkeys([*first[name], *second[name]]))
        elif first[name] != second[name]:
            raise EngineRefused(f"the sim engine cannot join two different '{name}' of a schema")
    return both


def types_of(schema: dict[str, Any]) -> list[str] | None:
    """The types a schema allows; None for all."""
    kinds = schema.get("type")
    return [kinds] if isinstance(kinds, str) else kinds


def has_type(value: Any, types: list[str]) -> bool:
    """Whether a JSON value is of one of the types."""
    kinds = [name for name, kind in PYTHON_TYPES.items() if type(value) in kind]
    if isinstance(value, float) and value.is_integer():
        kinds.append("integer")
    return not set(kinds).isdisjoint(types)


def apart(options: list[Any]) -> bool:
    """Whether no value can satisfy two of the options: their types, or const properties, differ."""
    kinds = [types_of(option) if isinstance(option, dict) else None for option in options]
    plain = [kind for some in kinds for kind in some or []]
    if all(kinds) and len(plain) == len(set(plain)) and not {"integer", "number"} <= set(plain):
        return True
    return bool(shared_consts(options))


def shared_consts(options: list[Any]) -> set[str]:
    """Required properties with another const in each option."""

    def consts(option: Any) -> dict[str, str]:
        known = option.get("properties", {}) if isinstance(option, dict) else {}
        required = option.get("required", []) if isinstance(option, dict) else []
        return {
            name: json.dumps(part["const"])
            for name, part in known.items()
            if isinstance(part, dict) and "const" in part and name in required
        }

    each = [consts(option) for option in options]
    names = set(each[0]).intersection(*each)
    return {name for name in names if len({some[name] for some in each}) == len(each)}
