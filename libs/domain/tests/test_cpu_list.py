"""Lists of cores, as settings give them."""

import pytest

from argosy.domain.cpu_list import parse_cores


@pytest.mark.parametrize(
    ("text", "cores"), [("", []), ("5", [5]), ("0-3", [0, 1, 2, 3]), ("0,2-3", [0, 2, 3])]
)
def test_cores_are_numbers_and_ranges_in_the_order_given(text: str, cores: list[int]) -> None:
    assert parse_cores(text) == cores


@pytest.mark.parametrize("text", ["all", "-1", "0 1", "a-b"])
def test_what_is_no_list_of_cores_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse_cores(text)
