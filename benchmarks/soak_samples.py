"""What the soak looks at every few seconds: memory, files, batch times, delays, payments."""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import psutil
from deltalake import DeltaTable

from benchmarks.commits import Commit, read_commits
from conf.settings import Settings
from jobs.demo import Part
from jobs.process_tree import family_of
from jobs.received import Received
from jobs.schemas import SCHEMAS

_MB = 1e6
_BATCH = re.compile(r"batch \d+: (\d+) received, .* (\d+\.\d+) s$", re.MULTILINE)
_FULL_COLLECTION = re.compile(r"Pause Full .*->(\d+)M\(")
_WINDOW = timedelta(minutes=1)

Sample = dict[str, float]
"""Values by column; ``minutes`` since the start is one of them."""


class Sampler:
    """Takes samples of the jobs in ``parts`` and of what they write."""

    def __init__(
        self, settings: Settings, parts: Mapping[str, Part], mails: Path, collections: Path
    ) -> None:
        """Look at ``parts``; ``collections`` is the folder given to ``collection_log``."""
        self._settings, self._parts, self._mails = settings, parts, mails
        self._collections = collections
        self._began = time.monotonic()
        self._read = 0  # characters of the score job's log
        self._seen = -1  # commits of `transactions`

    def sample(self) -> Sample:
        """All values as they are now."""
        minutes = (time.monotonic() - self._began) / 60
        now = datetime.now(UTC)
        return {
            "minutes": minutes, **self._memory(), **self._files(), **self._batches(),
            **self._commits(), **self._delays(now), **self._table(),
            "mails": sum(1 for _ in self._mails.glob("*.eml")),
        }  # fmt: skip

    def _memory(self) -> Sample:
        """Resident megabytes of each job; of a Spark job by kind of process."""
        found: Sample = {}
        for name, part in self._parts.items():
            for kind, size in memory_by_kind(part.process.pid).items():
                found[f"{name}_{kind}_mb"] = size / _MB
        for name in ("score", "alert"):
            log = self._collections / f"gc-{self._parts[name].process.pid}.log"
            if live := _FULL_COLLECTION.findall(log.read_text()):
                found[f"{name}_live_mb"] = float(live[-1])
        return found

    def _files(self) -> Sample:
        warehouse, landing = self._settings.warehouse, self._settings.landing.path
        tables = [Path(warehouse.table(name)) for name in SCHEMAS]
        logs = [table / "_delta_log" for table in tables]
        places = {
            "data": _sizes(tables, "*.parquet"),
            "log": _sizes(logs, "*"),
            "transactions_log": _sizes(logs[:1], "*.json"),
            "score_checkpoint": _sizes([Path(warehouse.checkpoint("score"))], "**/*"),
            "alert_checkpoint": _sizes([Path(warehouse.checkpoint("alert"))], "**/*"),
            "source_log": _sizes([Path(warehouse.checkpoint("score"), "sources/0")], "*"),
            "landing": _sizes([Path(landing or "")], "*.jsonl"),
        }
        files = {f"{place}_files": float(len(sizes)) for place, sizes in places.items()}
        return files | {f"{place}_mb": sum(sizes) / _MB for place, sizes in places.items()}

    def _batches(self) -> Sample:
        """Of the micro-batches with payments since the last sample: their number, and seconds."""
        with self._parts["score"].log.open(errors="replace") as log:
            log.seek(self._read)
            text = log.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole.encode())
        found = [float(seconds) for rows, seconds in _BATCH.findall(whole) if int(rows)]
        return {"batches": len(found), **_median_and_max("batch_seconds", found)}

    def _commits(self) -> Sample:
        """Seconds of the score job's commits since the last sample."""
        commits = list(
            read_commits(Path(self._settings.warehouse.table("transactions")), self._seen)
        )
        self._seen = max((commit.version for commit in commits), default=self._seen)
        return _median_and_max("commit_seconds", commit_seconds(commits))

    def _delays(self, now: datetime) -> Sample:
        """Receipt to score of what was received in the last minute, and payments a second."""
        received = Received(self._settings.warehouse, "transactions", "ingested_at")
        rows = received.rows(now - _WINDOW, now, ["ingested_at", "scored_at"])
        told: Sample = {"payments_per_second": len(rows) / _WINDOW.total_seconds()}
        if rows.empty:
            return told
        delays = (rows["scored_at"] - rows["ingested_at"]).dt.total_seconds()
        p50, p99 = delays.quantile([0.5, 0.99])
        return told | {"delay_p50": float(p50), "delay_p99": float(p99)}

    def _table(self) -> Sample:
        """Payments in all, and how long it takes to open the table (its log is read)."""
        started = time.perf_counter()
        table = DeltaTable(self._settings.warehouse.table("transactions"))
        seconds = time.perf_counter() - started
        return {"payments": table.count(), "open_seconds": seconds, "version": table.version()}


def collection_log(folder: Path) -> dict[str, str]:
    """The environment in which each JVM tells of its collections in a file in ``folder``."""
    return {"JDK_JAVA_OPTIONS": f"-Xlog:gc:file={folder}/gc-%p.log"}


def commit_seconds(commits: Iterable[Commit]) -> list[float]:
    """From the end of the last data file to the end of the commit that names it: tasks report,
    the driver collects, delta-rs writes. Of micro-batches' commits alone.
    """
    return [
        commit.written - max(file["modificationTime"] for file in commit.added) / 1000
        for commit in commits
        if commit.added and any("txn" in action for action in commit.actions)
    ]


def _median_and_max(name: str, values: Sequence[float]) -> Sample:
    return {name: median(values), f"{name}_max": max(values)} if values else {}


def memory_by_kind(pid: int) -> dict[str, int]:
    """Resident bytes of a process and its children: `jvm`, `workers` (Spark's Python workers and
    the daemon that forks them) and `python` (anything else).
    """
    found: dict[str, int] = {}
    for process in family_of(pid):
        try:
            kind = _kind(process.name(), process.cmdline())
            found[kind] = found.get(kind, 0) + process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return found


def _kind(name: str, command: Sequence[str]) -> str:
    if name == "java":
        return "jvm"
    return "workers" if "pyspark.daemon" in command else "python"


def _sizes(folders: Sequence[Path], pattern: str) -> list[int]:
    """The bytes of each file; one that goes meanwhile is left out."""
    found = []
    for path in (path for folder in folders for path in folder.glob(pattern)):
        try:
            if path.is_file():
                found.append(path.stat().st_size)
        except FileNotFoundError:
            continue
    return found
