"""Settings: environment over file over default; what is wrong stops start-up and says how."""

from pathlib import Path

import pytest
from pydantic import Field

from argosy.mesh.settings import ServiceSettings, SettingsError, describe, load_or_exit


class TinyServiceSettings(ServiceSettings):
    sails: int = Field(2, ge=1, description="How many sails it carries.")


def refusal(environment: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as refused:
        TinyServiceSettings.load(environment)
    return str(refused.value)


def test_an_unknown_name_is_refused_with_the_nearest_known_one() -> None:
    message = refusal({"ARGOSY_TINY_SERVICE_SAIL": "3"})
    assert "unknown setting ARGOSY_TINY_SERVICE_SAIL" in message
    assert "did you mean ARGOSY_TINY_SERVICE_SAILS?" in message


def test_an_unknown_name_unlike_any_is_refused_with_all_known_ones() -> None:
    message = refusal({"ARGOSY_TINY_SERVICE_QQQQ": "3"})
    assert message.startswith("unknown setting ARGOSY_TINY_SERVICE_QQQQ. Known: ")
    assert all(name in message for name in TinyServiceSettings.model_fields)


def test_a_bad_value_names_its_setting_the_value_and_what_it_means() -> None:
    message = refusal({"ARGOSY_TINY_SERVICE_SAILS": "none"})
    assert "ARGOSY_TINY_SERVICE_SAILS='none'" in message
    assert "integer" in message
    assert "How many sails it carries." in message


def test_a_bad_secret_is_refused_without_being_shown(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text("fleet_secret: 271828")
    message = refusal({"ARGOSY_TINY_SERVICE_SETTINGS": str(file)})
    assert "ARGOSY_TINY_SERVICE_FLEET_SECRET" in message
    assert "271828" not in message


def test_the_environment_goes_before_the_file_and_the_file_before_defaults(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text("sails: 5\nfleet: north\n")
    environment = {"ARGOSY_TINY_SERVICE_SETTINGS": str(file), "ARGOSY_TINY_SERVICE_SAILS": "7"}

    settings = TinyServiceSettings.load(environment)
    assert (settings.sails, settings.fleet, settings.drain_timeout_s) == (7, "north", 30)


def test_an_unknown_name_in_the_file_is_refused_as_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text("sales: 5")
    message = refusal({"ARGOSY_TINY_SERVICE_SETTINGS": str(file)})
    assert "did you mean ARGOSY_TINY_SERVICE_SAILS?" in message


@pytest.mark.parametrize("content", [b"- a list", b"1: one", b"a: [", b"\xff\xfe\x00\x01", b""])
def test_a_file_that_holds_no_settings_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_bytes(content)
    assert str(file) in refusal({"ARGOSY_TINY_SERVICE_SETTINGS": str(file)})


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "absent.yaml"
    assert str(file) in refusal({"ARGOSY_TINY_SERVICE_SETTINGS": str(file)})


@pytest.mark.parametrize("listen", ["0.0.0.0:5000", "[::]:5000", "10.0.0.7:0", ":5000"])
def test_the_secret_everyone_knows_is_refused_where_others_can_reach_us(listen: str) -> None:
    message = refusal({"ARGOSY_TINY_SERVICE_LISTEN": listen})
    assert message.endswith("set ARGOSY_TINY_SERVICE_FLEET_SECRET")
    own = {"ARGOSY_TINY_SERVICE_LISTEN": listen, "ARGOSY_TINY_SERVICE_FLEET_SECRET": "mine"}
    assert TinyServiceSettings.load(own).listen == listen


def test_other_services_settings_are_not_ours() -> None:
    environment = {"ARGOSY_ROUTER_SAILS": "x", "ARGOSY_TINY": "y", "HOME": "z"}
    assert TinyServiceSettings.load(environment).sails == 2


def test_every_start_of_a_process_is_another_epoch() -> None:
    assert TinyServiceSettings.load({}).epoch != TinyServiceSettings.load({}).epoch


def test_help_is_the_table_of_settings_and_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tiny", "--help"])
    with pytest.raises(SystemExit) as ended:
        load_or_exit(TinyServiceSettings)
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == describe(TinyServiceSettings)


def test_help_shows_every_setting_and_no_secret() -> None:
    table = describe(TinyServiceSettings)
    for name, field in TinyServiceSettings.model_fields.items():
        assert f"`ARGOSY_TINY_SERVICE_{name.upper()}`" in table
        assert str(field.description) in table
    secret = TinyServiceSettings.model_fields["fleet_secret"].default.get_secret_value()
    assert secret not in table
