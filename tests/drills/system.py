"""The system under a drill: every part a process of its own, restarted as a service manager would.

A part's log is a file for each of its lives: ``logs/score-03.log``.
"""

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import requests

from conf.elsewhere import environment_in
from conf.sections import WarehouseSettings
from conf.settings import Settings, load_settings
from jobs.demo import Part, part, spark_job
from jobs.local_cluster import LocalCluster
from jobs.process_tree import family_of, kill
from tests.conftest import free_port
from tests.drills.verdicts import Analyst

SEED_OF_PAYMENTS = 11
RATE = 40
CALLS_PER_MINUTE = 120
OVERLAP = 200
"""Rows that the next answer repeats: what was served to a process that died comes again in it."""
CORRUPT_SHARE = 0.01
START_SECONDS = 180
END_SECONDS = 60

JOBS = ("score", "alert", "label", "ingest")


class DrillSkipped(Exception):
    """What the drill needs is not there; the message says what."""


class DrillFailed(Exception):
    """Something was lost, came twice, or did not come back; the message says what."""


@dataclass(frozen=True)
class Place:
    """A way to run the system: its settings file, and how its Spark jobs are submitted.

    Attributes:
        environment: what the settings lack, such as the address of a server.
        submit: the command that submits the score job, without its settings.
        servers: commands of further servers, by name; they start first.
        is_trained: the champion is trained on synthetic payments; else it is a formula.
        cluster: that the score job is submitted to; all of its cores are the job's.
    """

    name: str
    config: str = "conf/local.toml"
    environment: Mapping[str, str] = field(default_factory=dict)
    submit: Callable[[str, str], list[str]] = spark_job
    servers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    is_trained: bool = False
    cluster: LocalCluster | None = None


class System:
    """The parts that run, by name. ``lives`` counts how often each was started; ``cut_short`` has
    the logs of those that were killed.
    """

    def __init__(self, place: Place, folder: Path, rng: random.Random) -> None:
        self.place, self.folder, self.rng = place, folder, rng
        self.lives: Counter[str] = Counter()
        self.parts: dict[str, Part] = {}
        self.cut_short: set[Path] = set()
        self._stack = ExitStack()
        self._environment = _environment(place, folder)
        os.environ.update(self._environment)
        self.settings: Settings = load_settings(place.config)
        self.analyst = Analyst(self.settings, rng)

    @property
    def mails(self) -> Path:
        """The folder of the relay, which keeps what it took."""
        return self.folder / "mails"

    def start(self, name: str) -> Part:
        """Start a part that does not run; returns before it is ready."""
        self.lives[name] += 1
        log = f"{name}-{self.lives[name]:02d}"
        started = part(log, self.command(name), {}, self.folder / "logs")
        self.parts[name] = self._stack.enter_context(started)
        return self.parts[name]

    def start_all(self, names: Sequence[str]) -> None:
        """Start these parts and wait until each is ready."""
        for name in names:
            self.start(name)
        for name in names:
            self.wait_ready(name)

    def wait_ready(self, name: str) -> None:
        """Wait until a part runs; where it ends meanwhile, it is started again, once a second.

        Raises:
            DrillFailed: it does not run within three minutes.
        """
        end = time.monotonic() + START_SECONDS
        while not is_ready(self.parts[name], name):
            if time.monotonic() > end:
                raise DrillFailed(f"{name} does not start: {self.parts[name].log}")
            self.pause(0.1)

    def pause(self, seconds: float) -> None:
        """Let it run for so long; verdicts are dropped, and what ended is started again."""
        end = time.monotonic() + seconds
        while True:
            self.analyst.work()
            for name, running in list(self.parts.items()):
                if running.process.poll() is not None:
                    time.sleep(1)
                    self.start(name)
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.1))

    def wait_until(self, is_so: Callable[[], bool], what: str, seconds: float = 240) -> None:
        """Let it run until ``is_so``.

        Raises:
            DrillFailed: it is not, in so many seconds.
        """
        end = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > end:
                raise DrillFailed(f"{what}: not within {seconds:.0f} s")
            self.pause(0.3)

    def end(self, name: str) -> None:
        """Ask a part to end and wait for it; it stays ended."""
        self.parts.pop(name).end()

    def kill(self, name: str) -> str:
        """kill -9 of one process of a part, drawn at random, or of all; wait until all are gone.

        Returns:
            Which were killed.

        Raises:
            DrillFailed: a process outlives the others by half a minute.
        """
        victim = self.parts.pop(name)
        self.cut_short.add(victim.log)
        family = family_of(victim.process.pid)
        heads = {"JVM": victim.process.pid, "driver": victim.job_pid() or victim.process.pid}
        told = "all" if len(set(heads.values())) == 1 else self.rng.choice(["all", *heads])
        kill([one for one in family if told == "all" or one.pid == heads[told]])
        victim.process.wait()
        _, alive = psutil.wait_procs(family, timeout=30)
        if alive:
            kill(alive)
            raise DrillFailed(f"{name}: outlived the kill of {told}: {[one.pid for one in alive]}")
        return told

    def kill_worker(self, name: str) -> int:
        """kill -9 of a Python worker of a Spark job; the number that were there."""
        workers = [
            one for one in family_of(self.parts[name].process.pid)
            if _has(one, "pyspark.daemon")
        ]  # fmt: skip
        if workers:
            kill([self.rng.choice(workers)])
        return len(workers)

    def served(self) -> dict[str, list[str]]:
        """`trans_nums` that the payments API has served, and `corrupted_trans_nums`."""
        url = self.settings.api.url.replace("current-transactions", "served")
        told: dict[str, list[str]] = requests.get(url, params={"list": "true"}, timeout=30).json()
        return told

    def close(self) -> None:
        """End everything, the servers last."""
        for name in JOBS:
            if name in self.parts:
                self.end(name)
        self._stack.close()

    def command(self, name: str) -> list[str]:
        """What starts a part."""
        python, config = sys.executable, ["--config", self.place.config]
        port = self.settings.api.url.split(":")[2].split("/")[0]
        commands = {
            "payments-api": [
                python, "-m", "ingest.api_simulator", "--data", "synthetic", "--port", port,
                "--rate", str(RATE), "--seed", str(SEED_OF_PAYMENTS), "--overlap", str(OVERLAP),
                "--calls-per-minute", str(CALLS_PER_MINUTE), "--burst-cycle-days", "20",
                "--faults", f"corrupt={CORRUPT_SHARE}",
            ],
            "relay": [
                python, "-m", "jobs.mail_catcher", *config, "--folder", str(self.mails)
            ],
            "ingest": [python, "-m", "ingest.poll", *config],
            "score": self.place.submit("jobs/score.py", self.place.config),
            "alert": self.place.submit("jobs/alert.py", self.place.config),
            "label": [python, "-m", "jobs.label", *config],
        }  # fmt: skip
        told = self.place.servers.get(name) or commands[name]
        return [*_without_override(), *told]


@contextmanager
def running(place: Place, folder: Path, rng: random.Random) -> Iterator[System]:
    """A system with all that it writes in ``folder``, nothing started; ended with the block."""
    (folder / "logs").mkdir(parents=True)
    before = dict(os.environ)
    system = System(place, folder, rng)
    try:
        yield system
    finally:
        system.close()
        os.environ.clear()
        os.environ.update(before)


def _without_override() -> list[str]:
    """Rights bind root too: else no drill could revoke them."""
    return ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []


def run_calm(system: System) -> Settings:
    """Score what has landed so far in one undisturbed run, with tables of its own.

    Returns:
        The settings that these tables are read with.

    Raises:
        DrillFailed: it failed.
    """
    warehouse, registry = system.settings.warehouse, system.settings.registry
    calm = {
        "FRAUD_WAREHOUSE__PATH": _beside(warehouse.path, "calm/warehouse"),
        "FRAUD_WAREHOUSE__CHECKPOINTS": _beside(warehouse.checkpoints, "calm/checkpoints"),
        "FRAUD_REGISTRY__CACHE": _beside(str(registry.cache), "calm/model"),
    }
    submit = spark_job if system.place.cluster else system.place.submit
    command = [*submit("jobs/score.py", system.place.config), "--once"]
    log = f"calm-{system.lives['calm'] + 1:02d}"
    system.lives["calm"] += 1
    with part(log, command, calm, system.folder / "logs") as scoring:
        end = time.monotonic() + START_SECONDS
        while scoring.process.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
        if scoring.process.returncode != 0:
            raise DrillFailed(f"the undisturbed run failed: {scoring.log}")
    paths = {"path": calm["FRAUD_WAREHOUSE__PATH"], "checkpoints": ""}
    return system.settings.model_copy(update={"warehouse": WarehouseSettings(**paths)})


def _beside(path: str, name: str) -> str:
    return f"{path.rsplit('/', 1)[0]}/{name}"


def _has(process: psutil.Process, word: str) -> bool:
    try:
        return word in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def is_ready(running: Part, name: str) -> bool:
    """Whether a part says that it does its work."""
    signs = {
        "payments-api": "simulated payments API", "relay": "catching mails", "label": " is running",
        "ingest": "polling", "score": " is running", "alert": " is running", "registry": "Application startup complete",
        "broker": "Kafka ", "s3": "S3 on ",
    }  # fmt: skip
    return signs[name] in running.log.read_text(errors="replace")


def _environment(place: Place, folder: Path) -> dict[str, str]:
    """The place's settings, and everything that is written in the folder."""
    told = environment_in(folder) | {
        "FRAUD_API__URL": f"http://127.0.0.1:{free_port()}/current-transactions",
        "FRAUD_API__CALLS_PER_MINUTE": str(CALLS_PER_MINUTE),
        "FRAUD_API__WAIT_MAX_SECONDS": "2",
        "FRAUD_SMTP__PORT": str(free_port()),
        "FRAUD_ALERT__RETRY_MAX_SECONDS": "4",
        "FRAUD_ALERT__MAX_HITS_IN_WINDOW": "100000",
        "FRAUD_LABEL__POLL_SECONDS": "0.2",
        "FRAUD_SCORE__TRIGGER_SECONDS": "0.5",
        # JVMs that compile less start sooner, and here they live for seconds.
        "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1",
    }
    return {key: value for key, value in (told | dict(place.environment)).items() if value}
