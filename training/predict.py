"""Judge one payment with a registered version: the client to copy.

``python -m training.predict --config conf/local.toml --payment FILE.json [--history FILE.csv …]``
(``-`` reads the payment from standard input) prints the verdict as JSON.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conf.settings import settings_from_arguments, stop
from ingest.payment_files import PaymentFileError, read_payments
from ingest.schema import InvalidPayment, check_payment
from jobs.features import FEATURE_NAMES
from jobs.model import TRUTH, ModelRefused, inputs_of
from training.versions import Judge, VersionNotFound, load_judge


def judge_payment(
    payment: Mapping[str, Any], judge: Judge, history: pd.DataFrame | None = None
) -> dict[str, Any]:
    """The verdict on one payment: trans_num, fraud_score, prediction, threshold, model_name,
    model_version, features.

    Args:
        payment: the fields of ``ingest.schema.PAYMENT_FIELDS``; the truth may be missing.
        history: payments of the card that arrived before it, as ``read_payments`` returns them.

    Raises:
        ingest.schema.InvalidPayment: the payment does not fit the schema.
        jobs.model.ModelRefused: the model fails on it.
    """
    row = pd.DataFrame([check_payment(payment, optional=(TRUTH,))])
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


def main() -> int:
    """Parse arguments, judge, print."""
    parser = argparse.ArgumentParser(description="Judge one payment.")
    parser.add_argument("--payment", required=True, help="JSON file of one payment, or -")
    parser.add_argument("--history", nargs="+", help="CSV files of the card's earlier payments")
    parser.add_argument("--model-uri", help="models:/NAME@ALIAS or models:/NAME/N (the champion)")
    settings, arguments = settings_from_arguments(parser)
    registry = settings.registry
    uri = arguments.model_uri or f"models:/{registry.model_name}@{registry.alias}"
    try:
        text = sys.stdin.read() if arguments.payment == "-" else Path(arguments.payment).read_text()
        payment = json.loads(text)
        if not isinstance(payment, dict):
            stop("the payment is no JSON object")
        history = read_payments(*arguments.history) if arguments.history else None
        print(json.dumps(judge_payment(payment, load_judge(uri, registry), history)))
    except (PaymentFileError, VersionNotFound, ModelRefused) as error:
        stop(str(error))
    except (OSError, ValueError, InvalidPayment) as error:
        stop(f"{arguments.payment}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
