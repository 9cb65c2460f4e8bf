"""Fitting a timing profile: exact where it can be, honest where it cannot."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from argosy.cli.profile.fit import DecodePoint, PrefillPoint, fit
from argosy.cli.profile.measure import Measurement, context_lengths
from argosy.cli.profile.model import kv_bytes_per_token
from argosy.cli.profile.report import ProfileReport
from argosy.cli.profile.written import write_yaml
from argosy.domain.errors import ArgosyError, Reason
from argosy.engine.api import EngineInfo
from argosy.engine.profile import Profile
from argosy.engine.profile_files import load_profile

LENGTHS = (16, 32, 64, 128, 192, 256, 384, 512)
STEPS = [(batch, batch * share) for batch in (1, 2, 4, 8) for share in (0.003, 0.05, 0.11)]


def timed(profile: Profile) -> tuple[list[PrefillPoint], list[DecodePoint]]:
    """What an engine that keeps to the profile would be measured to take."""
    prefill = [PrefillPoint(n, profile.prefill_step_ms(n)) for n in LENGTHS]
    decode = [DecodePoint(b, 100, p, profile.decode_step_ms(p, b)) for b, p in STEPS]
    return prefill, decode


@given(
    prefill_ms=some.tuples(some.floats(0.1, 500), some.floats(1e-3, 5), some.floats(0, 1e-2)),
    base_ms=some.floats(1, 200),
    slopes=some.tuples(some.floats(0, 200), some.floats(0, 200)),
    per_request=some.floats(0, 20),
)
def test_a_fit_to_exact_points_finds_the_timing_they_came_from(
    prefill_ms: tuple[float, float, float],
    base_ms: float,
    slopes: tuple[float, float],
    per_request: float,
) -> None:
    decode_ms = (base_ms, slopes[0], (slopes[1] - slopes[0]) / 2)
    known = Profile(prefill_ms=prefill_ms, decode_ms=decode_ms, decode_ms_per_request=per_request)
    found, errors = fit(*timed(known), Profile())
    for n in (1, 100, 512):
        assert math.isclose(found.prefill_step_ms(n), known.prefill_step_ms(n), rel_tol=1e-3)
    assert found.prefill_ms == pytest.approx(known.prefill_ms, rel=1e-3, abs=1e-6)
    assert found.decode_ms == pytest.approx(known.decode_ms, rel=1e-3, abs=1e-6)
    assert found.decode_ms_per_request == pytest.approx(per_request, rel=1e-3, abs=1e-6)
    assert errors.prefill_left_out_percent < 0.1
    assert errors.decode_left_out_percent < 0.1


def test_a_published_profile_whose_decode_flattens_is_found_again() -> None:
    known = Profile()
    found, _ = fit(*timed(known), Profile(decode_ms=(0, 0, 0), prefill_ms=(0, 0, 0)))
    assert found.decode_ms == pytest.approx(known.decode_ms)
    assert found.prefill_ms == pytest.approx(known.prefill_ms)


@given(some.lists(some.floats(1, 1000), min_size=len(STEPS), max_size=len(STEPS)))
def test_whatever_was_measured_more_work_never_takes_less_time(times: list[float]) -> None:
    prefill = [PrefillPoint(n, ms) for n, ms in zip(LENGTHS, times, strict=False)]
    decode = [DecodePoint(b, 100, p, ms) for (b, p), ms in zip(STEPS, times, strict=True)]
    found, _ = fit(prefill, decode, Profile())
    prefills = [found.prefill_step_ms(n) for n in range(1, 1000, 50)]
    decodes = [found.decode_step_ms(p / 20, 4) for p in range(21)]
    assert all(later >= earlier * (1 - 1e-9) for earlier, later in pairwise(prefills))
    assert all(later >= earlier * (1 - 1e-9) for earlier, later in pairwise(decodes))
    assert found.decode_ms_per_request >= 0


def test_points_that_contradict_each_other_are_reported_as_a_large_error() -> None:
    prefill, decode = timed(Profile())
    halved = [PrefillPoint(p.new_tokens, p.ms * (0.5, 2)[i % 2]) for i, p in enumerate(prefill)]
    _, errors = fit(halved, decode, Profile())
    assert errors.prefill_percent > 30
    assert errors.prefill_left_out_percent > errors.prefill_percent
    assert errors.decode_percent < 0.1


def test_too_few_points_are_refused_with_how_many_it_takes() -> None:
    prefill, decode = timed(Profile())
    for few, enough, names in ((prefill[:3], decode, "3 prefill.*4"), ([], decode, "0 prefill.*4")):
        with pytest.raises(ArgosyError, match=names) as refused:
            fit(few, enough, Profile())
        assert refused.value.reason is Reason.BAD_REQUEST
    with pytest.raises(ArgosyError, match=r"4 decode.*at least 5.*batch sizes"):
        fit(prefill, decode[:4], Profile())


def test_points_of_one_batch_size_cannot_tell_what_a_request_costs() -> None:
    prefill, decode = timed(Profile())
    alone = [DecodePoint(1, 100, p.kv_share, p.ms) for p in decode]
    with pytest.raises(ArgosyError, match=r"too alike.*several batch sizes"):
        fit(prefill, alone, Profile())


def test_what_is_written_is_what_is_loaded(tmp_path: Path) -> None:
    prefill, decode = timed(Profile())
    fitted, errors = fit(prefill, decode, Profile(prefill_ms=(0, 0, 0), kv_bytes_per_token=46_080))
    measured = Measurement(prefill, decode, 1.0, [128, 512], 1000.0)
    report = ProfileReport("an engine", "sleep", 3, measured, fitted, errors, 900.0)
    write_yaml(report, tmp_path / "fitted.yaml")
    text, loaded = (tmp_path / "fitted.yaml").read_text(), load_profile(tmp_path / "fitted.yaml")
    assert "an engine" in text
    assert "-10.0 %" in text
    assert loaded.kv_bytes_per_token == 46_080
    assert loaded.prefill_ms == pytest.approx(fitted.prefill_ms, rel=1e-5)
    assert loaded.decode_ms == pytest.approx(fitted.decode_ms, rel=1e-5)


def test_contexts_leave_room_for_the_largest_batch_to_decode() -> None:
    info = EngineInfo(32, 364, 4096, 8)
    small, _, large = context_lengths(info, 8)
    assert small > 0
    assert 8 * (large + 13) <= 0.8 * 364 * 32
    assert max(context_lengths(EngineInfo(32, 100_000, 4096, 8), 8)) <= 4096 - 13


def test_kv_per_token_follows_the_models_config() -> None:
    config = {
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "num_hidden_layers": 30,
        "hidden_size": 576,
        "torch_dtype": "bfloat16",
    }
    assert kv_bytes_per_token(config, "float32") == 46_080
    assert kv_bytes_per_token(config, "auto") == 23_040
    with pytest.raises(ArgosyError, match="num_hidden_layers"):
        kv_bytes_per_token({"num_attention_heads": 9, "hidden_size": 576}, "auto")
