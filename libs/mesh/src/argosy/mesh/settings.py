"""Settings: from the environment, over a file, over defaults; every one documented.

`ARGOSY_<SERVICE>_<FIELD>` sets a field; ARGOSY_<SERVICE>_SETTINGS names a YAML file
with the same fields in lower case. An unknown name stops start-up and lists the
known ones. Nothing else in the house reads the environment.
"""

import difflib
import os
import socket
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

DEVELOPMENT_SECRET = "argosy-development-only"  # noqa: S105 - it protects nothing, and says so
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class SettingsError(Exception):
    """Settings that cannot be started with: which, and what to write instead."""


class ServiceSettings(BaseModel):
    """What every service can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fleet: str = Field("local", description="Fleet name; part of every subject on the bus.")
    instance_id: str = Field("", description="This process's name; default: service-hostname.")
    epoch: str = Field(
        default_factory=lambda: uuid.uuid4().hex[:12],
        description="Names one life of the process; its starter may choose it.",
    )
    node: str = Field(default_factory=socket.gethostname, description="Node it runs on.")
    listen: str = Field("127.0.0.1:0", description="gRPC host:port; port 0 takes a free one.")
    advertise_host: str = Field("127.0.0.1", description="Host others reach this process at.")
    nats_url: str = Field("nats://127.0.0.1:4222", description="The bus.")
    data_dir: Path | None = Field(
        None, description="Where journals and span files go; none are kept when unset."
    )
    otlp_endpoint: str = Field(
        "", description="OTLP/gRPC collector, e.g. http://localhost:4317; unset: span files."
    )
    metrics_listen: str = Field(
        "", pattern=r"^$|:\d+$", description="host:port of a page for Prometheus; unset: none."
    )
    fleet_secret: SecretStr = Field(
        SecretStr(DEVELOPMENT_SECRET),
        description="Signs tickets; the same in all of a fleet. Set it in production.",
    )
    drain_timeout_s: float = Field(
        30, gt=0, description="After SIGTERM, how long running requests get to finish."
    )
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Of stderr.")

    @model_validator(mode="after")
    def check_secret(self) -> Self:
        """Refuse to listen to the world with a secret that the world knows."""
        host = self.listen.rpartition(":")[0]
        if host not in LOOPBACK and self.fleet_secret.get_secret_value() == DEVELOPMENT_SECRET:
            raise ValueError(
                f"listening on {host} needs a fleet secret of your own: "
                f"set {self.prefix()}FLEET_SECRET"
            )
        return self

    @classmethod
    def prefix(cls) -> str:
        """RouterSettings -> ARGOSY_ROUTER_"""
        words = cls.__name__.removesuffix("Settings")
        snake = "".join(f"_{c}" if c.isupper() else c.upper() for c in words)
        return f"ARGOSY{snake}_"

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read file and environment. Raises SettingsError naming the field and remedy."""
        prefix = cls.prefix()
        given = {
            name.removeprefix(prefix).lower(): value
            for name, value in environment.items()
            if name.startswith(prefix)
        }
        values = {**read_file(given.pop("settings", "")), **given}
        for name in values:
            if name not in cls.model_fields:
                near = difflib.get_close_matches(name, cls.model_fields, n=1)
                hint = f"; did you mean {prefix}{near[0].upper()}?" if near else "."
                known = ", ".join(sorted(cls.model_fields))
                raise SettingsError(f"unknown setting {prefix}{name.upper()}{hint} Known: {known}")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            if not first["loc"]:
                raise SettingsError(first["msg"].removeprefix("Value error, ")) from error
            name = str(first["loc"][0])
            field = cls.model_fields.get(name)
            about = field.description if field else ""
            secret = field is not None and field.annotation is SecretStr
            shown = "(hidden)" if secret else repr(first.get("input"))
            raise SettingsError(
                f"{prefix}{name.upper()}={shown}: {first['msg']}. {about}"
            ) from error


def read_file(path: str) -> dict[str, Any]:
    """Fields from a YAML file; empty for no path."""
    if not path:
        return {}
    try:
        values = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"cannot read settings file {path}: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise SettingsError(f"settings file {path} must hold `name: value` lines")
    return values


S = TypeVar("S", bound=ServiceSettings)


def load_or_exit(kind: type[S]) -> S:
    """Settings for a process's start: wrong ones end it with the reason, exit code 2."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(describe(kind))  # noqa: T201 - help text is for stdout
        sys.exit(0)
    try:
        return kind.load()
    except SettingsError as error:
        print(f"argosy: {error}", file=sys.stderr)  # noqa: T201 - logging is not up yet
        sys.exit(2)


def describe(kind: type[ServiceSettings]) -> str:
    """A Markdown table of every setting: name, default, meaning."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in kind.model_fields.items():
        default = field.get_default(call_default_factory=False)
        if isinstance(default, SecretStr):
            default = "hidden"
        elif field.default_factory is not None:
            default = "found at start"
        shown = "" if default is None else f"`{default}`"
        rows.append(f"| `{kind.prefix()}{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows)
