"""Judge one payment with a registered version: the client to copy.

``python -m training.predict --config conf/local.toml --payment FILE.json [--history FILE.csv …]``
(``-`` reads the payment from standard input) prints the verdict as JSON. What the card did before
is taken from the tables of the score job; ``--history`` names files instead.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from conf.sections import ScoreSettings, WarehouseSettings
from conf.settings import settings_from_arguments, stop
from ingest.pan_cipher import pan_cipher
from ingest.payment_files import PaymentFileError, first_of_each, read_payments
from ingest.schema import InvalidPayment, check_payment
from jobs.features import FEATURE_INPUTS, FEATURE_NAMES
from jobs.model import TRUTH, ModelRefused, inputs_of
from jobs.parse import Rules, check_ahead
from jobs.run import log_to_stderr
from jobs.schemas import REMEMBERED_TABLES
from jobs.tables import rows_where
from training.versions import Judge, VersionNotFound, load_judge

ANY = Rules(optional=(TRUTH,))
"""Whatever fits the schema, at any event time."""


def rules_of(settings: ScoreSettings) -> Rules:
    """What the stream asks of a payment; the truth may be missing here."""
    return Rules((TRUTH, *settings.optional_fields), settings.max_days_ahead)


def judge_payment(
    payment: Mapping[str, Any],
    judge: Judge,
    history: pd.DataFrame | None = None,
    rules: Rules = ANY,
) -> dict[str, Any]:
    """The verdict on one payment: trans_num, fraud_score, prediction, threshold, model_name,
    model_version, features.

    Args:
        payment: the fields of ``ingest.schema.PAYMENT_FIELDS``; the truth may be missing.
        rules: those of the stream (``rules_of``); as received now.
        history: payments of the card that arrived before it, as ``read_payments`` or
            ``past_of_card`` returns them.

    Raises:
        ingest.schema.InvalidPayment: the payment does not fit the schema or the rules.
        jobs.model.ModelRefused: the model fails on it.
    """
    values, now = check_payment(payment, rules.optional), pd.Timestamp.now("UTC")
    check_ahead(values["event_time"], now, rules)
    row = pd.DataFrame([values]).assign(ingested_at=now)
    inputs = inputs_of(row, history)
    score = float(judge.scores_of(inputs)[0])
    return {
        "trans_num": row["trans_num"].iloc[0],
        "fraud_score": score,
        "prediction": score >= judge.threshold,
        "threshold": judge.threshold,
        "model_name": judge.name,
        "model_version": judge.version,
        "features": {
            name: None if np.isnan(value) else value
            for name, value in inputs[list(FEATURE_NAMES)].iloc[0].items()
        },
    }


def past_of_card(warehouse: WarehouseSettings, card: str, trans_num: str) -> pd.DataFrame | None:
    """What the tables hold of a card, in the order of arrival: ``FEATURE_INPUTS`` and
    `ingested_at`; None where they hold nothing.

    Args:
        card: `cc_num`, as ``check_payment`` returns it.
        trans_num: the payment to judge, which may be in the tables itself.
    """
    columns = [*FEATURE_INPUTS, "source", "position", "ingested_at"]
    columns += [name for name in ("cc_num", "trans_num") if name not in columns]
    others = (pc.field("cc_num") == card) & (pc.field("trans_num") != trans_num)
    tables = [
        rows_where(DeltaTable(path).to_pyarrow_dataset(), columns, others)
        for path in map(warehouse.table, REMEMBERED_TABLES)
        if DeltaTable.is_deltatable(path)
    ]
    if not sum(map(len, tables)):
        return None
    past = pa.concat_tables(tables).sort_by([("source", "ascending"), ("position", "ascending")])
    frame: pd.DataFrame = past.to_pandas()
    return frame


def main() -> int:
    """Parse arguments, judge, print."""
    parser = argparse.ArgumentParser(description="Judge one payment.")
    parser.add_argument("--payment", required=True, help="JSON file of one payment, or -")
    parser.add_argument("--history", nargs="+", help="CSV files of the card's past, not the tables")
    parser.add_argument("--model-uri", help="models:/NAME@ALIAS or models:/NAME/N (the champion)")
    settings, arguments = settings_from_arguments(parser)
    log_to_stderr()
    registry = settings.registry
    uri = arguments.model_uri or f"models:/{registry.model_name}@{registry.alias}"
    try:
        text = sys.stdin.read() if arguments.payment == "-" else Path(arguments.payment).read_text()
        payment = json.loads(text)
        if not isinstance(payment, dict):
            stop("the payment is no JSON object")
        cipher = pan_cipher(settings)
        payment = cipher.tokenised(payment) if cipher else payment
        rules = rules_of(settings.score)
        known = check_payment(payment, rules.optional)
        history = (
            first_of_each(
                read_payments(*arguments.history, cipher=cipher), [str(known["trans_num"])]
            )
            if arguments.history
            else past_of_card(settings.warehouse, str(known["cc_num"]), str(known["trans_num"]))
        )
        print(json.dumps(judge_payment(payment, load_judge(uri, registry), history, rules)))
    except (PaymentFileError, VersionNotFound, ModelRefused) as error:
        stop(str(error))
    except (OSError, ValueError, RecursionError, InvalidPayment) as error:
        stop(f"{arguments.payment}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
