"""The whole system for an hour, and whether it stays as it was: ``make soak``, or

``python -m benchmarks.soak [--minutes 60] [--rate 50] [--calls-per-minute 60] …``.

Runs what a deployment of the embedded default has, as separate processes: a simulated payments
API, ingest, score, alert with the mail catcher, label with verdicts that keep arriving, monitor,
and maintain, with retentions so short that it has work all the time. Looks at all of them every few
seconds, ends them, checks that every payment served stands in the tables once, and writes
``soak.csv`` and ``soak.png`` into the folder, which it empties first.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
from rich.console import Console

from benchmarks.soak_report import draw, print_trends, trends
from benchmarks.soak_samples import Sample, Sampler, collection_log
from conf.elsewhere import environment_in
from conf.settings import Settings, load_settings, stop
from jobs.balance import Balance, balance
from jobs.demo import (
    DemoError,
    Part,
    first_champion,
    last_line,
    part,
    run_step,
    spark_job,
    wait_until_running,
)
from jobs.free_port import free_port
from jobs.received import Received
from jobs.run import quiet_mlflow

CONFIG = "conf/local.toml"
SEED = 7
WARM_SHARE = 0.25
"""Of the time: the JVM compiles, caches fill, retentions begin to bite."""
VERDICTS_EVERY_SECONDS = 20
VERDICTS = 20
"""Payments that get a verdict each time."""
CATCH_UP_SECONDS = 120

console = Console(width=None if sys.stdout.isatty() else 150)


@dataclass(frozen=True)
class Plan:
    """How long, how fast, and where. Retentions are a tenth of the time; maintain runs twice in
    that, monitor once. Data files are large from 8 MB on, so that there are some after minutes.
    """

    minutes: float
    rate: float
    calls_per_minute: int
    every_seconds: float
    folder: Path

    @property
    def retention_minutes(self) -> float:
        """How long files, commits and landed answers are kept, at least a minute."""
        return max(1.0, self.minutes / 10)

    @property
    def environment(self) -> dict[str, str]:
        """The embedded default with all that it writes in the folder."""
        hours = str(self.retention_minutes / 60)
        port = free_port()
        return environment_in(self.folder) | {
            "FRAUD_API__URL": f"http://127.0.0.1:{port}/current-transactions",
            "FRAUD_API__CALLS_PER_MINUTE": str(self.calls_per_minute),
            "FRAUD_SMTP__PORT": str(free_port()),
            "FRAUD_MAINTAIN__VACUUM_HOURS": hours,
            "FRAUD_MAINTAIN__LOG_HOURS": hours,
            "FRAUD_MAINTAIN__TARGET_FILE_MB": "8",
            "FRAUD_MAINTAIN__LANDING_DAYS": str(self.retention_minutes / 1440),
            **collection_log(self.folder / "logs"),
        }


class Analysts:
    """Send verdicts on some of the payments that were scored lately."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._inbox, self._next = settings, settings.label.inbox, 0.0
        self._inbox.mkdir(parents=True, exist_ok=True)

    def work(self) -> None:
        """Drop verdicts if it is time: what the simulated truth says of the last payments."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + VERDICTS_EVERY_SECONDS
        now = datetime.now(UTC)
        received = Received(self._settings.warehouse, "transactions", "ingested_at")
        columns = ["trans_num", "is_fraud", "ingested_at"]
        rows = received.rows(now - timedelta(minutes=1), now, columns)
        told = rows.tail(VERDICTS)
        answers = told["is_fraud"].map({0: "no", 1: "yes"})
        verdicts = told[["trans_num"]].assign(fraud=answers, source="analyst")
        name = f"{now:%H%M%S}.csv"
        draft = self._inbox / f".{name}"
        verdicts.to_csv(draft, index=False)
        draft.rename(self._inbox / name)


@contextmanager
def running(settings: Settings, plan: Plan) -> Iterator[dict[str, Part]]:
    """All processes of the system, by name, but the jobs that wait for payments to come."""
    python, module = sys.executable, "-m"
    port = settings.api.url.split(":")[2].split("/")[0]
    logs, mails = plan.folder / "logs", plan.folder / "mails"
    minutes = max(0.5, plan.retention_minutes / 2)
    commands = {
        "mail-catcher": [python, module, "jobs.mail_catcher", "--folder", str(mails)],
        "payments-api": [
            python, module, "ingest.api_simulator", "--data", "synthetic", "--port", port, "--rate",
            str(plan.rate), "--seed", str(SEED), "--calls-per-minute", str(plan.calls_per_minute),
        ],
        "alert": spark_job("jobs/alert.py", CONFIG),
        "score": spark_job("jobs/score.py", CONFIG),
        "label": [python, module, "jobs.label"],
        "ingest": [python, module, "ingest.poll"],
        "monitor": [python, module, "jobs.monitor", "--every", f"{2 * minutes:g}m"],
        "maintain": [python, module, "jobs.maintain", "--every", f"{minutes:g}m"],
    }  # fmt: skip
    with ExitStack() as stack:
        parts: dict[str, Part] = {}
        for name, command in commands.items():
            if name == "ingest":
                wait_until_running([parts["score"], parts["alert"]])
            parts[name] = stack.enter_context(part(name, command, {}, logs))
        yield parts


def observe(settings: Settings, plan: Plan, parts: dict[str, Part]) -> list[Sample]:
    """Take samples until the time is over, or Ctrl-C."""
    sampler = Sampler(settings, parts, plan.folder / "mails", plan.folder / "logs")
    analysts, samples = Analysts(settings), []
    end, told = time.monotonic() + plan.minutes * 60, 0.0
    try:
        while time.monotonic() < end:
            for item in parts.values():
                item.check()
            analysts.work()
            samples.append(sampler.sample())
            pd.DataFrame(samples).to_csv(plan.folder / "soak.csv", index=False)
            if time.monotonic() - told > 60:
                told = time.monotonic()
                console.print(_line(samples[-1]), highlight=False)
            time.sleep(plan.every_seconds)
    except KeyboardInterrupt:
        console.print("ending …")
    return samples


def _line(sample: Sample) -> str:
    shown = {
        "payments": "payments", "mails": "mails", "batch_seconds": "s a batch",
        "delay_p99": "s delay p99", "score_jvm_mb": "MB score JVM", "data_files": "data files",
        "log_files": "log files", "landing_files": "landed files",
    }  # fmt: skip
    values = [f"{sample[name]:,.4g} {unit}" for name, unit in shown.items() if name in sample]
    return f"{sample['minutes']:5.1f} min  " + "  ".join(values)


def even_balance(settings: Settings, parts: dict[str, Part]) -> Balance:
    """End ingest, let score work through what landed, and compare with what was served.

    Raises:
        DemoError: a payment is missing, or stands twice.
    """
    parts["ingest"].end()
    told = balance(settings, CATCH_UP_SECONDS)
    if not told.is_even:
        raise DemoError(str(told))
    return told


def run(plan: Plan) -> bool:
    """From the empty folder to the report; whether no curve rises that may not."""
    shutil.rmtree(plan.folder, ignore_errors=True)
    (plan.folder / "logs").mkdir(parents=True)
    os.environ.update(plan.environment)
    settings = load_settings(CONFIG)
    first_champion(settings, CONFIG, plan.folder)
    with running(settings, plan) as parts:
        samples = pd.DataFrame(observe(settings, plan, parts))
        told = even_balance(settings, parts)
    console.print(str(told), highlight=False)
    replay = [sys.executable, "-m", "training.replay", "--config", CONFIG]
    console.print(f"replay: {last_line(run_step('replay', replay, plan.folder / 'logs'))}")
    warm = samples["minutes"].max() * WARM_SHARE
    samples.to_csv(plan.folder / "soak.csv", index=False)
    draw(samples, warm, plan.folder / "soak.png")
    found = trends(samples, warm)
    print_trends(console, found)
    console.print(f"{plan.folder}/soak.csv, {plan.folder}/soak.png", highlight=False)
    return not [trend for trend in found if trend.verdict == "rises"]


def main() -> None:
    """Parse arguments, run; status 1 where a curve rises, or a part fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=60.0)
    add("--rate", type=float, default=50.0, help="payments a second")
    add("--calls-per-minute", type=int, default=60, help="of ingest: each lands a file")
    add("--sample-seconds", type=float, default=10.0, help="pause between two looks")
    add("--folder", type=Path, default=Path("var/soak"), help="is emptied first")
    arguments = parser.parse_args()
    quiet_mlflow()
    plan = Plan(
        arguments.minutes, arguments.rate, arguments.calls_per_minute, arguments.sample_seconds,
        arguments.folder.absolute(),
    )  # fmt: skip
    try:
        is_flat = run(plan)
    except DemoError as error:
        stop(str(error))
    sys.exit(0 if is_flat else 1)


if __name__ == "__main__":
    main()
