"""Reading a fleet file: errors name the line and what to write instead."""

import difflib
import functools
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from argosy.domain.errors import ArgosyError, Reason
from argosy.fleet.schema import FleetFile

__all__ = ["FleetFile", "parse_fleet"]


class FleetLoader(yaml.SafeLoader):
    """A SafeLoader that also says where a date or number is that is none."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """A node's value. Raises MarkedYAMLError."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from error


@functools.lru_cache(maxsize=4)
def parse_fleet(text: str, name: str = "fleet file") -> FleetFile:
    """Check a fleet file. Raises FLEET_FILE with the line and what to write instead.

    The last few texts are parsed once per process: who asks again gets the same object, which
    nobody may change.
    """
    try:
        loader = FleetLoader(text)
        root = loader.get_single_node()
        values = loader.construct_document(root) if root is not None else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ArgosyError(Reason.FLEET_FILE, f"{name}:{line}: not YAML: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ArgosyError(Reason.FLEET_FILE, f"{name}:{line}: not YAML: {error.reason}") from error
    except RecursionError as error:
        raise ArgosyError(Reason.FLEET_FILE, f"{name}:1: nested too deep") from error
    if not isinstance(values, dict):
        raise ArgosyError(
            Reason.FLEET_FILE,
            f"{name}:1: a fleet file begins with `apiVersion: argosy.dev/v1alpha1`",
        )
    if twice := repeated(root):
        problems = [f"{name}:{line}: {key}: given twice; keep one" for line, key in twice]
        raise ArgosyError(Reason.FLEET_FILE, "\n".join(problems))
    try:
        return FleetFile.model_validate(values)
    except ValidationError as error:
        problems = [describe(name, root, problem) for problem in error.errors()]
        raise ArgosyError(Reason.FLEET_FILE, "\n".join(problems)) from error


def describe(name: str, root: Any, problem: Any) -> str:
    """One problem as `file:line: field: what to write instead`."""
    where = [str(part) for part in (*problem["loc"], *problem.get("ctx", {}).get("field", ()))]
    line = line_of(root, where)
    field = ".".join(where) or "the file"
    if problem["type"] == "extra_forbidden":
        known = fields_at(FleetFile, where[:-1])
        near = difflib.get_close_matches(where[-1], known, n=1)
        advice = f"write {near[0]}" if near else f"known here: {', '.join(known)}"
        return f"{name}:{line}: {field}: unknown field; {advice}"
    if problem["type"] == "missing":
        return f"{name}:{line}: {field}: missing; add `{where[-1]}: ...`"
    if problem["type"] == "model_type":
        return f"{name}:{line}: {field}: write a mapping, such as `{where[-1]}: {{...}}`"
    message = problem["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(problem["input"], dict | list) else f" (got {problem['input']!r})"
    return f"{name}:{line}: {field}: {message}{shown}"


def repeated(root: Any) -> list[tuple[int, str]]:
    """Keys that a mapping has twice, with their line: YAML would take the last silently."""
    found, met, nodes = [], set(), [root]
    while nodes:
        node = nodes.pop()
        if id(node) in met or not isinstance(node, yaml.CollectionNode):
            continue
        met.add(id(node))
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        nodes += [value for _, value in pairs] or node.value
        keys = [key for key, _ in pairs if isinstance(key, yaml.ScalarNode)]
        values = [key.value for key in keys]
        found += [
            (key.start_mark.line + 1, key.value)
            for index, key in enumerate(keys)
            if key.value in values[:index]
        ]
    return sorted(found)


def line_of(root: Any, path: list[str]) -> int:
    """The line of a field, or of the nearest mapping around it; counts from 1."""
    node, line = root, root.start_mark.line + 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    node, line = value, key.start_mark.line + 1
                    break
            else:
                return int(line)
        elif isinstance(node, yaml.SequenceNode) and part.isdigit():
            node = node.value[int(part)]
            line = node.start_mark.line + 1
    return int(line)


def fields_at(kind: type[BaseModel], path: list[str]) -> list[str]:
    """The field names a mapping of the file may have."""
    for part in path:
        by_alias = {f.alias or n: f for n, f in kind.model_fields.items()}
        annotation = by_alias[part].annotation if part in by_alias else None
        inner = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type)]
        kinds = [a for a in inner if issubclass(a, BaseModel)]
        if not kinds:
            return []
        kind = kinds[0]
    return [field.alias or name for name, field in kind.model_fields.items()]
