"""The training set: what was known at a time T, from the original files and from Delta.

``python -m training.dataset --config conf/local.toml --data FILE.csv … --as-of
2026-03-01T00:00:00Z --out FOLDER`` writes the examples as ``validated.csv`` (or to
``s3://bucket/prefix``) and prints how many there are of each origin, and the fingerprint.

What counts as known, and from where (docs/labels.md tells it at length):

- A verdict of the ledger, the last one recorded until T. It beats what a file says.
- The label of an original file.
- Neither: a payment that was received `label.maturity_days` or longer before T counts as genuine.
  All others are unlabelled, which is not the same as genuine: no examples, but their cards' past.

A model's own prediction is never a label, nor is the API's `is_fraud`, the simulated truth.

Weights. Examples weigh 1, but for frauds that came to light only because the payment was put up for
review, with probability p: nobody had reported them, and each stands for 1/p such frauds, of which
the others are in here as genuine ones by maturity. So it weighs 1/p, at most
`label.max_review_weight`. A reviewed payment that proved genuine weighs 1: those like it that were
not drawn stand in here themselves. The limit of it: a fraud that was reviewed before its holder had
time to report it weighs too much.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from botocore.exceptions import BotoCoreError, ClientError

from conf.sections import LabelSettings
from conf.settings import Settings, settings_from_arguments, stop
from ingest.pan_cipher import pan_cipher
from ingest.payment_files import PaymentFileError
from jobs.column_arrays import Marks
from jobs.envelopes import MOMENT
from jobs.label_ledger import standing_verdicts
from jobs.model import TRUTH
from jobs.run import log_to_stderr
from jobs.schemas import REVIEW_SOURCE
from jobs.truth import known_truth
from jobs.windows import Floats
from training.fit import fingerprint
from training.known_rows import PLACE, payments_of_files, payments_of_tables, rows_until
from training.validated import NoPlace, write_validated

log = logging.getLogger("training.dataset")

CONTEXT = "context"
ORIGINS = ("file", "verified", "review", "matured", CONTEXT)
"""Where the label is from: an original file, a verdict, a verdict that only a review led to, the
time that passed; ``context`` has none."""

CHOICES = {"maturity_days", "max_review_weight"}
"""Settings of `label` that decide what is an example, and how much it weighs."""

_VERDICT_COLUMNS = ("trans_num", "label", "source", "recorded_at", "line", "arrival")
_BEGINNING = pd.Timestamp(0, tz="UTC")
_END = datetime.max.replace(tzinfo=UTC)


class NoExamples(ValueError):
    """Nothing is known of any payment; the message says where was looked."""


class NoMoment(ValueError):
    """A text that tells no time."""


@dataclass(frozen=True)
class Dataset:
    """Payments in order of arrival, up to the last one that is an example: those of the files
    first, by event time, then those of the tables by time of receipt, source and position.

    ``payments`` has the columns of ``training.known_rows.KNOWN_COLUMNS`` but the last; `is_fraud`
    (float64) is 1, 0, or NaN where it is no example but past of others, `weight` (float64) is 0
    there; `origin` is one of ``ORIGINS``; `is_mature` (bool) is whether it has been here for
    `label.maturity_days`, or is from a file.
    """

    payments: pd.DataFrame
    as_of: datetime

    @property
    def examples(self) -> pd.DataFrame:
        """The rows that have a label."""
        return self.payments[self.payments["weight"] > 0]

    @property
    def counts(self) -> dict[str, int]:
        """Rows by origin."""
        counted = self.payments["origin"].value_counts()
        return {origin: int(counted.get(origin, 0)) for origin in ORIGINS}

    @cached_property
    def fingerprint(self) -> str:
        """``training.fit.fingerprint`` of all rows: the same where anything that training sees is
        the same.
        """
        return fingerprint(self.payments)


def build_dataset(files: Sequence[str | Path], settings: Settings, as_of: datetime) -> Dataset:
    """What was known at ``as_of`` (UTC) of the payments in ``files`` and in the Delta tables.

    What the tables took in, merged, compacted or vacuumed since changes nothing. Verdicts that are
    recorded at a time yet to come are missing, and a warning counts them. Where ``as_of`` is
    now, a verdict that is being written in this very moment can be missing.

    Raises:
        ingest.payment_files.PaymentFileError: a file cannot be used.
        NoExamples: no payment has a label.
    """
    _tell_of_verdicts_to_come(settings, max(as_of, datetime.now(UTC)))
    told = payments_of_files(files, pan_cipher(settings))
    arrived = payments_of_tables(settings.warehouse, as_of)
    # As a new checkpoint takes files: all on the day on which the first payment arrives.
    began = arrived["ingested_at"].min() if len(arrived) else _BEGINNING
    parts = [part for part in (told, arrived) if len(part)]
    payments = pd.concat(parts, ignore_index=True) if parts else told
    payments = payments[~payments.duplicated(["trans_num", "cc_num"])]
    payments = _labelled(payments, settings, as_of)
    payments["ingested_at"] = payments["ingested_at"].fillna(began)
    known = np.flatnonzero(payments["weight"] > 0)
    if not len(known):
        raise NoExamples(
            f"no payment has a label at {as_of.isoformat()}: of files there are {len(files)}, of "
            f"payments in {settings.warehouse.path} {len(arrived)}, none with a verdict and none "
            f"older than {settings.label.maturity_days:g} days (label.maturity_days)"
        )
    # What came later is nobody's past; and the newest payments are still on their way to the table.
    payments = payments.iloc[: known[-1] + 1].drop(columns=PLACE).reset_index(drop=True)
    return Dataset(payments, as_of)


def _tell_of_verdicts_to_come(settings: Settings, now: datetime) -> None:
    every = rows_until(settings.warehouse, "labels", ["recorded_at"], "recorded_at", _END)
    count = pc.sum(pc.greater(every["recorded_at"], pa.scalar(now, MOMENT))).as_py() or 0
    if count:
        log.warning(
            "%d verdicts are left out: they are recorded at a time yet to come, until %s, because "
            "the clock was wrong when they were taken; drop their files again (docs/labels.md)",
            count, pc.max(every["recorded_at"]).as_py().isoformat(timespec="seconds"),
        )  # fmt: skip


def _labelled(payments: pd.DataFrame, settings: Settings, as_of: datetime) -> pd.DataFrame:
    """With `is_fraud` as known at ``as_of``, `weight`, `origin` and `is_mature`."""
    label, in_file = settings.label, (payments[PLACE] == "file").to_numpy()
    ledger = rows_until(settings.warehouse, "labels", _VERDICT_COLUMNS, "recorded_at", as_of)
    verdicts = standing_verdicts(ledger)
    can_teach, foreign = _first_uses(payments)
    verdicts = verdicts.drop(foreign, errors="ignore")
    truth = known_truth(payments, verdicts, as_of, label.maturity_days)
    truth = np.where(in_file & np.isnan(truth), payments[TRUTH], truth)
    truth = np.where(can_teach, truth, np.nan)
    has_verdict = payments["trans_num"].isin(verdicts.index).to_numpy()
    by_review = payments["trans_num"].isin(_found_by_review_alone(verdicts, ledger)).to_numpy()
    is_mature = payments["ingested_at"] <= as_of - timedelta(days=label.maturity_days)
    origin = np.full(len(payments), "matured", dtype=object)
    for name, rows in (
        ("file", in_file), ("verified", has_verdict), ("review", by_review),
        (CONTEXT, np.isnan(truth)),
    ):  # fmt: skip
        origin[rows] = name
    weight = np.where(np.isnan(truth), 0.0, 1.0)
    lucky = (origin == "review") & (truth == 1)
    weight[lucky] = _review_weights(payments["trans_num"][lucky], settings, as_of)
    is_mature_or_told = is_mature.to_numpy() | in_file
    return payments.assign(
        is_fraud=truth, weight=weight, origin=origin, is_mature=is_mature_or_told
    )


def _first_uses(payments: pd.DataFrame) -> tuple[Marks, "pd.Series[str]"]:
    """Which payments can be examples, because no other card used their `trans_num` before; and the
    `trans_num`s of files that another card was scored with: verdicts on them are on the latter.
    """
    scored = payments[payments[PLACE] != "duplicates"]
    first = scored[~scored.duplicated("trans_num")]
    later = scored["trans_num"][~scored.index.isin(first.index)]
    of_files = first["trans_num"][first[PLACE] == "file"]
    return payments.index.isin(first.index), later[later.isin(of_files)]


def _found_by_review_alone(verdicts: pd.DataFrame, ledger: pa.Table) -> pd.Index:
    """The `trans_num`s whose verdict is a review's, and that nobody else ever called a fraud."""
    by_others = ledger.filter(
        pc.and_(pc.fill_null(ledger["label"], False), pc.not_equal(ledger["source"], REVIEW_SOURCE))
    )
    reviewed = verdicts.index[verdicts["source"] == REVIEW_SOURCE]
    return reviewed.difference(pd.Index(by_others["trans_num"].to_pylist(), dtype=object))


def _review_weights(names: "pd.Series[str]", settings: Settings, as_of: datetime) -> Floats:
    """1 over the probability that each was drawn with; 1 where it was not drawn."""
    columns = ("trans_num", "drawn_at", "probability")
    drawn = rows_until(settings.warehouse, "reviews", columns, "drawn_at", as_of).to_pandas()
    first = drawn.sort_values("drawn_at", kind="stable").drop_duplicates("trans_num")
    probability = names.map(first.set_index("trans_num")["probability"]).to_numpy(np.float64)
    return _bounded(1 / np.nan_to_num(probability, nan=1.0), settings.label)


def _bounded(weights: Floats, label: LabelSettings) -> Floats:
    return np.clip(weights, 1.0, label.max_review_weight)


def moment_of(text: str | None) -> datetime:
    """The moment that ``text`` tells (ISO 8601, UTC where it has no offset), in UTC; now, where it
    is None or empty.

    Raises:
        NoMoment: it is none.
    """
    now = datetime.now(UTC)
    if not text:
        return now
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise NoMoment(
            f"--as-of: expected a time such as {now:%Y-%m-%dT%H:%M:%SZ}, found {text!r}"
        ) from None
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment > now:
        log.warning("%s is yet to come: what is known by then is not what is known now", moment)
    return moment


def main() -> int:
    """Parse arguments, build, write, print."""
    parser = argparse.ArgumentParser(description="Write the training set as known at a time.")
    parser.add_argument("--data", nargs="*", default=[], help="CSV files of labelled payments")
    parser.add_argument("--as-of", help="what was known then, ISO 8601 (default: now)")
    parser.add_argument("--out", required=True, help="a folder, or s3://bucket/prefix")
    settings, arguments = settings_from_arguments(parser)
    log_to_stderr()
    try:
        dataset = build_dataset(arguments.data, settings, moment_of(arguments.as_of))
        written = write_validated(dataset.examples, arguments.out)
    except (PaymentFileError, NoExamples, NoMoment, NoPlace) as error:
        stop(str(error))
    except (BotoCoreError, ClientError, OSError) as error:
        stop(f"{arguments.out}: {error}")
    print(json.dumps(described(dataset) | {"written": written}))
    return 0


def described(dataset: Dataset) -> dict[str, str | int]:
    """`as_of`, `payments`, `examples`, `frauds`, rows by origin (``rows_file``, …), and
    `fingerprint`.
    """
    examples = dataset.examples
    return {
        "as_of": dataset.as_of.isoformat(),
        "payments": len(dataset.payments),
        "examples": len(examples),
        "frauds": int(examples[TRUTH].sum()),
        **{f"rows_{origin}": count for origin, count in dataset.counts.items()},
        "fingerprint": dataset.fingerprint,
    }


if __name__ == "__main__":
    sys.exit(main())
