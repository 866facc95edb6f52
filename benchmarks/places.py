"""Where the files of a comparison lie, and how they come there."""

import shutil
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.plan import CORES, PROJECT
from benchmarks.workload import Workload
from conf.settings import Settings, load_settings
from ingest.landing import FileLanding

FILE_ROWS = 1_000
"""Rows of a landed file: a micro-batch of n rows takes n / 1,000 files."""


def settings_for(folder: Path, registry: Path, max_files: int | None = None) -> Settings:
    """The settings of ``conf/local.toml`` (and the environment) with every path in ``folder``, and
    the registry's in ``registry``.
    """
    settings = load_settings(PROJECT / "conf" / "local.toml")
    score = {} if max_files is None else {"max_files_per_batch": max_files}
    moved = {
        "landing": {"path": str(folder / "landing")},
        "warehouse": {
            "path": str(folder / "warehouse"),
            "checkpoints": str(folder / "checkpoints"),
        },
        "registry": {
            "tracking_uri": f"sqlite:///{registry}/mlflow.db",
            "artifacts": str(registry / "artifacts"),
            "cache": registry / "cache",
        },
        "score": score,
    }
    return settings.model_copy(
        update={
            name: getattr(settings, name).model_copy(update=values)
            for name, values in moved.items()
        }
    )


@dataclass(frozen=True)
class Place:
    """The folder of a comparison: the landing folder that all systems read, the past that all of
    them remember, and a folder for what each of them writes.
    """

    folder: Path
    registry: Path
    buckets: int

    @property
    def landing(self) -> Path:
        """Files as ingest lands them."""
        return self.folder / "landing"

    @property
    def past(self) -> Path:
        """The past, a Parquet file a bucket: ``jobs.card_memory.KEYED_BLOCK``."""
        return self.folder / "past"

    def shares(self, process: int) -> Path:
        """The landed lines of the cards of one process of the plain consumer."""
        return self.folder / f"share-{process}"

    def of(self, system: str) -> Path:
        """The folder of what a system writes."""
        return self.folder / system

    def settings(self, system: str, max_files: int) -> Settings:
        """The settings of a system that reads ``landing``."""
        settings = settings_for(self.of(system), self.registry, max_files)
        landing = settings.landing.model_copy(update={"path": str(self.landing)})
        return settings.model_copy(update={"landing": landing})

    def begin(self, workload: Workload) -> None:
        """Empty the folder and write the past."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.past.mkdir(parents=True)
        for key, chunks in groupby(workload.past(self.buckets), key=lambda item: item[0]):
            blocks = [chunk.to_bytes() for _, chunk in chunks]
            table = pa.table(
                {
                    "bucket": pa.array([key] * len(blocks), pa.int32()),
                    "block": pa.array(blocks, pa.binary()),
                }
            )
            # Random numbers and times: there is little to compress, and no need to.
            pq.write_table(table, self.past / f"{key:+06d}.parquet", compression="none")

    def land(self, workload: Workload, first: int, rows: int) -> list[str]:
        """Land ``rows`` payments from position ``first`` on, in files of ``FILE_ROWS``, and beside
        them the lines of each process of the plain consumer; returns the names of the files.
        """
        landing = FileLanding(self.landing)
        names = []
        for start in range(first, first + rows, FILE_ROWS):
            lines = workload.lines(start, FILE_ROWS)
            names.append(landing.land(lines, start))
            process = workload.places_of(start, FILE_ROWS, self.buckets) % CORES
            for number in range(CORES):
                share = self.shares(number)
                share.mkdir(exist_ok=True)
                own = [line for line, mine in zip(lines, process == number, strict=True) if mine]
                (share / names[-1]).write_text("".join(f"{line}\n" for line in own))
        return names
