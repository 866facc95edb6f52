"""The settings of every job: typed, frozen, checked at start.

A TOML file (``conf/local.toml``) is overridden by environment variables named
``FRAUD_SECTION__KEY``, such as ``FRAUD_SMTP__PORT=2525``. Secrets come from the environment alone
and never show in a ``repr``. Relative paths are relative to the directory a job is started in.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from pydantic import SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from conf.keys import key_bytes
from conf.sections import (
    AlertSettings,
    ApiSettings,
    DemoSettings,
    KafkaSettings,
    LabelSettings,
    LandingSettings,
    LoopSettings,
    MaintainSettings,
    MonitorSettings,
    PromoteSettings,
    RegistrySettings,
    ScoreSettings,
    SmtpSettings,
    TrainSettings,
    WarehouseSettings,
)


class SettingsError(Exception):
    """The settings do not hold; the message lists every problem."""


SECRETS = (("api", "token"), ("smtp", "password"), ("kafka", "password"))

PAN_KEY = "FRAUD_PAN_KEY"


class _Environment(EnvSettingsSource):
    """A list or section that is no JSON is left to the checks, which name its key."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class Settings(BaseSettings):
    """All sections. Unknown keys, wrong types and values out of range are errors."""

    model_config = SettingsConfigDict(
        env_prefix="FRAUD_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    api: ApiSettings
    landing: LandingSettings
    kafka: KafkaSettings | None = None
    warehouse: WarehouseSettings
    registry: RegistrySettings
    score: ScoreSettings = ScoreSettings()
    alert: AlertSettings
    smtp: SmtpSettings
    label: LabelSettings = LabelSettings()
    train: TrainSettings = TrainSettings()
    promote: PromoteSettings = PromoteSettings()
    monitor: MonitorSettings = MonitorSettings()
    maintain: MaintainSettings = MaintainSettings()
    demo: DemoSettings = DemoSettings()
    loop: LoopSettings = LoopSettings()
    pan_key: SecretStr | None = None
    """``FRAUD_PAN_KEY``: card numbers are replaced by tokens under this key
    (``ingest.pan_cipher``); None: they are stored as received."""

    @field_validator("pan_key")
    @classmethod
    def _pan_key_is_a_key(cls, text: SecretStr | None) -> SecretStr | None:
        if text is not None:
            key_bytes(text.get_secret_value())
        return text

    @model_validator(mode="after")
    def _login_is_whole(self) -> "Settings":
        if (self.smtp.username is None) != (self.smtp.password is None):
            raise ValueError("smtp.username and FRAUD_SMTP__PASSWORD go together: set both or none")
        return self

    @model_validator(mode="after")
    def _payments_land_in_one_place(self) -> "Settings":
        if (self.landing.path is None) == (self.kafka is None):
            found = "neither" if self.kafka is None else "both"
            raise ValueError(f"expected either landing.path or a section [kafka], found {found}")
        if self.kafka and self.kafka.payments_topic == self.kafka.alerts_topic:
            raise ValueError("kafka.alerts_topic: expected another topic than payments_topic")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment before the file (which ``load_settings`` passes in as initial values)."""
        return _Environment(settings_cls), init_settings


def load_settings(path: str | Path) -> Settings:
    """The settings in the TOML file ``path``, overridden by the environment.

    Raises:
        SettingsError: the file is missing, is no TOML, holds a secret, or a value does not hold;
            the message names every key at fault.
    """
    if not Path(path).is_file():
        raise SettingsError(f"no settings file at {path}: pass --config, e.g. conf/local.toml")
    try:
        values: dict[str, Any] = TomlConfigSettingsSource(Settings, Path(path))()
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    problems = _unknown_variables()
    problems += [
        f"{section}.{key}: a secret does not belong into a file; "
        f"set FRAUD_{section.upper()}__{key.upper()} in the environment"
        for section, key in SECRETS
        if isinstance(values.get(section), dict) and key in values[section]
    ]
    if "pan_key" in values:
        problems.append(f"pan_key: a secret does not belong into a file; set {PAN_KEY}")
    try:
        settings = Settings(**values)
    except ValidationError as error:
        problems += [
            f"{'.'.join(str(part) for part in item['loc']) or 'settings'}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False)
        ]
    if problems:
        raise SettingsError(f"{path}: " + "; ".join(problems))
    return settings


def _unknown_variables() -> list[str]:
    """Variables named like ours whose section does not exist: pydantic passes over them. So it
    would over a slip in the name of the key, and numbers would stay clear.
    """
    sections = ", ".join(Settings.model_fields)
    slips = [
        f"{name}: no variable of that name; there is {PAN_KEY}"
        for name in sorted(os.environ)
        if name.upper().startswith("FRAUD_PAN") and name.upper() != PAN_KEY
    ]
    return slips + [
        f"{name}: no section of that name; there is {sections}"
        for name in sorted(os.environ)
        if name.upper().startswith("FRAUD_")
        and "__" in name
        and name.upper().removeprefix("FRAUD_").split("__")[0].lower() not in Settings.model_fields
    ]


def settings_from_arguments(parser: argparse.ArgumentParser) -> tuple[Settings, argparse.Namespace]:
    """Add ``--config`` to ``parser``, parse the command line, load the settings.

    Ends the process with status 2 and one line where the settings do not hold.
    """
    parser.add_argument(
        "--config", default="conf/local.toml", help="settings file (default: %(default)s)"
    )
    arguments = parser.parse_args()
    try:
        return load_settings(arguments.config), arguments
    except SettingsError as error:
        stop(str(error), status=2)


def stop(message: str, status: int = 1) -> NoReturn:
    """End the process with ``message`` on standard error, as one line, and ``status``."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(status)
