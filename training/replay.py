"""Proof that the stream gave every payment the features and the score that training gives it.

``python -m training.replay --config conf/local.toml [--history FILE.csv …]`` reads the landed raw
payments, recomputes features and scores the way that training computes them, and compares them
with `transactions`: status 0 if nothing differs, 1 if anything does, 2 if it cannot compare.

It needs all that ever landed, and the settings of `[score]` that it was scored with. The payments
of one card are taken to come from one source: between sources there is no order of arrival.
``--history`` names what `score.history` named; those files count as received when the first
payment was scored. Of their payments each `trans_num` of a card counts once, and not at all where
the payment was scored before the checkpoint was made.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from conf.settings import Settings, settings_from_arguments, stop
from ingest.pan_cipher import pan_cipher
from ingest.payment_files import PaymentFileError, read_payments
from jobs.features import FEATURE_NAMES
from jobs.model import ModelRefused, inputs_of
from training.raw_payments import NoLanding, first_arrivals, read_arrivals
from training.replay_report import Report, compare, lines_of
from training.versions import Judge, VersionNotFound, load_judge

JudgeOf = Callable[[str, str], Judge]
"""The judge of a model's name and version."""

_SCORED_COLUMNS = [
    "source", "position", "trans_num", "features", "fraud_score", "prediction", "threshold",
    "model_name", "model_version", "scored_at",
]  # fmt: skip


class NothingToCompare(Exception):
    """There is nothing to compare; the message says why."""


def replay(settings: Settings, judge_of: JudgeOf, history: pd.DataFrame | None = None) -> Report:
    """Recompute what the stream computed, and compare.

    Args:
        settings: those of the score job.
        judge_of: loads a version.
        history: the payments of `score.history`, as ``read_payments`` returns them.

    Raises:
        NothingToCompare: no payment was scored yet, or the settings name no landing folder.
        training.raw_payments.NoLanding: the raw payments are not there.
        training.versions.VersionNotFound: a version that scored is not in the registry.
        jobs.model.ModelRefused: a version fails.
    """
    found = read_scored(settings)
    if settings.landing.path is None:
        raise NothingToCompare(
            "the settings have no landing folder: the replay reads raw payments from files, "
            "not from a Kafka topic"
        )
    arrivals = read_arrivals(settings.landing.path, settings.score, settings.maintain.archive)
    if history is not None:
        history = history.assign(ingested_at=found["scored_at"].min())
        written = written_before(settings.warehouse.checkpoint("score"))
        history = _not_scored_before(history, arrivals, found, written)
    expected = recompute(arrivals, history, settings.score.seen_days)
    versions = found[["model_name", "model_version"]].drop_duplicates()
    judges = {
        version: judge_of(*version) for version in versions.itertuples(index=False, name=None)
    }
    return compare(expected, found, judges)


def written_before(checkpoint: str) -> dict[str, int]:
    """The highest position of each source that the tables held when the checkpoint was made, as
    ``jobs.resume`` keeps it; empty where there is no checkpoint on this machine.
    """
    lines = [
        line
        for path in Path(checkpoint, "written").glob("part-*")
        for line in path.read_text().splitlines()
    ]
    return {row["source"]: row["position"] for row in map(json.loads, lines)}


def _not_scored_before(
    history: pd.DataFrame,
    arrivals: pd.DataFrame,
    found: pd.DataFrame,
    written: Mapping[str, int],
) -> pd.DataFrame:
    """The payments of the history that `transactions` did not hold already when the checkpoint was
    made: what it held is history by itself. What was scored since had to be known by the history.
    """
    scored = set(zip(found["source"], found["position"], strict=True))
    addresses = zip(arrivals["source"], arrivals["position"], strict=True)
    was_held = [
        (source, position) in scored and source in written and position <= written[source]
        for source, position in addresses
    ]
    names = ["trans_num", "cc_num"]
    held = pd.MultiIndex.from_frame(arrivals.loc[was_held, names])
    is_held = pd.MultiIndex.from_frame(history[names]).isin(held)
    return history[~is_held]


def read_scored(settings: Settings) -> pd.DataFrame:
    """What `transactions` holds: its address, `trans_num`, features (a column each, float64),
    score and who gave it.

    Raises:
        NothingToCompare: it holds nothing.
    """
    path = settings.warehouse.table("transactions")
    try:
        table = DeltaTable(path).to_pyarrow_table(columns=_SCORED_COLUMNS)
    except TableNotFoundError as error:
        raise NothingToCompare(f"no table at {path}: nothing was scored yet") from error
    if not len(table):
        raise NothingToCompare(f"no payment in {path}: nothing was scored yet")
    features = table["features"].combine_chunks()
    there = {field.name for field in features.type}
    frame: pd.DataFrame = table.drop_columns(["features"]).to_pandas()
    # A row that was scored before a feature existed has none.
    absent = np.full(len(frame), np.nan)
    for name in FEATURE_NAMES:
        stored = features.field(name).to_numpy(zero_copy_only=False) if name in there else absent
        frame[name] = stored.astype(np.float64)
    return frame


def recompute(arrivals: pd.DataFrame, history: pd.DataFrame | None, seen_days: int) -> pd.DataFrame:
    """The payments that are to be scored, with what ``jobs.model.inputs_of`` makes of them, by
    `source` and `position`.

    Args:
        arrivals: as ``read_arrivals`` returns them.
        history: payments that came before, with `ingested_at`; of two with the same `trans_num` and
            card the first counts.
        seen_days: how long a `trans_num` is remembered.
    """
    columns = ["trans_num", "cc_num", "ingested_at"]
    earlier = arrivals[columns].iloc[:0] if history is None else history[columns]
    everything = pd.concat([earlier, arrivals[columns]], ignore_index=True)
    remembered, scored = first_arrivals(everything, seen_days)
    if history is not None:
        history = history[remembered[: len(earlier)]]
    remembered, scored = remembered[len(earlier) :], scored[len(earlier) :]
    inputs = inputs_of(arrivals[remembered], history)
    inputs.insert(0, "source", arrivals["source"])
    inputs.insert(1, "position", arrivals["position"])
    return inputs[scored[remembered]].reset_index(drop=True)


def main() -> int:
    """Parse arguments, replay, print."""
    parser = argparse.ArgumentParser(description="Prove that stream and training agree.")
    parser.add_argument("--history", nargs="+", help="the CSV files of score.history")
    settings, arguments = settings_from_arguments(parser)
    try:
        history = (
            read_payments(*arguments.history, cipher=pan_cipher(settings))
            if arguments.history
            else None
        )
        report = replay(
            settings,
            lambda name, version: load_judge(f"models:/{name}/{version}", settings.registry),
            history,
        )
    except (
        NothingToCompare, NoLanding, PaymentFileError, VersionNotFound, ModelRefused,
    ) as error:  # fmt: skip
        stop(str(error), status=2)
    print(*lines_of(report), sep="\n")
    return 1 if report.differences else 0


if __name__ == "__main__":
    sys.exit(main())
