"""Timing profiles: named ones, YAML files, and what is said of one that is not there."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.domain.errors import ArgosyError, Reason
from argosy.engine.profile import Profile, Weights
from argosy.engine.profile_files import BUILT_IN, load_profile, profile_names

MS = st.floats(0, 1e4)
RATES = st.floats(0.1, 1e3)
WEIGHTS = st.builds(
    Weights,
    gigabytes=st.floats(0, 1e4),
    nodes=st.integers(1, 9),
    devices_per_node=st.integers(1, 9),
    device_gb_per_s=RATES,
    host_gb_per_s=RATES,
    disk_gb_per_s=RATES,
)
PROFILES = st.builds(
    Profile,
    prefill_ms=st.tuples(MS, MS, MS),
    decode_ms=st.tuples(MS, MS, MS),
    decode_ms_per_request=MS,
    kv_bytes_per_token=st.integers(1, 1 << 24),
    transfer_ms=MS,
    transfer_gb_per_s=st.tuples(RATES, RATES, RATES),
    load_ms=MS,
    sleep_ms=MS,
    wake_ms=MS,
    flush_ms=MS,
    withdraw_ms=MS,
    register_ms=MS,
    weights=st.none() | WEIGHTS,
    tokens_per_step=st.integers(1, 1 << 16),
)


def times_ms(profile: Profile) -> list[float]:
    """All that takes time, once."""
    return [
        *(profile.prefill_step_ms(tokens) for tokens in (0, 1, 500)),
        profile.prompt_ms(3 * profile.tokens_per_step + 1, profile.tokens_per_step),
        *(profile.decode_step_ms(share, requests) for share in (0, 0.5) for requests in (0, 9)),
        *(profile.kv_transfer_ms(tokens, far) for tokens in (0, 700) for far in range(3)),
        profile.load_ms,
        profile.sleep_ms,
        profile.wake_ms,
        profile.flush_ms,
        profile.withdraw_ms,
        profile.register_ms,
        *(took(level) for took in (profile.free_ms, profile.take_ms) for level in ("dram", "disk")),
    ]


def test_every_profile_that_comes_with_argosy_loads_by_its_name() -> None:
    names = profile_names()
    assert BUILT_IN in names
    assert names == sorted(names)
    assert len({load_profile(name) for name in names}) == len(names) >= 2


@pytest.mark.parametrize("name", [None, ""])
def test_no_name_is_the_built_in_one(name: str | None) -> None:
    assert load_profile(name) == load_profile(BUILT_IN)


def test_the_built_in_profile_is_what_a_router_assumes_of_an_engine_that_says_nothing() -> None:
    assert load_profile(BUILT_IN) == Profile()


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(ArgosyError, match="no timing profile 'dynamo-mokcer'") as raised:
        load_profile("dynamo-mokcer")
    assert raised.value.reason == Reason.BAD_REQUEST
    assert ", ".join(profile_names()) in str(raised.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("lod_ms: 3\n", "lod_ms"),
        ("load_ms: soon\n", "load_ms"),
        ("prefill_ms: [1, 2]\n", "length 3"),
        ("just words\n", "object"),
        ("load_ms: [\n", "YAML|parsing|flow"),
    ],
)
def test_a_file_that_is_no_profile_is_refused_by_name_and_reason(
    tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ArgosyError, match=why) as raised:
        load_profile(path)
    assert raised.value.reason == Reason.BAD_REQUEST
    assert "wrong.yaml is not a profile" in str(raised.value)


@settings(max_examples=examples(50))
@given(profile=PROFILES)
def test_a_profile_written_to_a_file_is_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, profile: Profile
) -> None:
    path = tmp_path_factory.mktemp("profile") / "mine.yaml"
    path.write_bytes(msgspec.yaml.encode(profile))
    assert load_profile(path) == load_profile(str(path)) == profile


@settings(max_examples=examples(50))
@given(profile=PROFILES, speed=st.floats(0.01, 1000))
def test_a_faster_engine_is_faster_in_everything_and_does_the_same(
    profile: Profile, speed: float
) -> None:
    faster = profile.faster(speed)
    assert times_ms(faster) == pytest.approx([ms / speed for ms in times_ms(profile)])
    assert faster.tokens_per_step == profile.tokens_per_step
    assert faster.kv_bytes_per_token == profile.kv_bytes_per_token


def test_every_time_a_profile_names_is_checked_above() -> None:
    """A new field needs a place in `faster`, or none, and in these tests."""
    assert set(Profile.__struct_fields__) == {
        "prefill_ms",
        "decode_ms",
        "decode_ms_per_request",
        "transfer_ms",
        "transfer_gb_per_s",
        "load_ms",
        "sleep_ms",
        "wake_ms",
        "flush_ms",
        "withdraw_ms",
        "register_ms",
        "weights",
        "tokens_per_step",
        "kv_bytes_per_token",
    }


def test_weights_are_copied_by_all_devices_at_once_within_what_the_hosts_memory_gives() -> None:
    weights = Weights(1000, nodes=2, devices_per_node=8, device_gb_per_s=50, host_gb_per_s=200)
    assert weights.copy_ms() == 1e3 * 500 / 200
    assert msgspec.structs.replace(weights, host_gb_per_s=1e6).copy_ms() == 1e3 * 500 / 400


def test_weights_dropped_need_no_copy_to_sleep_and_come_from_files_to_wake() -> None:
    weights = Weights(1000, nodes=2, devices_per_node=8, disk_gb_per_s=10)
    profile = Profile(sleep_ms=100, wake_ms=200, weights=weights)
    assert profile.free_ms("disk") == 100
    assert profile.take_ms("disk") == 200 + 1e3 * 500 / 10
    assert profile.free_ms("dram") == 100 + weights.copy_ms()
    assert profile.take_ms("dram") == 200 + weights.copy_ms() < profile.take_ms("disk")


def test_a_trillion_parameters_on_16_gpus_sleep_under_10_s_and_wake_under_30_s() -> None:
    trillion = load_profile("trillion")
    assert trillion.weights is not None
    assert trillion.weights.nodes * trillion.weights.devices_per_node == 16
    assert trillion.withdraw_ms + trillion.free_ms("dram") < 10_000
    assert trillion.take_ms("dram") + trillion.register_ms < 30_000
