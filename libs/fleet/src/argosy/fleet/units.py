"""Sizes, durations and ratios, as a fleet file writes them."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def parse_bytes(value: Any) -> int:
    """512Mi, 4Gi or a number of bytes."""
    match = re.fullmatch(r"(\d+)(Ki|Mi|Gi|Ti)?", str(value))
    if match is None:
        raise ValueError("write a size such as 512Mi or 4Gi")
    return int(match[1]) * UNITS[match[2] or ""]


def check_ratio(value: Any) -> str:
    """`prefill:decode`, both at least 1."""
    # YAML reads 1:2 without quotes as the number 62.
    if not isinstance(value, str) or re.fullmatch(r"[1-9]\d*:[1-9]\d*", value) is None:
        raise ValueError('write prefill:decode in quotes, such as "1:2"')
    return value


def check_duration(value: Any) -> str:
    """A number and a unit."""
    if re.fullmatch(r"\d+(\.\d+)?(ms|s|m|h)", str(value)) is None:
        raise ValueError("write a duration such as 200ms, 30s or 5m")
    return str(value)


Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(le=1 << 60)]
Ratio = Annotated[str, BeforeValidator(check_ratio)]
Duration = Annotated[str, BeforeValidator(check_duration)]


def seconds(duration: str) -> float:
    """`200ms` -> 0.2"""
    match = re.fullmatch(r"([\d.]+)(ms|s|m|h)", duration)
    assert match is not None
    return float(match[1]) * {"ms": 1e-3, "s": 1, "m": 60, "h": 3600}[match[2]]


def share(ratio: str) -> float:
    """`1:2` -> 0.5"""
    prefill, decode = ratio.split(":")
    return int(prefill) / int(decode)
