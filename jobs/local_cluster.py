"""A Spark standalone cluster on this machine: a master and workers as processes of their own.

::

    with local_cluster(Path("var/cluster/spark"), workers=2) as cluster:
        with part("score", cluster.submit("jobs/score.py", "conf/cluster.toml"), {}, logs):
            cluster.kill_worker(0)  # as if its machine lost power
            cluster.start_worker()  # another one takes its place

Workers are like other machines in all but the disk: they have no checkout, none of our environment
variables, and a Python of their own that has the packages but not the project. Everything listens
on 127.0.0.1 alone.
"""

import os
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import requests

from jobs.cluster_bundle import make_bundle
from jobs.demo import DemoError, Part, part
from jobs.free_port import free_port
from jobs.process_tree import kill_tree

START_SECONDS = 180
_HERE = "127.0.0.1"
_KEPT_VARIABLES = ("PATH", "HOME", "JAVA_HOME", "TMPDIR", "LANG")
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Worker:
    """A worker: its process, and the port by which the master knows it."""

    part: Part
    port: int

    @property
    def is_running(self) -> bool:
        """Whether the process of the worker itself lives."""
        return self.part.process.poll() is None

    def executors(self) -> list[int]:
        """The pids of its executors: JVMs, each with Python processes below it."""
        if not self.is_running:
            return []
        return [child.pid for child in psutil.Process(self.part.process.pid).children()]


class LocalCluster:
    """What ``local_cluster`` yields.

    Attributes:
        master: URL of the master, ``spark://127.0.0.1:…``.
        workers: all that were started, in that order; those that were killed too.
        python: that of the workers.
        bundle: what jobs are submitted with (``jobs.cluster_bundle``), made at the start.
        folder: logs (``master.log``, ``worker-0.log``, …), and what the executors of each worker
            write (``work-0/app-…/…/stderr``).
    """

    def __init__(
        self, folder: Path, cores: int, memory_mb: int, is_pinned: bool,
        environment: Mapping[str, str], stack: ExitStack,
    ) -> None:  # fmt: skip
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.bundle = make_bundle(self.folder / "bundle")
        self.workers: list[Worker] = []
        self._cores, self._memory_mb, self._is_pinned = cores, memory_mb, is_pinned
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        self._environment = kept | {"SPARK_LOCAL_IP": _HERE} | dict(environment)
        self._stack = stack
        self.python = _python_of_workers(self.folder / "python")
        port, page = free_port(), free_port()
        self.master, self._page = f"spark://{_HERE}:{port}", f"http://{_HERE}:{page}/json/"
        self._daemon("master", "Master", "--port", str(port), "--webui-port", str(page))

    def start_worker(self) -> Worker:
        """Start one more worker, and wait until the master knows it.

        Raises:
            DemoError: it does not come up within three minutes.
        """
        number, port = len(self.workers), free_port()
        started = self._daemon(
            f"worker-{number}", "Worker", "--port", str(port), "--webui-port", "0",
            "--cores", str(self._cores), "--memory", f"{self._memory_mb}m",
            "--work-dir", str(self.folder / f"work-{number}"), self.master,
            before=self._pin(number),
        )  # fmt: skip
        worker = Worker(started, port)
        self.workers.append(worker)
        self._wait_for(worker)
        return worker

    def kill_worker(self, number: int) -> None:
        """Kill (-9) a worker with its executors and their Python processes; returns when all of
        them are gone. The master learns of it by the connections that end.
        """
        worker = self.workers[number]
        if worker.is_running:
            kill_tree(worker.part.process.pid)
            worker.part.process.wait()

    def kill_executors(self, number: int) -> None:
        """Kill (-9) the executors of a worker with their Python processes; the worker lives on, and
        the master has it start new ones.
        """
        for pid in self.workers[number].executors():
            kill_tree(pid)

    def alive_workers(self) -> int:
        """How many workers the master counts on."""
        return len(self._alive_ports())

    def submit(
        self, script: str, config: str, *arguments: str, conf: Mapping[str, str] = _NOTHING
    ) -> list[str]:
        """The command that runs a job here. To be started in the project's folder.

        Args:
            script: such as ``jobs/score.py``.
            config: settings file.
            arguments: more of the job's own arguments.
            conf: as for ``options``.
        """
        submit = _beside_python("spark-submit")
        return [submit, *self.options(conf), script, "--config", config, *arguments]

    def options(self, conf: Mapping[str, str] = _NOTHING) -> list[str]:
        """The options of ``spark-submit`` for a driver on this machine that uses all cores of the
        workers that run now.

        Args:
            conf: more of Spark's properties.
        """
        running = sum(worker.is_running for worker in self.workers)
        properties = {
            "spark.driver.host": _HERE,
            "spark.driver.bindAddress": _HERE,
            "spark.pyspark.driver.python": sys.executable,
            "spark.pyspark.python": str(self.python),
            "spark.executor.memory": f"{self._memory_mb}m",
            "spark.cores.max": str(running * self._cores),
            **conf,
        }
        told = [f"--conf={name}={value}" for name, value in properties.items()]
        file = str(self.bundle.properties)
        return ["--master", self.master, "--properties-file", file, *told]

    def _pin(self, number: int) -> list[str]:
        if not self._is_pinned:
            return []
        machine = os.cpu_count() or 1
        cores = {(number * self._cores + core) % machine for core in range(self._cores)}
        return ["taskset", "--cpu-list", ",".join(map(str, sorted(cores)))]

    def _daemon(self, name: str, kind: str, *arguments: str, before: Sequence[str] = ()) -> Part:
        variables = [f"{variable}={value}" for variable, value in self._environment.items()]
        command = [
            *before, "env", "-i", *variables, _beside_python("spark-class"),
            f"org.apache.spark.deploy.{kind.lower()}.{kind}", "--host", _HERE, *arguments,
        ]  # fmt: skip
        return self._stack.enter_context(part(name, command, {}, self.folder))

    def _wait_for(self, worker: Worker) -> None:
        end = time.monotonic() + START_SECONDS
        while worker.port not in self._alive_ports():
            worker.part.check()
            if time.monotonic() > end:
                raise DemoError(
                    f"{worker.part.name} did not register with {self.master} in {START_SECONDS} s: "
                    f"see {worker.part.log} and {self.folder / 'master.log'}"
                )
            time.sleep(0.2)

    def _alive_ports(self) -> set[int]:
        try:
            state: dict[str, Any] = requests.get(self._page, timeout=5).json()
        except requests.RequestException:  # the master has not started yet, or not wholly
            return set()
        return {item["port"] for item in state["workers"] if item["state"] == "ALIVE"}


@contextmanager
def local_cluster(
    folder: Path,
    workers: int = 2,
    cores: int = 1,
    memory_mb: int = 1024,
    is_pinned: bool = False,
    environment: Mapping[str, str] = _NOTHING,
) -> Iterator[LocalCluster]:
    """A cluster for as long as the block lasts; its workers are registered.

    Args:
        folder: for logs, the bundle, the workers' Python and their files; a second cluster at the
            same time needs another one.
        workers: how many.
        cores: of each worker, so many tasks at once.
        memory_mb: of each worker; its one executor of a job gets all of it as JVM heap. The Python
            processes come on top.
        is_pinned: each worker stays on its own cores of the machine, in turns (Linux): a task's JVM
            and Python then share a core, as they do where there is no other.
        environment: what is set on the workers' machines, such as ``AWS_ENDPOINT_URL``.

    Raises:
        DemoError: a part does not come up; the message names its log.
    """
    with ExitStack() as stack:
        cluster = LocalCluster(folder, cores, memory_mb, is_pinned, environment, stack)
        for _ in range(workers):
            cluster.start_worker()
        yield cluster


def _beside_python(command: str) -> str:
    return str(Path(sys.executable).with_name(command))


def _python_of_workers(folder: Path) -> Path:
    """A Python with the packages of this one. A .pth file adds the folder that they are in, but not
    what .pth files in there add: an editable install of the project.
    """
    if not (python := folder / "bin" / "python").exists():
        venv.create(folder, symlinks=True)
    (own,) = folder.glob("lib/python*/site-packages")
    places = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    (own / "packages.pth").write_text("".join(f"{place}\n" for place in sorted(places)))
    return python
