"""How long everything takes in an engine: data, fitted from measurements or published."""

from importlib import resources
from pathlib import Path

import msgspec

from argosy.mesh.errors import ArgosyError, Reason
from argosy.mesh.timing import Timing

BUILT_IN = "dynamo-mocker"


class Profile(Timing, frozen=True, forbid_unknown_fields=True):
    """Timing of passes and transfers, and of what happens around them, in milliseconds."""

    load_ms: float = 200
    sleep_ms: float = 100
    wake_ms: float = 200
    tokens_per_pass: int = 8192
    """Most tokens in one pass of one data-parallel rank."""

    def faster(self, speed: float) -> "Profile":
        """Everything `speed` times faster."""
        return msgspec.structs.replace(
            self,
            prefill_ms=tuple(ms / speed for ms in self.prefill_ms),
            decode_ms=tuple(ms / speed for ms in self.decode_ms),
            decode_ms_per_request=self.decode_ms_per_request / speed,
            transfer_ms=self.transfer_ms / speed,
            transfer_gb_per_s=tuple(rate * speed for rate in self.transfer_gb_per_s),
            load_ms=self.load_ms / speed,
            sleep_ms=self.sleep_ms / speed,
            wake_ms=self.wake_ms / speed,
        )


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
