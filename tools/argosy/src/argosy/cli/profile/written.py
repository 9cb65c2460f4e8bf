"""A fitted profile as the YAML file that load_profile reads."""

from pathlib import Path

import msgspec
import yaml

from argosy.cli.profile.report import ProfileReport, rounded


def write_yaml(report: ProfileReport, path: Path) -> None:
    """The profile, below comments that say where it comes from."""
    errors, measured = report.errors, report.measured
    lengths = ", ".join(map(str, measured.mixed_tokens))
    comments = (
        f"Fitted by `argosy profile fit` to {report.source}:",
        f"{len(measured.prefill)} prompt lengths and {len(measured.decode)} decode points, "
        f"each the median of {report.repeats}.",
        "Mean absolute error in sample (and of points left out of the fit):",
        f"prefill {errors.prefill_percent:.1f} % ({errors.prefill_left_out_percent:.1f} %), "
        f"decode {errors.decode_percent:.1f} % ({errors.decode_left_out_percent:.1f} %).",
        f"Prompts of {lengths} tokens at once, simulated: {report.mixed_off_percent:+.1f} %.",
        f"Not measured by the fit: {report.not_measured}.",
    )
    text = "".join(f"# {line}\n" for line in comments)
    fields = msgspec.to_builtins(rounded(report.profile), builtin_types=())
    text += yaml.safe_dump(fields, sort_keys=False, default_flow_style=None)
    path.write_text(text)
