"""The score job on a cluster that loses a worker: ``make cluster-demo``, for ``DEMO_SECONDS`` (60).

Starts a Spark master and two workers of one core each, as processes without a checkout; on them the
score job, and beside them the simulated payments API, ingest, the alert job and the mail catcher.
A third of the way it kills a worker with all that runs on it, in the middle of a micro-batch; after
two thirds another one takes its place. In the end every payment served must stand in `transactions`
once, and the replay must find the same features and scores. Everything lies under ``var/cluster``,
which each run begins by emptying.
"""

import argparse
import re
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from deltalake import DeltaTable
from rich.console import Console
from rich.table import Table

from conf.settings import Settings, settings_from_arguments, stop
from jobs.balance import Balance, balance
from jobs.checkpoints import batch_in_progress
from jobs.demo import (
    SEED,
    DemoError,
    Part,
    demo_seconds,
    first_champion,
    last_line,
    part,
    require_free_port,
    run_step,
    spark_job,
    wait_until_running,
    watch,
)
from jobs.executor_logs import tasks_of
from jobs.local_cluster import LocalCluster, local_cluster
from jobs.run import quiet_mlflow

FOLDER = Path("var/cluster")
LOGS, MAILS, SPARK = FOLDER / "logs", FOLDER / "mails", FOLDER / "spark"
WORKERS = 2
CATCH_UP_SECONDS = 120
BATCH_SECONDS = 180

console = Console()


@dataclass(frozen=True)
class Story:
    """What the run showed: the balance, the micro-batch in which the worker died, and what the
    replay said.
    """

    balance: Balance
    killed_in: int
    replay: str


def run(settings: Settings, config: str, seconds: float) -> Story:
    """The demo from the empty folder to the replay.

    Raises:
        DemoError: a part failed, or the replay found a difference.
    """
    shutil.rmtree(FOLDER, ignore_errors=True)
    LOGS.mkdir(parents=True)
    port = settings.demo.api_port
    require_free_port(port, "FRAUD_DEMO__API_PORT")
    require_free_port(settings.smtp.port, "FRAUD_SMTP__PORT")
    first_champion(settings, config, LOGS)
    python = sys.executable
    simulator = [
        python, "-m", "ingest.api_simulator", "--data", "synthetic", "--port", str(port), "--rate",
        str(settings.demo.rate), "--seed", str(SEED),
        "--calls-per-minute", str(settings.api.calls_per_minute),
    ]  # fmt: skip
    catcher = [python, "-m", "jobs.mail_catcher", "--config", config, "--folder", str(MAILS)]
    url = f"http://127.0.0.1:{port}/current-transactions"
    with ExitStack() as stack:
        with console.status("starting a master and two workers …"):
            cluster = stack.enter_context(local_cluster(SPARK, WORKERS))
        others = [
            stack.enter_context(part("mail-catcher", catcher, {}, LOGS)),
            stack.enter_context(part("payments-api", simulator, {}, LOGS)),
        ]
        jobs = [
            stack.enter_context(part("alert", spark_job("jobs/alert.py", config), {}, LOGS)),
            stack.enter_context(part("score", cluster.submit("jobs/score.py", config), {}, LOGS)),
        ]
        wait_until_running(jobs)
        console.print(f"[green]✓[/] the score job runs on {cluster.master}, two workers")
        poll = [python, "-m", "ingest.poll", "--config", config]
        ingest = stack.enter_context(part("ingest", poll, {"FRAUD_API__URL": url}, LOGS))
        killed_in = lose_a_worker(settings, cluster, [*others, *jobs, ingest], seconds)
        ingest.end()
        api = settings.api.model_copy(update={"url": url})
        told = balance(settings.model_copy(update={"api": api}), CATCH_UP_SECONDS)
    with console.status("computing everything anew, as training does …"):
        replay = run_step("replay", [python, "-m", "training.replay", "--config", config], LOGS)
    return Story(told, killed_in, last_line(replay))


def lose_a_worker(
    settings: Settings, cluster: LocalCluster, parts: list[Part], seconds: float
) -> int:
    """Watch the stream for so long once it flows; kill a worker after a third of the time, and
    start one after two thirds.

    Returns:
        The number of the micro-batch that was in progress when the worker died.

    Raises:
        DemoError: a part ended, or no micro-batch writes.
    """
    began = datetime.now(UTC)
    with console.status("the first micro-batch: Spark compiles and starts its Python processes …"):
        batch_that_writes(settings)
    watch(settings, parts, seconds / 3, began, MAILS)
    batch = batch_that_writes(settings)
    cluster.kill_worker(0)
    console.print(f"[red]✗[/] worker 0 killed, with its executor, in micro-batch {batch}")
    watch(settings, parts, seconds / 3, began, MAILS)
    cluster.start_worker()
    console.print(f"[green]✓[/] worker {WORKERS} takes its place")
    watch(settings, parts, seconds / 3, began, MAILS)
    return batch


def batch_that_writes(settings: Settings) -> int:
    """Wait for a task that begins a data file of `transactions`; the number of its micro-batch.

    Raises:
        DemoError: none does within three minutes.
    """
    folder = Path(settings.warehouse.table("transactions"))
    before = set(folder.glob("*.parquet"))
    end = time.monotonic() + BATCH_SECONDS
    while True:
        batch = batch_in_progress(settings.warehouse.checkpoint("score"))
        if batch is not None and set(folder.glob("*.parquet")) - before:
            return batch
        if time.monotonic() > end:
            raise DemoError(f"no micro-batch writes in {BATCH_SECONDS} s: see {LOGS}/score.log")


def seconds_of_batches(log: Path) -> dict[int, float]:
    """The seconds that each micro-batch took, from the log of the score job."""
    found = re.findall(r"batch (\d+): .*, ([\d.]+) s$", log.read_text(errors="replace"), re.M)
    return {int(number): float(seconds) for number, seconds in found}


def uncommitted_files(settings: Settings) -> int:
    """How many data files of `transactions` no commit names: what a task left behind that died."""
    table = DeltaTable(settings.warehouse.table("transactions"))
    committed = {Path(uri).name for uri in table.file_uris()}
    folder = Path(settings.warehouse.table("transactions"))
    return sum(path.name not in committed for path in folder.glob("*.parquet"))


def print_story(settings: Settings, story: Story) -> None:
    """The table at the end."""
    seconds = seconds_of_batches(LOGS / "score.log")
    killed, later = tasks_of(SPARK / "work-0"), tasks_of(SPARK / f"work-{WORKERS}")
    table = Table(show_header=False)
    rows = {
        "payments served": f"{story.balance.served:,}",
        "in `transactions`": f"{story.balance.rows:,}",
        "distinct": f"{story.balance.distinct:,}",
        "lost": f"{story.balance.lost:,}",
        "twice": f"{story.balance.twice:,}",
        "micro-batches": f"{len(seconds):,}, median {median(seconds.values()):.1f} s",
        "the one in which the worker died": f"{story.killed_in}, {seconds[story.killed_in]:.1f} s",
        "tasks that died with it, and ran again": f"{killed.unfinished}",
        "data files that they left, uncommitted": f"{uncommitted_files(settings)}",
        "tasks of the worker that took its place": f"{later.finished}",
        "replay": story.replay,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)


def main() -> None:
    """Parse arguments, run; status 1 where a payment is lost or stands twice."""
    settings, arguments = settings_from_arguments(argparse.ArgumentParser(description=__doc__))
    quiet_mlflow()
    try:
        story = run(settings, arguments.config, demo_seconds(60))
    except DemoError as error:
        stop(str(error))
    except KeyboardInterrupt:
        stop("ended before the books were balanced", status=130)
    print_story(settings, story)
    sys.exit(0 if story.balance.is_even else 1)


if __name__ == "__main__":
    main()
