"""Champion and challenger on the same payments, whose truth is known and which neither was trained
on.

Only payments that have matured are judged (`label.maturity_days` from receipt), though there are
verdicts on younger ones: on frauds, and on hits of the champion. Among those nearly all would be
frauds, and of the false hits one would know the champion's, never the challenger's.

Both score them anew, from what the stream stored of each payment: so it does not matter which of
them scored it when it came, nor since when the challenger runs in shadow.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from mlflow import MlflowClient

from conf.settings import Settings
from jobs.envelopes import MOMENT
from jobs.label_ledger import LabelLedger
from jobs.metrics import Floats, JudgedPayments, judged_payments
from jobs.scoring import model_columns_of
from jobs.tables import arrow_schema
from jobs.truth import known_truth
from training.replay_report import TOLERANCE
from training.versions import Judge, VersionNotFound, load_judge

_PAYMENT = ("trans_num", "cc_num", "amt", "event_time", "ingested_at")
_STORED = (
    "model_name", "model_version", "fraud_score", "challenger_version", "challenger_score",
)  # fmt: skip
_ORDER = ("source", "position")


@dataclass(frozen=True)
class Contender:
    """A version, and what it was trained on until when (UTC).

    ``is_end_told``: the model's metadata say so; else it is the time of its registration, which
    cannot be earlier.
    """

    judge: Judge
    trained_until: datetime
    is_end_told: bool

    @property
    def label(self) -> str:
        """Name and version, for messages."""
        return f"{self.judge.name} v{self.judge.version}"


@dataclass(frozen=True)
class Verdict:
    """How a contender judged the payments; and of how many of them the table has a score that it
    gave in the stream, and how many of those are the ones that it gives now (to 1e-12).
    """

    contender: Contender
    judged: JudgedPayments
    stored: int
    agreeing: int


@dataclass(frozen=True)
class Comparison:
    """Both verdicts on the same n payments.

    Attributes:
        as_of: what was known until then counts (UTC).
        after: payments of a later event time are judged (UTC).
        immature: payments left out because they have not matured.
        verified: payments of the n whose truth a verdict tells; of the others time does.
        until: the last event time, None without payments.
    """

    as_of: datetime
    after: datetime
    immature: int
    verified: int
    until: datetime | None
    champion: Verdict
    challenger: Verdict

    @property
    def payments(self) -> int:
        """How many are judged."""
        return len(self.champion.judged.labels)

    @property
    def frauds(self) -> int:
        """How many of them are frauds."""
        return int(self.champion.judged.labels.sum())

    @property
    def cards(self) -> int:
        """How many cards they are of."""
        return len(pd.unique(self.champion.judged.cards))


def find_contender(client: MlflowClient, version: str, settings: Settings) -> Contender:
    """Load ``version`` of the settings' model, with the end of its training window.

    Raises:
        training.versions.VersionNotFound: it is not in the registry, or its files are away.
        jobs.model.ModelRefused: it does not fit the contract.
    """
    uri = f"models:/{settings.registry.model_name}/{version}"
    judge = load_judge(uri, settings.registry)
    try:
        metadata: dict[str, Any] = mlflow.models.get_model_info(uri).metadata or {}
        found = client.get_model_version(judge.name, version)
    except Exception as error:  # MLflow's stores raise errors of their own
        raise VersionNotFound(f"{uri} cannot be read: {error}") from error
    told = _moment(metadata.get("last_event"))
    registered = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
    return Contender(judge, told or registered, told is not None)


def compare(
    champion: Contender, challenger: Contender, settings: Settings, as_of: datetime
) -> Comparison:
    """Judge both on the payments that came after both trainings and had matured at ``as_of`` (UTC),
    by the truth as known then.

    Raises:
        jobs.model.ModelRefused: a version fails on them.
    """
    after = max(champion.trained_until, challenger.trained_until)
    names = {*champion.judge.model.input_names, *challenger.judge.model.input_names}
    payments = _read_payments(settings.warehouse.table("transactions"), names, after, as_of)
    frame = payments.select(["trans_num", "ingested_at"]).to_pandas()
    verdicts = LabelLedger(settings.warehouse).standing(as_of)
    maturity_days = settings.label.maturity_days
    is_matured = (frame["ingested_at"] <= as_of - timedelta(days=maturity_days)).to_numpy()
    truth = known_truth(frame, verdicts, as_of, maturity_days)[is_matured]
    known = payments.filter(pa.array(is_matured))
    stored = known.select(list(_STORED)).to_pandas()
    return Comparison(
        as_of=as_of,
        after=after,
        immature=int((~is_matured).sum()),
        verified=int(frame["trans_num"][is_matured].isin(verdicts.index).sum()),
        until=pc.max(known["event_time"]).as_py(),
        champion=_judge(
            champion,
            known,
            truth,
            (stored["model_name"] == champion.judge.name)
            & (stored["model_version"] == champion.judge.version),
            stored["fraud_score"],
        ),
        challenger=_judge(
            challenger,
            known,
            truth,
            stored["challenger_version"] == challenger.judge.version,
            stored["challenger_score"],
        ),
    )


def _judge(
    contender: Contender,
    payments: pa.Table,
    truth: Floats,
    has_stored: pd.Series,
    stored: pd.Series,
) -> Verdict:
    judge = contender.judge
    scores = judge.scores_of(model_columns_of(payments, judge.model.input_names))
    frame = payments.select(["amt", "event_time", "cc_num"]).to_pandas().assign(is_fraud=truth)
    is_its = has_stored.to_numpy(dtype=bool)
    then = stored.to_numpy(dtype=np.float64)[is_its]
    return Verdict(
        contender=contender,
        judged=judged_payments(frame, scores),
        stored=int(is_its.sum()),
        agreeing=int((np.abs(then - scores[is_its]) <= TOLERANCE).sum()),
    )


def _read_payments(path: str, inputs: set[str], after: datetime, as_of: datetime) -> pa.Table:
    """Rows of `transactions` in order of arrival, the features as columns. What a row lacks,
    because it was scored before the column existed, is NULL.
    """
    schema = arrow_schema("transactions")
    try:
        dataset = DeltaTable(path).to_pyarrow_dataset()
    except TableNotFoundError:
        rows = schema.empty_table()
    else:
        is_asked = (pc.field("ingested_at") <= pa.scalar(as_of, MOMENT)) & (
            pc.field("event_time") > pa.scalar(after, MOMENT)
        )
        wanted = {*_PAYMENT, *_STORED, *_ORDER, "features", *inputs} & {*dataset.schema.names}
        rows = dataset.to_table(columns=sorted(wanted), filter=is_asked)
        rows = rows.sort_by([(name, "ascending") for name in _ORDER])
    struct = rows["features"].combine_chunks()
    features = {field.name: pc.struct_field(struct, field.name) for field in struct.type}
    found = {name: rows[name] for name in rows.column_names} | features
    types = {name: schema.field(name).type for name in schema.names}
    return pa.table(
        {
            name: found[name]
            if name in found
            else pa.nulls(len(rows), types.get(name, pa.float64()))
            for name in sorted({*_PAYMENT, *_STORED, *inputs})
        }
    )


def _moment(text: Any) -> datetime | None:
    """A time of the model's metadata as UTC; None where it tells none."""
    try:
        told = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return told.replace(tzinfo=UTC) if told.tzinfo is None else told.astimezone(UTC)
