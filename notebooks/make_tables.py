"""Make the tables that the notebooks look at, anew:

``spark-submit --properties-file spark-defaults.conf notebooks/make_tables.py --config
conf/notebooks.toml``. Six weeks of synthetic payments go the way that all payments go: they are
landed, scored by a first champion, told of by analysts and card holders, labelled and measured, as
if the weeks passed. Nothing is written to the tables but by the project's own jobs.
"""

import argparse
import logging
import shutil
import sys
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from conf.settings import Settings, settings_from_arguments, stop
from ingest.landing import FileLanding
from ingest.payment_files import read_payments
from jobs.label import LabelJob
from jobs.lineup import LiveModels
from jobs.monitor import look
from jobs.review import draw_reviews
from jobs.run import log_to_stderr
from jobs.score import alias_watchers, run_score
from jobs.spark import spark_session
from jobs.version_facts import KnownFacts
from notebooks.sample import WEEK_DAYS, Plan, envelopes, filled_in, history_file, verdicts, weeks
from training.fit import fingerprint, train_model
from training.registry import register

log = logging.getLogger("notebooks.make_tables")

_DAY = timedelta(days=1)
_VERDICT_ROWS = ["trans_num", "ingested_at", "prediction"]


class _Clock:
    """The time that passes in the tables."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class Team:
    """Analysts and card holders: what they found out waits here until its time has come."""

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self._settings, self._plan = settings, plan
        self._clock = _Clock(plan.start)
        settings.label.inbox.mkdir(parents=True, exist_ok=True)
        self._job = LabelJob(settings, self._clock)
        self._truth = pd.Series(dtype=bool)
        self._waiting = pd.DataFrame()

    def week(self, payments: pd.DataFrame, end: datetime) -> None:
        """A week passes, whose ``payments`` are scored: verdicts come in day by day, and in the
        end some payments are put up for review.
        """
        is_fraud = payments.set_index("trans_num")["is_fraud"] == 1
        self._truth = pd.concat([self._truth, is_fraud]).astype(bool)
        start = end - WEEK_DAYS * _DAY
        table = DeltaTable(self._settings.warehouse.table("transactions"))
        scored = table.to_pandas(columns=_VERDICT_ROWS)
        new = scored[scored["trans_num"].isin(is_fraud.index)]
        told = verdicts(new, self._truth, self._plan.seed + (start - self._plan.start).days)
        self._waiting = pd.concat([self._waiting, told])
        for day in range(WEEK_DAYS):
            self._look(start + (day + 1) * _DAY)
        worklist = draw_reviews(self._settings.warehouse, self._settings.label, end)
        if worklist is not None:
            review = filled_in(worklist, self._truth, end)
            self._drop(review, f"review-{end:%Y%m%d}.csv")

    def _look(self, now: datetime) -> None:
        is_due = self._waiting["verified_at"] < now
        if is_due.any():
            due = self._waiting[is_due].sort_values(["verified_at", "trans_num"])
            moments = due["verified_at"].map(pd.Timestamp.isoformat)
            self._drop(due.assign(verified_at=moments), f"verdicts-{now:%Y%m%d}.csv")
        self._waiting = self._waiting[~is_due]
        self._clock.now = now
        self._job.look()

    def _drop(self, rows: pd.DataFrame, name: str) -> None:
        draft = self._settings.label.inbox / f".{name}"
        rows.to_csv(draft, index=False)
        draft.rename(draft.with_name(name))


def make_tables(spark: SparkSession, settings: Settings, plan: Plan) -> datetime:
    """Let the weeks of ``plan`` pass; the folders of the settings are empty before.

    Returns:
        The moment at which the last week is over (UTC): the present of the tables.

    Raises:
        RuntimeError: the score query failed; its error is logged.
    """
    _first_champion(settings, plan)
    landing = FileLanding(Path(settings.landing.path or ""))
    champion, challenger = alias_watchers(settings.registry)
    champion.look()
    models = LiveModels(champion, challenger, lambda subject, _: log.warning("%s", subject))
    team, position, now = Team(settings, plan), 0, plan.start
    for days, now in weeks(plan):
        for day in days:
            landing.land(envelopes(day, settings.landing.source, position), position)
            position += len(day)
        if run_score(spark, settings, models, once=True, ended=threading.Event()):
            raise RuntimeError("the payments could not be scored")
        team.week(pd.concat(days), now)
        log.info("until %s: %d payments", f"{now:%Y-%m-%d}", position)
    look(settings, now, KnownFacts(settings.registry))
    return now


def _first_champion(settings: Settings, plan: Plan) -> None:
    path = history_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    plan.history().to_csv(path)
    payments = read_payments(path)
    trained = train_model(payments, settings.train)
    register(trained, payments, fingerprint(payments), settings.registry)


def main() -> int:
    """Parse arguments, remove what was made before, make."""
    parser = argparse.ArgumentParser(description="Make the tables that the notebooks look at.")
    settings, _ = settings_from_arguments(parser)
    # Made-up payments land here without ingest: their numbers stay, in files as in the stream.
    settings = settings.model_copy(update={"pan_key": None})
    folder = history_file(settings).parent
    if folder.name != "notebooks":
        stop(f"expected tables in a folder named notebooks, which is made anew, found {folder}")
    log_to_stderr()
    log.setLevel(logging.INFO)
    shutil.rmtree(folder, ignore_errors=True)
    spark = spark_session("notebooks")
    make_tables(spark, settings, Plan())
    spark.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
