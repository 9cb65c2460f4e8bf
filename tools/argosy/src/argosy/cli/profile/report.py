"""What a fit found: as JSON and as a table for people."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from rich.table import Table

from argosy.cli import console
from argosy.cli.profile.fit import FitErrors
from argosy.cli.profile.measure import Measurement
from argosy.engine.profile import Profile


@dataclass(frozen=True)
class ProfileReport:
    """A fitted profile, what it was fitted to and how well it fits."""

    source: str
    """What was measured, e.g. `vLLM 0.32.0 on cpu, float32, 1 core`."""
    not_measured: str
    """What the profile says about other things, and whence."""
    repeats: int
    measured: Measurement
    profile: Profile
    errors: FitErrors
    predicted_ms: float
    """What the sim engine took for measured.mixed_tokens."""

    @property
    def mixed_off_percent(self) -> float:
        """How far the prediction is off; negative: the real engine took longer."""
        return (self.predicted_ms / self.measured.mixed_ms - 1) * 100

    def points(self) -> Iterator[tuple[str, float, float]]:
        """Every point: what it is, measured ms, fitted ms; and last what was not fitted to."""
        for prompt in self.measured.prefill:
            fitted_ms = self.profile.prefill_step_ms(prompt.new_tokens)
            yield f"prefill {prompt.new_tokens}", prompt.ms, fitted_ms
        for step in self.measured.decode:
            fitted_ms = self.profile.decode_step_ms(step.kv_share, step.requests)
            name = f"decode {step.requests} x {step.context_tokens}, p {step.kv_share:.3f}"
            yield name, step.ms, fitted_ms
        lengths = " + ".join(map(str, self.measured.mixed_tokens))
        yield f"together {lengths}, simulated", self.measured.mixed_ms, self.predicted_ms


def rounded(profile: Profile) -> Profile:
    """To six significant digits: measurements hold no more."""
    return msgspec.convert(six_digits(msgspec.to_builtins(profile)), Profile)


def six_digits(value: Any) -> Any:
    """Every float in it; all else stays as it is."""
    if isinstance(value, list | tuple):
        return [six_digits(part) for part in value]
    if isinstance(value, dict):
        return {name: six_digits(part) for name, part in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def to_json(report: ProfileReport) -> dict[str, Any]:
    """For programs."""
    return {
        "source": report.source,
        "repeats": report.repeats,
        "profile": msgspec.structs.asdict(rounded(report.profile)),
        "errors": {name: round(value, 2) for name, value in asdict(report.errors).items()},
        "mixed": {
            "prompt_tokens": report.measured.mixed_tokens,
            "measured_ms": report.measured.mixed_ms,
            "predicted_ms": report.predicted_ms,
            "off_percent": round(report.mixed_off_percent, 2),
        },
        "prefill": [asdict(point) for point in report.measured.prefill],
        "decode": [asdict(point) for point in report.measured.decode],
    }


def show(report: ProfileReport) -> None:
    """Every point as measured and as fitted, then the coefficients and the errors."""
    table = Table(box=None, title=report.source)
    table.add_column("point")
    for heading in ("measured ms", "fitted ms", "off %"):
        table.add_column(heading, justify="right")
    for name, ms, fitted_ms in report.points():
        table.add_row(name, f"{ms:.1f}", f"{fitted_ms:.1f}", f"{(fitted_ms / ms - 1) * 100:+.1f}")
    console.out.print(table)
    summary = Table(box=None, show_header=False)
    for field, value in msgspec.structs.asdict(rounded(report.profile)).items():
        summary.add_row(field, str(value))
    for field, value in asdict(report.errors).items():
        summary.add_row(field, f"{value:.1f}")
    console.out.print(summary)
