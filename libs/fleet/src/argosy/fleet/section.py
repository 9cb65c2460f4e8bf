"""What every mapping of a fleet file is."""

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from argosy.domain import plugins

INSTANCES_MAX = 4096


def contradiction(message: str, *field: str) -> PydanticCustomError:
    """What is wrong between fields; `field`: where to look first, from the mapping checked."""
    return PydanticCustomError("contradiction", "{message}", {"message": message, "field": field})


def installed(group: str, name: str) -> str:
    """The name, if something of that name is installed in this entry-point group.

    Where nothing of the group is installed, as on a machine that only checks files, any name will
    do: the service that is started with it checks it again.
    """
    known = plugins.names(group)
    if known and name not in known:
        told = {"message": f"there is no '{name}'; write one of: {', '.join(known)}"}
        raise PydanticCustomError("not_installed", "{message}", told)
    return name


def camel(name: str) -> str:
    """block_tokens -> blockTokens"""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


class Section(BaseModel):
    """A mapping of the file: only fields that are known."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=camel)
