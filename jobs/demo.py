"""The whole system on this machine, for ``DEMO_SECONDS`` seconds (90): ``make demo``.

Starts what a deployment has, as separate processes: a simulated payments API, a mail catcher, the
score and the alert job, ingest. Everything it writes lies under ``var/``; a second run goes on from
where the first one stopped.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from rich.console import Console
from rich.live import Live

from conf.settings import Settings, settings_from_arguments, stop
from jobs.demo_view import Snapshot, live_view, print_summary, take_snapshot
from jobs.run import quiet_mlflow
from training.registry import has_alias

FOLDER = Path("var/demo")
MAILS = Path("var/mails")
SEED = 7
START_SECONDS = 180
RUNNING = " is running, pid "

console = Console()


class DemoError(Exception):
    """A part of the demo failed; the message says which, and where its log is."""


@dataclass
class Part:
    """A process of the demo and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise ``DemoError`` where the process has ended."""
        if self.process.poll() is not None:
            raise DemoError(f"{self.name} ended: {last_line(self.log)} (all of it: {self.log})")

    def job_pid(self) -> int | None:
        """The pid in the line in which a job says that it is running; None before that."""
        for line in self.log.read_text(errors="replace").splitlines():
            if RUNNING in line:
                return int(line.rsplit(RUNNING, 1)[1].split()[0].rstrip(":"))
        return None

    def end(self) -> None:
        """Ask the process to end, and wait for it."""
        if self.process.poll() is None:
            # spark-submit is a JVM around the job: the job itself is asked, the JVM follows it.
            os.kill(self.job_pid() or self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "without a word"


@contextmanager
def part(
    name: str, command: list[str], environment: dict[str, str], folder: Path = FOLDER
) -> Iterator[Part]:
    """Start a part, its log in ``folder``; end it when the block ends. Ctrl-C reaches only the demo
    itself.
    """
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | environment,
        )  # fmt: skip
    started = Part(name, process, log)
    try:
        yield started
    finally:
        started.end()


def spark_job(script: str, config: str) -> list[str]:
    """The command that submits a job."""
    return [
        "spark-submit", "--properties-file", "spark-defaults.conf", script, "--config", config
    ]  # fmt: skip


def require_free_port(port: int, setting: str) -> None:
    """End the process with one line where ``port`` is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            stop(f"port {port} is taken: choose another one, {setting}={port + 1000} make demo")


def first_champion(settings: Settings, config: str, folder: Path = FOLDER) -> None:
    """Train and register a champion on synthetic payments, if the registry has none."""
    registry = settings.registry
    if has_alias(MlflowClient(registry.tracking_uri), registry):
        console.print("[green]✓[/] the registry has a champion")
        return
    data = folder / "training.csv"
    rows = settings.demo.rows
    with console.status(f"making {rows:,} synthetic payments and training a first champion …"):
        run_step(
            "generator",
            [sys.executable, "-m", "ingest.api_simulator", "--data", "synthetic", "--out",
             str(data), "--rows", str(rows), "--seed", str(SEED)],
            folder,
        )  # fmt: skip
        log = run_step(
            "train",
            [sys.executable, "-m", "training.train", "--config", config, "--data", str(data)],
            folder,
        )
    told = last_line(log).split(": ", 1)[-1]
    console.print(f"[green]✓[/] first champion: {told}", highlight=False, soft_wrap=True)


def run_step(name: str, command: list[str], folder: Path = FOLDER) -> Path:
    """Run a command to its end; return its log, in ``folder``.

    Raises:
        DemoError: it failed.
    """
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        status = subprocess.run(  # noqa: S603
            command, stdout=output, stderr=subprocess.STDOUT, check=False
        ).returncode
    if status:
        raise DemoError(f"{name} failed: {last_line(log)} (all of it: {log})")
    return log


def wait_until_running(parts: list[Part]) -> None:
    """Wait until every job says that it runs.

    Raises:
        DemoError: one ended, or takes more than three minutes.
    """
    end = time.monotonic() + START_SECONDS
    with console.status("starting Spark: score and alert job …"):
        while any(item.job_pid() is None for item in parts):
            for item in parts:
                item.check()
            if time.monotonic() > end:
                raise DemoError(f"the jobs did not start in {START_SECONDS} s: see {parts[0].log}")
            time.sleep(0.2)


def watch(
    settings: Settings, parts: list[Part], seconds: float, began: datetime, mails: Path = MAILS
) -> Snapshot:
    """Show the live table for so many seconds, or until Ctrl-C; return what it showed last."""
    end = time.monotonic() + seconds
    snapshot = take_snapshot(settings, mails, began)
    told = 0.0
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while (left := end - time.monotonic()) > 0:
            snapshot = take_snapshot(settings, mails, began)
            if console.is_terminal:
                live.update(live_view(snapshot, left))
            elif time.monotonic() - told >= 10:
                told = time.monotonic()
                console.print(snapshot.line(), highlight=False, soft_wrap=True)
            for item in parts:
                item.check()
            time.sleep(min(1.0, left))
    return snapshot


def run(settings: Settings, config: str, seconds: float) -> None:
    """The demo from the first step to the summary."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    require_free_port(settings.demo.api_port, "FRAUD_DEMO__API_PORT")
    require_free_port(settings.smtp.port, "FRAUD_SMTP__PORT")
    first_champion(settings, config)
    python, port = sys.executable, settings.demo.api_port
    simulator = [
        python, "-m", "ingest.api_simulator", "--data", "synthetic", "--port", str(port),
        "--rate", str(settings.demo.rate), "--seed", str(SEED), "--cursor", str(FOLDER / "cursor"),
    ]  # fmt: skip
    catcher = [python, "-m", "jobs.mail_catcher", "--config", config, "--folder", str(MAILS)]
    api = {"FRAUD_API__URL": f"http://127.0.0.1:{port}/current-transactions"}
    began = datetime.now(UTC)
    with ExitStack() as stack:
        others = [
            stack.enter_context(part("mail-catcher", catcher, {})),
            stack.enter_context(part("payments-api", simulator, {})),
        ]
        jobs = [
            stack.enter_context(part("alert", spark_job("jobs/alert.py", config), {})),
            stack.enter_context(part("score", spark_job("jobs/score.py", config), {})),
        ]
        try:
            wait_until_running(jobs)
            console.print(
                f"[green]✓[/] payments API on 127.0.0.1:{port}, mail catcher on "
                f"127.0.0.1:{settings.smtp.port}, score and alert job are running",
                highlight=False,
                soft_wrap=True,
            )
            began = datetime.now(UTC)
            poll = [python, "-m", "ingest.poll", "--config", config]
            others.append(stack.enter_context(part("ingest", poll, api)))
            watch(settings, [*others, *jobs], seconds, began)
        except KeyboardInterrupt:
            console.print("ending …")
        with console.status("ending the jobs between two micro-batches …"):
            stack.close()
    print_summary(console, take_snapshot(settings, MAILS, began), settings, MAILS)


def demo_seconds(default: float) -> float:
    """How long a demo runs: what ``DEMO_SECONDS`` says, else ``default``. Ends the process with one
    line where that is no number.
    """
    text = os.environ.get("DEMO_SECONDS", str(default))
    try:
        return float(text)
    except ValueError:
        stop(f"DEMO_SECONDS: expected a number of seconds, found {text!r}", status=2)


def main() -> None:
    """Parse arguments, run the demo."""
    settings, arguments = settings_from_arguments(argparse.ArgumentParser(description=__doc__))
    quiet_mlflow()
    try:
        run(settings, arguments.config, demo_seconds(90))
    except DemoError as error:
        stop(str(error))
    except KeyboardInterrupt:
        stop("ended before the stream began", status=130)


if __name__ == "__main__":
    main()
