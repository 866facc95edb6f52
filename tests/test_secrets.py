"""Secrets show in no settings, no error and no log. What the jobs write is searched for them in
``test_no_clear_number``, what Spark shows in ``test_kafka`` and ``test_s3``.
"""

import hashlib
import json
import logging
from typing import get_args

import pytest
from pydantic import SecretStr, ValidationError

from conf.sections import KafkaSettings
from conf.settings import PAN_KEY, SECRETS, Settings, SettingsError, load_settings
from ingest.topic import Message, TopicWriter, kept_offsets
from tests.conftest import PROJECT, free_port

KAFKA = PROJECT / "conf" / "kafka.toml"
SECRET = hashlib.sha256(
    b"a secret of these tests"
).hexdigest()  # a key that holds, and a password as good as any
WORD = "0pen-sesame"


@pytest.fixture
def _all_set(monkeypatch):
    """Every secret of the settings."""
    for name in (PAN_KEY, *(f"FRAUD_{section}__{key}".upper() for section, key in SECRETS)):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("FRAUD_SMTP__USERNAME", "me")
    monkeypatch.setenv("FRAUD_KAFKA__USERNAME", "me")
    monkeypatch.setenv("FRAUD_KAFKA__SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("FRAUD_KAFKA__BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("FRAUD_KAFKA__TIMEOUT_SECONDS", "0.5")


def sections():
    """The model of each section, by name."""
    for name, field in Settings.model_fields.items():
        for model in get_args(field.annotation) or (field.annotation,):
            if hasattr(model, "model_fields"):
                yield name, model


def test_no_file_may_hold_what_is_declared_a_secret():
    secret = [
        (section, key)
        for section, model in sections()
        for key, field in model.model_fields.items()
        if SecretStr in (field.annotation, *get_args(field.annotation))
    ]
    assert sorted(secret) == sorted(SECRETS)


@pytest.mark.usefixtures("_all_set")
def test_settings_do_not_show_them():
    settings = load_settings(KAFKA)
    held = [settings.pan_key, *(getattr(getattr(settings, s), k) for s, k in SECRETS)]
    assert [secret.get_secret_value() for secret in held] == [SECRET] * (1 + len(SECRETS))
    for shown in (settings, *(value for _, value in settings)):
        assert (
            SECRET not in f"{shown!r} {shown} {vars(shown) if hasattr(shown, 'model_dump') else ''}"
        )
    assert SECRET not in settings.model_dump_json()


@pytest.mark.usefixtures("_all_set")
@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        (PAN_KEY, WORD, "pan_key"),
        ("FRAUD_SMTP__PASSWORT", WORD, "smtp.passwort"),
        ("FRAUD_SMTP", json.dumps({"password": WORD, "port": "none"}), "smtp"),
        ("FRAUD_KAFKA", f'{{"password": "{WORD}"', "kafka"),
        ("FRAUD_KAFKA__USERNAME", "", "kafka.username"),
        ("FRAUD_API__URL", f"https://api.example/x?api_key={WORD}", "api.url"),
        ("FRAUD_API__URL", f"https://api.example/x?a=1&Access-Token={WORD}", "api.url"),
        ("FRAUD_API__URL", f"https://api.example/x?of=a%2526Key%253D{WORD}", "api.url"),
        ("FRAUD_API__URL", f"https://api.example/x#token={WORD}", "api.url"),
        ("FRAUD_API__TOKEN", f"{WORD}\nX-Other: 1", "api.token"),
        ("FRAUD_REGISTRY__TRACKING_URI", f"mssql+pyodbc:///?odbc_connect=UID%3Dme%3B+Pwd%3D{WORD}", "registry.tracking_uri"),
        ("FRAUD_REGISTRY__TRACKING_URI", f"mssql+pyodbc:///?odbc_connect=PWD+%3D{WORD}", "registry.tracking_uri"),
        ("FRAUD_REGISTRY__TRACKING_URI", f"postgresql://me:{WORD}@db/x", "registry.tracking_uri"),
        ("FRAUD_REGISTRY__TRACKING_URI", f"postgresql://db/x?password={WORD}", "registry.tracking_uri"),
        ("FRAUD_API__URL", f"https://me:{WORD}@api.example/", "api.url"),
        ("FRAUD_WAREHOUSE__PATH", f"s3a://me:{WORD}@bucket/tables", "warehouse.path"),
    ],
)  # fmt: skip
def test_what_does_not_hold_is_named_and_not_repeated(monkeypatch, variable, value, key):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings(KAFKA)
    told = repr(caught.value) + repr(caught.value.__context__)
    assert key in told
    assert WORD not in told
    assert SECRET not in told


def test_a_section_that_does_not_hold_repeats_nothing():
    with pytest.raises(ValidationError) as caught:
        KafkaSettings(bootstrap_servers="b.example:1", username="me", password=WORD)
    assert "FRAUD_KAFKA__PASSWORD go with" in str(caught.value)
    assert WORD not in str(caught.value)


def test_addresses_without_a_password_are_taken(monkeypatch):
    for address in (
        "https://mlflow.example:5000/a", "postgresql://me@db/x", "sqlite:///a:b@c",
        "postgresql://me@db/x?sslkey=us.pem&sslmode=require", "https://a.example/key=1/?by_key_of=2&monkey=3",
    ):  # fmt: skip
        monkeypatch.setenv("FRAUD_REGISTRY__TRACKING_URI", address)
        assert load_settings(KAFKA).registry.tracking_uri == address


@pytest.mark.usefixtures("_all_set")
def test_brokers_that_are_away_are_told_without_the_password(caplog):
    caplog.set_level(logging.DEBUG)
    kafka = load_settings(KAFKA).kafka
    with pytest.raises(OSError, match="Connection refused") as caught:
        kept_offsets(kafka, "payments")
    assert TopicWriter(kafka, "payments").write([Message("k", "v")]).failed
    assert "127.0.0.1" in caplog.text
    assert SECRET not in caplog.text + str(caught.value)
