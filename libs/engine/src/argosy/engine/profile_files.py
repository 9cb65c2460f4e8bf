"""Timing profiles by name, or from YAML files."""

from importlib import resources
from pathlib import Path

import msgspec

from argosy.domain.errors import ArgosyError, Reason
from argosy.engine.profile import Profile

BUILT_IN = "dynamo-mocker"


def profile_names() -> list[str]:
    """Profiles that come with Argosy."""
    folder = resources.files("argosy.engine") / "profiles"
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir())


def load_profile(name: str | Path | None) -> Profile:
    """A profile by its name, or from a YAML file; None is the built-in one.

    Raises ArgosyError (BAD_REQUEST) that lists the names there are.
    """
    text = str(name or BUILT_IN)
    if text in profile_names():
        data = (resources.files("argosy.engine") / "profiles" / f"{text}.yaml").read_bytes()
        return msgspec.yaml.decode(data, type=Profile)
    try:
        return msgspec.yaml.decode(Path(text).read_bytes(), type=Profile)
    except OSError as error:
        known = ", ".join(profile_names())
        message = f"no timing profile '{text}': name one of {known}, or a YAML file"
        raise ArgosyError(Reason.BAD_REQUEST, message) from error
    except msgspec.DecodeError as error:
        raise ArgosyError(Reason.BAD_REQUEST, f"{text} is not a profile: {error}") from error
