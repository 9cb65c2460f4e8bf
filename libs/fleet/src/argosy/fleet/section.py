"""What every mapping of a fleet file is."""

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

INSTANCES_MAX = 4096


def contradiction(message: str, *field: str) -> PydanticCustomError:
    """What is wrong between fields; `field`: where to look first, from the mapping checked."""
    return PydanticCustomError("contradiction", "{message}", {"message": message, "field": field})


def camel(name: str) -> str:
    """block_tokens -> blockTokens"""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


class Section(BaseModel):
    """A mapping of the file: only fields that are known."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=camel)
