"""Text that a regular expression matches from end to end.

The expression is read by Python's own parser. Each construct is written out as it is met, so that
what is written matches by construction, and nothing has to be matched, which could take for ever.
"""

import re
import string
from collections.abc import Callable, Iterator
from typing import Any

from argosy.engine.api import EngineRefused
from argosy.engine.sim.draw import CHARS_MAX, Draw

MORE_REPEATS = 3
"""How many repeats beyond the fewest an open repeat may have."""
ALPHABET = string.ascii_letters + string.digits + " _-.!#$%&'()*+,/:;<=>?@[]^`{|}~\"\\"
CATEGORIES: dict[str, Callable[[str], bool]] = {
    "CATEGORY_DIGIT": str.isdigit,
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_WORD": lambda char: char.isalnum() or char == "_",
}


def regex_text(pattern: str, draw: Draw) -> str:
    """A text that matches the whole pattern. Raises EngineRefused for what cannot be followed."""
    try:
        parsed = re._parser.parse(pattern)  # type: ignore[attr-defined]  # noqa: SLF001
        return RegexWriter(pattern, draw).write(parsed)
    except (re.error, RecursionError, OverflowError) as error:
        raise EngineRefused(f"'{pattern[:100]}' is no regular expression: {error}") from error


class RegexWriter:
    """Writes one text for a parsed expression."""

    def __init__(self, pattern: str, draw: Draw) -> None:
        self._pattern = pattern
        self._draw = draw
        self._text = ""
        self._ended = False
        self._groups: dict[int, str] = {}
        self._handlers = {
            "SUBPATTERN": self._group,
            "BRANCH": self._branch,
            "MAX_REPEAT": self._repeat,
            "MIN_REPEAT": self._repeat,
            "GROUPREF": self._reference,
            "AT": self._anchor,
        }

    def write(self, parsed: Any) -> str:
        """Append a text for this sequence; returns all text so far."""
        if parsed.state.flags & ~re.UNICODE:
            raise self._refused("flags")
        for operation, argument in parsed:
            self._draw.step()
            name = str(operation)
            if name in self._handlers:
                self._handlers[name](argument)
            else:
                self._append(self._char(name, argument))
        return self._text

    def _append(self, text: str) -> None:
        if text and self._ended:
            raise self._refused("text after its end ($)")
        self._text += text
        if len(self._text) > CHARS_MAX:
            raise EngineRefused(f"the sim engine writes at most {CHARS_MAX} characters")

    def _group(self, argument: Any) -> None:
        number, added, removed, parsed = argument
        if added or removed:
            raise self._refused("flags")
        begin = len(self._text)
        self.write(parsed)
        if number is not None:
            self._groups[number] = self._text[begin:]

    def _branch(self, argument: Any) -> None:
        self.write(self._draw.of(argument[1]))

    def _repeat(self, argument: Any) -> None:
        fewest, most, parsed = argument
        more = min(int(most) - fewest, MORE_REPEATS)
        for _ in range(fewest + self._draw.below(more + 1)):
            self.write(parsed)

    def _reference(self, number: Any) -> None:
        if number not in self._groups:
            raise self._refused("a reference to a group that took no part")
        self._append(self._groups[number])

    def _anchor(self, argument: Any) -> None:
        match str(argument):
            case "AT_BEGINNING" | "AT_BEGINNING_STRING" if not self._text:
                return
            case "AT_END" | "AT_END_STRING":
                self._ended = True
                return
        raise self._refused(str(argument))

    def _char(self, name: str, argument: Any) -> str:
        match name:
            case "LITERAL":
                return chr(argument)
            case "NOT_LITERAL":
                return self._draw.of([char for char in ALPHABET if ord(char) != argument])
            case "ANY":
                return self._draw.of(ALPHABET)
            case "IN":
                return self._one_of(argument)
        raise self._refused(name)

    def _one_of(self, items: Any) -> str:
        negated = str(items[0][0]) == "NEGATE"
        tests = items[1:] if negated else items
        found = [
            char for char in ALPHABET if any(self._in(char, *test) for test in tests) != negated
        ]
        if not found and not negated:
            found = [char for test in tests for char in beyond(*test)]
        if not found:
            raise self._refused("a set without a plain character")
        return self._draw.of(found)

    def _in(self, char: str, operation: Any, argument: Any) -> bool:
        match str(operation):
            case "LITERAL":
                return bool(ord(char) == argument)
            case "RANGE":
                return bool(argument[0] <= ord(char) <= argument[1])
            case "CATEGORY":
                name = str(argument)
                positive = name.replace("NOT_", "")
                return CATEGORIES[positive](char) != (positive != name)
        raise self._refused(str(operation))

    def _refused(self, what: str) -> EngineRefused:
        return EngineRefused(
            f"the sim engine cannot follow {what} in the regular expression "
            f"'{self._pattern[:100]}': use the vllm engine, or leave it out"
        )


def beyond(operation: Any, argument: Any) -> Iterator[str]:
    """The first character of a set's item, for items outside ALPHABET."""
    if str(operation) == "LITERAL":
        yield chr(argument)
    elif str(operation) == "RANGE":
        yield chr(argument[0])
