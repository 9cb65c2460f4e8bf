"""What steps and transfers cost, and how far apart instances are."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.domain.timing import FAR, NODE, RACK, Timing, distance

TIMING = Timing(
    prefill_ms=(10, 0.5, 0.01),
    decode_ms=(5, 40, -20),
    decode_ms_per_request=0.25,
    kv_bytes_per_token=1_000_000,
    transfer_ms=2,
    transfer_gb_per_s=(100, 50, 10),
)


@pytest.mark.parametrize(
    ("one", "other", "far"),
    [
        (("n1", "r1"), ("n1", "r1"), NODE),
        (("n1", "r1"), ("n2", "r1"), RACK),
        (("n1", "r1"), ("n2", "r2"), FAR),
        (("n1", ""), ("n1", "r1"), NODE),
        (("", "r1"), ("", "r1"), RACK),
        (("", ""), ("", ""), FAR),
        (("n1", ""), ("n2", ""), FAR),
        (("", "r1"), ("", ""), FAR),
    ],
)
def test_only_what_has_the_same_name_is_near(
    one: tuple[str, str], other: tuple[str, str], far: int
) -> None:
    assert distance(*one, *other) == distance(*other, *one) == far


def test_a_prefill_step_costs_its_polynomial() -> None:
    assert TIMING.prefill_step_ms(20) == pytest.approx(10 + 0.5 * 20 + 0.01 * 400)


@pytest.mark.parametrize("tokens", [0, -1])
def test_no_prompt_tokens_cost_nothing(tokens: int) -> None:
    assert TIMING.prefill_step_ms(tokens) == 0


def test_a_decode_step_costs_by_blocks_in_use_and_by_sequence() -> None:
    assert TIMING.decode_step_ms(0.5) == pytest.approx(5 + 40 * 0.5 - 20 * 0.25)
    assert TIMING.decode_step_ms(0.5, 8) == pytest.approx(TIMING.decode_step_ms(0.5) + 8 * 0.25)


@pytest.mark.parametrize(("far", "rate_gb_per_s"), [(NODE, 100), (RACK, 50), (FAR, 10)])
def test_a_transfer_costs_its_bytes_at_the_rate_of_the_distance(
    far: int, rate_gb_per_s: int
) -> None:
    gigabytes = 500 * 1_000_000 / 1e9
    assert TIMING.kv_transfer_ms(500, far) == pytest.approx(2 + 1e3 * gigabytes / rate_gb_per_s)


def test_a_transfer_is_within_a_node_unless_said_otherwise() -> None:
    assert TIMING.kv_transfer_ms(500) == TIMING.kv_transfer_ms(500, NODE)


@given(tokens=st.integers(0, 5000), per_step=st.integers(1, 600))
def test_a_prompt_costs_the_sum_of_the_steps_it_takes(tokens: int, per_step: int) -> None:
    left, total_ms = tokens, 0.0
    while left:
        total_ms += TIMING.prefill_step_ms(min(left, per_step))
        left -= min(left, per_step)
    assert TIMING.prompt_ms(tokens, per_step) == pytest.approx(total_ms)


def test_the_default_is_the_published_timing_of_dynamos_mocker() -> None:
    timing = Timing()
    assert timing.prefill_step_ms(1000) == pytest.approx(32.1058, abs=1e-3)
    assert timing.decode_step_ms(0.5) == pytest.approx(26.31, abs=1e-9)
    assert timing.kv_transfer_ms(1000) == pytest.approx(1 + 131_072_000 / 64e6)


@pytest.mark.parametrize("given", [{"prefil_ms": [1, 2, 3]}, {"prefill_ms": [1, 2]}])
def test_a_timing_with_wrong_fields_is_no_timing(given: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, Timing)
