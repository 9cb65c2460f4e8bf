"""`argosy profile fit`: load, measure, fit, write, show."""

import asyncio
import json
import os
import tempfile
from functools import partial
from pathlib import Path

import msgspec
from rich.progress import Progress

from argosy.cli import console
from argosy.cli.profile.fit import fit
from argosy.cli.profile.measure import measure
from argosy.cli.profile.mixed import predict_ms
from argosy.cli.profile.model import kv_bytes_per_token, read_config
from argosy.cli.profile.report import ProfileReport, show, to_json
from argosy.cli.profile.written import write_yaml
from argosy.domain.cpu_list import parse_cores
from argosy.engine.profile import Profile
from argosy.engine.settings import EngineSettings
from argosy.launcher.launch import UpError, check_model, plan
from argosy.mesh.stdio import engines_off_stdout

STEP_TOKENS = 2048
"""When the fleet leaves it to the engine: a prompt of a whole step has to be known as such."""
LOOPBACK_GB_PER_S = 1.07
"""NIXL between two processes' DRAM, over UCX's loopback without RDMA: 1 GiB/s, measured apart."""
NOT_MEASURED = {
    "cpu": "transfers (NIXL over loopback, 1 GiB/s, measured apart), sleep and wake (defaults)",
    "cuda": "transfers, sleep and wake (defaults)",
}


def settings_of_fleet(fleet: Path) -> EngineSettings:
    """What a prefill instance of the fleet is told, on as many cores. Raises UpError."""
    with tempfile.TemporaryDirectory(prefix="argosy-profile-") as home:
        planned = plan(fleet, Path(home), 0, 0)
    spec = planned.fleet.spec
    if spec.engine.kind != "vllm":
        raise UpError(f"{fleet} runs the {spec.engine.kind} engine: name a vllm fleet to measure")
    cores = sorted(os.sched_getaffinity(0))[: spec.split.prefill.resources.cpu]
    fields = planned.fleet.instance_settings(planned.base_dir)
    return EngineSettings.model_validate({**fields, "cpu_cores": ",".join(map(str, cores))})


def settings_of_model(model_source: str) -> EngineSettings:
    """Defaults, on whatever cores there are. Raises UpError when files are missing."""
    name = Path(model_source).name
    check_model(model_source, name)
    return EngineSettings(engine="vllm", model=name, model_source=model_source)


def run_fit(settings: EngineSettings, out: Path, repeats: int, seed: int, *, as_json: bool) -> None:
    """Do it all; at the end the profile is in `out`. Raises ArgosyError."""
    check_writable(out)
    if not settings.step_tokens:
        settings = settings.model_copy(update={"step_tokens": STEP_TOKENS})
    config = read_config(settings.model_source)
    base = base_profile(settings, kv_bytes_per_token(config, settings.dtype))
    bar = Progress(console=console.err, transient=True)
    bar.add_task("starting", total=None)
    with engines_off_stdout(), bar:
        # A loop of its own: vLLM's tasks end with it, before they can log that it is gone.
        vocabulary = int(config["vocab_size"])
        measured = asyncio.run(measure(settings, vocabulary, repeats, seed, partial(tell, bar)))
    profile, errors = fit(measured.prefill, measured.decode, base)
    profile = msgspec.structs.replace(profile, load_ms=measured.load_ms)
    with console.err.status("the sim engine's turn"):
        predicted_ms = asyncio.run(predict_ms(settings, profile, measured.mixed_tokens))
    report = ProfileReport(
        described(settings),
        NOT_MEASURED[settings.device],
        repeats,
        measured,
        profile,
        errors,
        predicted_ms,
    )
    write_yaml(report, out)
    if as_json:
        print(json.dumps(to_json(report)))
    else:
        show(report)
        console.out.print(f"written to {out}: name it as timing_profile to run by it")


def tell(bar: Progress, doing: str, done: int, total: int) -> None:
    """Move the one bar there is."""
    bar.update(bar.task_ids[0], description=doing, completed=done, total=total)


def check_writable(out: Path) -> None:
    """Rather before minutes of measuring than after. Raises UpError."""
    if not out.parent.is_dir():
        raise UpError(f"cannot write {out}: there is no folder {out.parent}")


def base_profile(settings: EngineSettings, kv_bytes: int) -> Profile:
    """What is known before anything is measured."""
    base = Profile(kv_bytes_per_token=kv_bytes, tokens_per_step=settings.step_tokens)
    if settings.device != "cpu":
        return base
    speeds = (LOOPBACK_GB_PER_S, LOOPBACK_GB_PER_S, LOOPBACK_GB_PER_S)
    return msgspec.structs.replace(base, transfer_gb_per_s=speeds)


def described(settings: EngineSettings) -> str:
    """What was measured. vLLM has been loaded by then."""
    from vllm import __version__

    cores = len(parse_cores(settings.cpu_cores))
    where = f"{settings.device}, {cores} core{'s' * (cores != 1)}" if cores else settings.device
    version = __version__.partition("+")[0]
    return f"{settings.model}, vLLM {version} on {where}, {settings.dtype}"
