"""The sections of the settings: one model each, every key with its type, range and default."""

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from conf.addresses import Address, Options, absolute

Seconds = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
MOST_DAYS = 3650
"""Of a length of time that is counted back from now: ten years."""

Topic = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


TRUSTED_TYPES = (
    "functools.partial",
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
    "training.kind_odds.KindOdds",
)
"""What our own model is made of, and what scikit-learn's trees and linear models are."""


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )


class ApiSettings(_Section):
    """The payments API that ``ingest.poll`` asks. ``FRAUD_API__TOKEN`` belongs into the
    environment, never into a file.
    """

    url: Address = Field(
        pattern=r"^https?://[^/\s]", description="address of the current-transactions call"
    )
    calls_per_minute: int = Field(5, ge=1, description="the API's limit, kept across restarts")
    timeout_seconds: Seconds = Field(10.0, description="a call without its whole answer failed")
    attempts: int = Field(5, ge=1, description="tries of one call before it counts as missed")
    wait_max_seconds: Seconds = Field(60.0, description="longest pause between two tries")
    max_body_bytes: int = Field(64 * 2**20, ge=1, description="a longer answer is not taken")
    token: SecretStr | None = Field(None, description="sent as `Authorization: Bearer …`")

    @field_validator("token")
    @classmethod
    def _token_fits_a_header(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not re.fullmatch(r"[!-~]+", token.get_secret_value()):
            raise ValueError("expected letters, digits and signs of ASCII, without blanks")
        return token


class LandingSettings(_Section):
    """Where ingest lands what it received (``path``, or else the section ``kafka``), and its ledger
    of calls.
    """

    path: Address | None = Field(
        None, description="folder of JSON-lines files, one file an answer of the API"
    )
    source: str = Field("payments-api", min_length=1, description="`source` in every envelope")
    ledger: Path = Field(description="SQLite file: calls made, positions given")

    @property
    def too_long(self) -> Path:
        """The folder beside the ledger that keeps rows too long for the topic."""
        return self.ledger.with_name(f"{self.ledger.stem}-too-long")


class KafkaSettings(_Section):
    """Kafka in the place of the landing folder, and a topic of hits. ``FRAUD_KAFKA__PASSWORD``
    belongs into the environment, never into a file.
    """

    bootstrap_servers: str = Field(
        pattern=r"^[^\s,]+:\d+(,[^\s,]+:\d+)*$", description="host:port, comma-separated"
    )
    payments_topic: Topic = Field("payments", description="ingest writes, the score job reads")
    alerts_topic: Topic = Field("fraud-alerts", description="the score job writes its hits")
    max_offsets_per_batch: int = Field(50_000, ge=1, description="messages in one micro-batch")
    timeout_seconds: Seconds = Field(30.0, description="until brokers must have acknowledged")
    min_partitions: int | None = Field(
        None, ge=1, description="tasks that read, at least; more than there are partitions cut them"
    )
    skip_lost: bool = Field(
        False, description="a new checkpoint passes over messages that the topic dropped unread"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str | None = Field(None, pattern=r'^[^"\\\s]+$', description="SASL")
    password: SecretStr | None = None
    ca_file: Path | None = Field(
        None, description="PEM file of who signs the brokers' certificates; None: the system's own"
    )
    key_file: Path | None = Field(
        None, description="PEM file of our private key (PKCS #8) and its certificates, for brokers "
        "that ask for one",
    )  # fmt: skip
    options: Options = Field(
        {},
        description="further properties that librdkafka and Java's client both know; what a key of "
        "this section says comes before them",
    )

    @model_validator(mode="after")
    def _login_fits(self) -> "KafkaSettings":
        is_sasl = self.security_protocol.startswith("SASL") and "sasl.mechanism" not in self.options
        if {self.username is None, self.password is None} != {not is_sasl}:
            raise ValueError(
                "username and FRAUD_KAFKA__PASSWORD go with a SASL_… security_protocol, and it "
                "with both"
            )
        if (self.ca_file or self.key_file) and not self.security_protocol.endswith("SSL"):
            raise ValueError("ca_file and key_file are of use with SSL or SASL_SSL only")
        return self


class WarehouseSettings(_Section):
    """The Delta tables, and the checkpoints of the streams that fill them."""

    path: Address = Field(description="root of the Delta tables")
    checkpoints: Address = Field(description="root of the streams' checkpoints")

    def table(self, name: str) -> str:
        """Path of the Delta table ``name``."""
        return absolute(f"{self.path}/{name}")

    def checkpoint(self, job: str) -> str:
        """Path of the checkpoint of ``job``."""
        return absolute(f"{self.checkpoints}/{job}")


class RegistrySettings(_Section):
    """The MLflow registry that holds the models."""

    tracking_uri: Address = Field(description="MLflow tracking and registry address")
    artifacts: Address | None = Field(None, description="artifact root of a new experiment")
    experiment: str = "fraud"
    model_name: str = "fraud"
    alias: str = Field("champion", description="alias of the version that scores")
    challenger_alias: str = Field(
        "challenger", description="alias of the version that scores in shadow"
    )
    cache: Path = Field(description="folder in which the score job keeps the last good version")
    poll_seconds: Seconds = Field(1.0, description="how often the alias is looked up")
    allow_pickle: bool = Field(
        False, description="load what may be stored as pickle, which can run anything when loaded"
    )
    trusted_types: tuple[str, ...] = Field(
        TRUSTED_TYPES, description="types beside scikit-learn's own that skops may load"
    )

    @property
    def artifact_root(self) -> str | None:
        """Where a new experiment keeps its files: an address; None with a server (HTTP), which
        keeps them itself, unless ``artifacts`` is an address and no folder.
        """
        if self.artifacts is None or ":/" in self.artifacts:
            return self.artifacts
        if self.tracking_uri.startswith(("http://", "https://")):
            return None
        return Path(self.artifacts).absolute().as_uri()


class ScoreSettings(_Section):
    """The score job."""

    trigger_seconds: float = Field(0.0, ge=0, description="pause between micro-batches; 0: none")
    max_files_per_batch: int = Field(1000, ge=1, description="landing files in one micro-batch")
    buckets: int = Field(16, ge=1, description="keys of the stateful operator; fixed a checkpoint")
    history: tuple[str, ...] = Field(
        (), description="CSV files of earlier payments, remembered by a new checkpoint"
    )
    seen_days: int = Field(30, ge=1, description="how long a trans_num is remembered, in days")
    max_days_ahead: float = Field(
        1.0, ge=0, description="event time allowed past receipt, in days; 0: any (replays)"
    )
    optional_fields: tuple[str, ...] = Field((), description="payment fields that may be missing")


class AlertSettings(_Section):
    """The alert job."""

    recipients: tuple[str, ...] = Field(min_length=1)
    sender: str
    journal: Path = Field(description="SQLite file: mails planned and tried, before the ledger")
    trigger_seconds: float = Field(1.0, gt=0, description="how often new hits are looked for")
    tick_seconds: Seconds = Field(1.0, description="how often pending mails are looked at")
    window_seconds: Seconds = Field(600.0, description="the window of `max_hits_in_window`")
    max_hits_in_window: int = Field(100, ge=1, description="more hits than this: one digest")
    retry_max_seconds: Seconds = Field(300.0, description="longest pause before a mail's next try")
    give_up_hours: float = Field(72.0, gt=0, description="after that a mail is `failed`")


class SmtpSettings(_Section):
    """The mail relay. ``FRAUD_SMTP__PASSWORD`` belongs into the environment, never into a file."""

    host: str
    port: int = Field(ge=1, le=65535)
    starttls: bool = False
    username: str | None = None
    password: SecretStr | None = None
    timeout_seconds: Seconds = 10.0


class LabelSettings(_Section):
    """Verdicts, and what becomes of payments without one."""

    inbox: Path = Field(
        Path("var/verdicts"), description="folder that files of verdicts are dropped into"
    )
    poll_seconds: Seconds = Field(2.0, description="how often the folder is looked at")
    maturity_days: float = Field(
        30.0,
        ge=0,
        le=MOST_DAYS,
        description="so long after receipt, a payment without a report is genuine",
    )
    review_share: float = Field(
        0.001, gt=0, le=1, description="share of payments below the threshold put up for review"
    )
    worklists: Path = Field(
        Path("var/reviews"), description="folder that lists of payments to review are written to"
    )
    max_review_weight: float = Field(
        100.0, ge=1, description="most that a fraud found by review alone weighs in training"
    )


class TrainSettings(_Section):
    """Training."""

    seed: int = 1
    test_share: float = Field(0.2, gt=0, lt=1, description="last part of the time, for the metrics")
    threshold_rule: Literal["costs", "alerts_per_day", "precision"] = Field(
        "costs",
        description="what the threshold is chosen by, on the last part of the time. `costs`: what "
        "missed frauds and looks at hits cost; the default, as it needs one figure that a team "
        "knows, and does not shift where the files hold only some of the live payments",
    )
    look_cost_usd: float = Field(
        10.0, ge=0, description="price of a look at a hit: ten minutes at 60 USD an hour"
    )
    alerts_per_day: float = Field(
        20.0, gt=0, description="`alerts_per_day`: at most so many hits, mean over calendar days"
    )
    min_precision: Probability = Field(
        0.9, description="`precision`: the lowest threshold that keeps this precision"
    )
    card_precision_k: int = Field(10, ge=1, description="cards a day in `card_precision_at_k`")


class PromoteSettings(_Section):
    """When a challenger takes the champion's place; `[train]` prices looks and names budgets."""

    min_frauds: int = Field(30, ge=1, description="fewer known frauds decide nothing")
    min_gain: float = Field(
        0.0,
        description="the lower bound of the gain in average precision must lie above this",
    )
    max_calibration_error: Probability = Field(
        0.02, description="the challenger's expected calibration error may not be larger"
    )
    confidence: float = Field(0.9, gt=0, lt=1, description="of the two-sided intervals")
    resamples: int = Field(500, ge=20, description="draws of the bootstrap over cards")
    seed: int = 1
    reports: Path = Field(Path("var/reports"), description="folder of the HTML reports")


class MonitorSettings(_Section):
    """The monitor, and the limits beyond which it mails."""

    folder: Path = Field(
        Path("var/monitor"), description="what was mailed last (state.json), and drift reports"
    )
    window_days: float = Field(
        7.0,
        gt=0,
        le=MOST_DAYS,
        description="drift is judged over the last so many days, accuracy over the last so many "
        "that are matured; whole weeks, as weekdays differ",
    )
    min_rows: int = Field(
        1000, ge=1, description="with fewer payments, drift and rejected rows are not judged"
    )
    min_frauds: int = Field(
        20, ge=1, description="with fewer hits precision is not judged, with fewer frauds the rest"
    )
    max_feature_psi: float = Field(
        0.5, gt=0, description="of a feature; counts by card follow the season: up to 0.33 seen"
    )
    max_psi: float = Field(0.25, gt=0, description="of the score, and of the mix of categories")
    max_effect_size: float = Field(
        0.8, gt=0, description="Cohen's d of a feature or the score; 0.8 is called large"
    )
    max_category_effect_size: float = Field(
        0.3, gt=0, le=1, description="Cramér's V of the mix of categories; 0.3 is called medium"
    )
    min_precision: Probability = Field(0.15, description="of the hits that are matured")
    min_recall: Probability = Field(0.5, description="of the frauds that are matured")
    max_average_precision_drop: Probability = Field(
        0.15, description="below the version's own, on the test part of its training"
    )
    max_delay_p99_seconds: Seconds = Field(60.0, description="receipt to score, last 24 h")
    max_silence_hours: float = Field(
        24.0,
        gt=0,
        le=24 * MOST_DAYS,
        description="without a payment; drift is not judged on a window with a longer pause",
    )
    max_rejected_share: Probability = Field(0.05, description="of what was received, last 24 h")


class MaintainSettings(_Section):
    """What ``jobs.maintain`` puts together, and how long it keeps what nobody needs any more."""

    target_file_mb: float = Field(
        64.0,
        gt=0,
        description="smaller data files are put together, up to this size; a verdict rewrites the "
        "whole file that its payment is in",
    )
    vacuum_hours: float = Field(
        168.0,
        ge=1 / 60,
        description="files that no commit names, or none any more, are removed after so long: "
        "longer than a micro-batch lasts, and than any reader needs for one version",
    )
    log_hours: float = Field(
        24.0,
        ge=1 / 60,
        description="commits stay in a table's log so long; back in time goes no further",
    )
    landing: Literal["archive", "delete", "keep"] = Field(
        "archive", description="what becomes of landed files whose payloads stand in the tables"
    )
    landing_days: float = Field(7.0, gt=0, description="so long after they landed")
    archive: Path = Field(
        Path("var/landing-archive"), description="folder that landed files are moved to, by day"
    )


class DemoSettings(_Section):
    """``make demo``."""

    rows: int = Field(120_000, ge=10_000, description="synthetic payments of the first champion")
    rate: float = Field(50.0, gt=0, description="payments a second of the simulated API")
    api_port: int = Field(8009, ge=1, le=65535)


class LoopSettings(_Section):
    """``make loop-demo``: the simulated world, and how its team goes about retraining."""

    start: date = Field(date(2025, 6, 1), description="first day of the stream, UTC")
    days: int = Field(61, ge=2, description="how many days are played")
    cards: int = Field(1000, ge=10, description="cards of the simulated holders")
    burst_cycle_days: int = Field(240, ge=1, description="90 % of the cards are robbed once in it")
    training_days: int = Field(90, ge=1, description="days before `start`, for the first champion")
    change_after_days: int = Field(20, ge=1, description="days of the stream until fraud changes")
    reported_share: Probability = Field(0.85, description="of the frauds, reported by the holder")
    report_days: int = Field(4, ge=1, description="a report comes 1 to so many days later")
    gather_days: int = Field(7, ge=0, description="days from an alarm to the retraining")
    compare_every_days: int = Field(2, ge=1, description="between two comparisons")
    trial_days: int = Field(14, ge=1, description="a challenger that has not won by then is stale")
    seed: int = Field(1, ge=0)
