import argparse
import os
import sys
from pathlib import Path

import pytest

from conf.addresses import absolute
from conf.settings import Settings, SettingsError, load_settings, settings_from_arguments
from tests.conftest import PROJECT

LOCAL = PROJECT / "conf" / "local.toml"
KAFKA = PROJECT / "conf" / "kafka.toml"


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.startswith("FRAUD_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path):
    """Write ``conf/local.toml``, changed, to a file of its own."""

    def write(old: str = "", new: str = "", also: str = "") -> Path:
        text = LOCAL.read_text()
        assert old in text
        path = tmp_path / "settings.toml"
        path.write_text((text.replace(old, new) if old else text) + also)
        return path

    return write


def problems_of(path) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    return str(caught.value)


def test_the_local_settings_load():
    settings = load_settings(LOCAL)
    assert settings.api.calls_per_minute == 5
    assert settings.registry.alias == "champion"
    assert settings.smtp.password is None


def test_the_kafka_settings_load_and_can_be_overridden(monkeypatch):
    local = load_settings(LOCAL).model_dump(exclude={"landing", "kafka"})
    monkeypatch.setenv("FRAUD_KAFKA__BOOTSTRAP_SERVERS", "a.example:9092,b.example:9093")
    settings = load_settings(KAFKA)
    assert settings.kafka.bootstrap_servers == "a.example:9092,b.example:9093"
    assert (settings.kafka.payments_topic, settings.kafka.alerts_topic) == (
        "payments",
        "fraud-alerts",
    )
    assert settings.landing.path is None
    assert settings.model_dump(exclude={"landing", "kafka"}) == local


def test_payments_land_in_one_place(monkeypatch, file):
    assert "landing.path or a section [kafka], found neither" in problems_of(
        file('path = "var/landing"\n')
    )
    monkeypatch.setenv("FRAUD_LANDING__PATH", "var/landing")
    assert "landing.path or a section [kafka], found both" in problems_of(KAFKA)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bootstrap_servers", "broker.example"),
        ("bootstrap_servers", ""),
        ("payments_topic", "a,b"),
        ("alerts_topic", "payments"),
        ("max_offsets_per_batch", "0"),
        ("timeout_seconds", "0"),
        ("colour", "red"),
    ],
)
def test_kafka_settings_that_do_not_hold_are_named(monkeypatch, key, value):
    monkeypatch.setenv(f"FRAUD_KAFKA__{key.upper()}", value)
    assert f"kafka.{key}: " in problems_of(KAFKA)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"SECURITY_PROTOCOL": "SASL_SSL"}, "username and FRAUD_KAFKA__PASSWORD"),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL", "USERNAME": "fraud"},
            "username and FRAUD_KAFKA__PASSWORD",
        ),
        ({"USERNAME": "fraud", "PASSWORD": "secret"}, "username and FRAUD_KAFKA__PASSWORD"),
        ({"CA_FILE": "ca.pem"}, "ca_file and key_file are of use with SSL"),
        ({"KEY_FILE": "us.pem"}, "ca_file and key_file are of use with SSL"),
        ({"OPTIONS": '{"ssl.key.password": "secret"}'}, "ssl.key.password may hold"),
        ({"OPTIONS": '{"sasl.jaas.config": "secret"}'}, "sasl.jaas.config may hold"),
        ({"OPTIONS": '{"SSL.key.Password": "secret"}'}, "SSL.key.Password may hold"),
        ({"OPTIONS": '{"sasl.oauthbearer.config": "secret"}'}, "oauthbearer.config may hold"),
    ],
)
def test_a_login_to_kafka_is_whole(monkeypatch, given, said):
    for key, value in given.items():
        monkeypatch.setenv(f"FRAUD_KAFKA__{key}", value)
    problems = problems_of(KAFKA)
    assert said in problems
    assert "secret" not in problems


def test_the_environment_comes_before_the_file(monkeypatch):
    monkeypatch.setenv("FRAUD_SMTP__PORT", "2525")
    monkeypatch.setenv("FRAUD_SCORE__BUCKETS", "4")
    monkeypatch.setenv("FRAUD_ALERT__RECIPIENTS", '["a@example.org", "b@example.org"]')
    settings = load_settings(LOCAL)
    assert (settings.smtp.host, settings.smtp.port) == ("127.0.0.1", 2525)
    assert settings.score.buckets == 4
    assert settings.score.max_files_per_batch == 1000  # the file's, beside an overridden one
    assert settings.alert.recipients == ("a@example.org", "b@example.org")


def test_every_problem_is_told_in_one_message(file, monkeypatch):
    monkeypatch.setenv("FRAUD_API__URL", "ftp://example.org")
    monkeypatch.setenv("FRAUD_ALERT__RECIPIENTS", "a@example.org")
    monkeypatch.setenv("FRAUD_TRAIN__TEST_SHARE", "1")
    monkeypatch.setenv("FRAUD_SCORE__OPTIONAL_FIELDS", "zip")
    path = file(
        "port = 8025", "port = 0", also='\nprot = 1\npassword = "hunter2"\n[colour]\nred = 1'
    )
    message = problems_of(path)
    for key in (
        "api.url",
        "alert.recipients",
        "train.test_share",
        "score.optional_fields",
        "smtp.port",
        "smtp.prot",
        "smtp.password",
        "colour",
    ):
        assert f"{key}: " in message
    assert message.startswith(str(path))
    assert "\n" not in message


def test_a_secret_in_a_file_is_refused_and_not_shown(file):
    message = problems_of(file(also='\nusername = "me"\npassword = "hunter2"\n'))
    assert "FRAUD_SMTP__PASSWORD" in message
    assert "hunter2" not in message


def test_a_token_of_the_api_in_a_file_is_refused(file):
    message = problems_of(file("calls_per_minute = 5", 'calls_per_minute = 5\ntoken = "hunter2"'))
    assert "FRAUD_API__TOKEN" in message
    assert "hunter2" not in message


def test_a_secret_shows_nowhere(monkeypatch):
    monkeypatch.setenv("FRAUD_SMTP__USERNAME", "me")
    monkeypatch.setenv("FRAUD_SMTP__PASSWORD", "hunter2")
    settings = load_settings(LOCAL)
    assert settings.smtp.password.get_secret_value() == "hunter2"
    for text in (repr(settings), str(settings), repr(settings.smtp), settings.model_dump_json()):
        assert "hunter2" not in text
    monkeypatch.setenv("FRAUD_SMTP__PORT", "none")
    assert "hunter2" not in problems_of(LOCAL)


@pytest.mark.parametrize("name", ["USERNAME", "PASSWORD"])
def test_a_login_is_whole(monkeypatch, name):
    monkeypatch.setenv(f"FRAUD_SMTP__{name}", "x")
    assert "go together" in problems_of(LOCAL)


def test_a_variable_of_an_unknown_key_or_section_is_an_error(monkeypatch):
    monkeypatch.setenv("FRAUD_SMTP__PROT", "25")
    assert "smtp.prot: " in problems_of(LOCAL)
    monkeypatch.delenv("FRAUD_SMTP__PROT")
    monkeypatch.setenv("FRAUD_SMPT__PORT", "25")
    message = problems_of(LOCAL)
    assert "FRAUD_SMPT__PORT" in message
    assert "there is api, landing, " in message


def test_variables_of_others_do_not_matter(monkeypatch):
    monkeypatch.setenv("FRAUD_ANALYST", "me")
    monkeypatch.setenv("OTHER__FRAUD_X", "me")
    load_settings(LOCAL)


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-1", "soon"])
def test_a_duration_is_a_finite_number_above_zero(monkeypatch, value):
    monkeypatch.setenv("FRAUD_REGISTRY__POLL_SECONDS", value)
    assert "registry.poll_seconds: " in problems_of(LOCAL)


@pytest.mark.parametrize(
    "key", ["monitor.window_days", "label.maturity_days", "monitor.max_silence_hours"]
)
def test_a_time_that_is_counted_back_from_now_has_an_end(monkeypatch, key):
    monkeypatch.setenv(f"FRAUD_{key.upper().replace('.', '__')}", "1e9")
    assert f"{key}: " in problems_of(LOCAL)


@pytest.mark.parametrize("content", [b"[smtp\n", b"\xff\xfe", b"port = \n"])
def test_what_is_no_toml_is_named(tmp_path, content):
    path = tmp_path / "settings.toml"
    path.write_bytes(content)
    assert problems_of(path).startswith(f"{path} is not valid TOML: ")


def test_an_empty_file_lacks_every_required_section(tmp_path):
    path = tmp_path / "settings.toml"
    path.touch()
    message = problems_of(path)
    required = [name for name, field in Settings.model_fields.items() if field.is_required()]
    assert len(required) >= 6
    assert all(f"{name}: Field required" in message for name in required)


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        assert problems_of(path).startswith(f"no settings file at {path}: pass --config")


def test_settings_are_frozen():
    settings = load_settings(LOCAL)
    with pytest.raises(ValueError, match="frozen"):
        settings.smtp.port = 1


def test_tables_are_absolute_where_they_have_no_scheme(monkeypatch):
    settings = load_settings(LOCAL)
    assert settings.warehouse.table("x") == str(Path("var/warehouse/x").absolute())
    monkeypatch.setenv("FRAUD_WAREHOUSE__PATH", "s3a://bucket/warehouse")
    assert load_settings(LOCAL).warehouse.table("x") == "s3a://bucket/warehouse/x"
    assert absolute("/there") == "/there"


def test_a_job_ends_with_status_2_and_one_line(monkeypatch, capsys, file):
    path = file("port = 8025", "port = 0", also="\nprot = 1\n")
    monkeypatch.setattr(sys, "argv", ["job", "--config", str(path)])
    with pytest.raises(SystemExit) as caught:
        settings_from_arguments(argparse.ArgumentParser())
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_job_gets_its_settings_and_arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["job", "--config", str(LOCAL), "--once"])
    parser = argparse.ArgumentParser()
    parser.add_argument("--once", action="store_true")
    settings, arguments = settings_from_arguments(parser)
    assert settings == load_settings(LOCAL)
    assert arguments.once
