"""Judge a version on files: one JSON line.

``python -m training.evaluate --config conf/local.toml --model-uri models:/fraud@champion
--data FILE.csv [FILE.csv …] [--history FILE.csv …]``. Of payments with the same `trans_num` the
first counts; what is judged is not in its own history.
"""

import argparse
import json
import sys
from functools import partial

from conf.settings import settings_from_arguments, stop
from ingest.pan_cipher import pan_cipher
from ingest.payment_files import PaymentFileError, first_of_each, read_payments
from jobs.metrics import evaluation, judged_payments
from jobs.model import ModelRefused
from jobs.run import log_to_stderr
from training.versions import VersionNotFound, load_judge


def main() -> int:
    """Parse arguments, score, print."""
    parser = argparse.ArgumentParser(description="Judge a registered version on files.")
    parser.add_argument("--model-uri", required=True, help="models:/NAME@ALIAS or models:/NAME/N")
    parser.add_argument("--data", nargs="+", required=True, help="CSV files of payments")
    parser.add_argument("--history", nargs="+", help="CSV files of payments that came before")
    settings, arguments = settings_from_arguments(parser)
    log_to_stderr()
    try:
        read = partial(read_payments, cipher=pan_cipher(settings))
        payments, history = first_of_each(read(*arguments.data)), None
        if arguments.history:
            history = first_of_each(read(*arguments.history), payments["trans_num"])
        judge = load_judge(arguments.model_uri, settings.registry)
        scores = judge.scores(payments, history)
    except (PaymentFileError, VersionNotFound, ModelRefused) as error:
        stop(str(error))
    judged = judged_payments(payments, scores)
    print(json.dumps(evaluation(judged, judge.threshold, settings.train)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
