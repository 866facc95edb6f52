"""The upkeep of the landing folder: files whose every payload stands in the tables go."""

import logging
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from conf.sections import MaintainSettings
from conf.settings import Settings
from jobs.checkpoints import files_in_flight
from jobs.envelopes import ENVELOPES, FILES, MOMENT, open_files
from jobs.landed_rows import LandedRows
from jobs.task_output import addresses_of

log = logging.getLogger("jobs.maintain")

_FILES_AT_ONCE = 200
_NAMES_TOLD = 3


def clean_landing(settings: Settings, now: datetime) -> None:
    """Archive or delete what landed ``maintain.landing_days`` before ``now`` (UTC) or earlier, as
    the settings say. A file stays, and the log says so, where a payload of it is in no table.
    """
    path = settings.landing.path
    if path is None or settings.maintain.landing == "keep":
        return
    if "://" in path:
        log.info("landing: %s is left to the rules of its bucket", path)
        return
    old = old_files(Path(path), now - timedelta(days=settings.maintain.landing_days))
    gone, left = 0, []
    rows = LandedRows(settings)
    for first in range(0, len(old), _FILES_AT_ONCE):
        files = old[first : first + _FILES_AT_ONCE]
        written = written_files(files, rows, now)
        left += [file.name for file in files if file not in written]
        # Asked behind the look at the tables: what is written meanwhile is in flight by then.
        in_flight = files_in_flight(settings.warehouse.checkpoint("score"))
        for file in files:
            if file in written and in_flight is not None and file.name not in in_flight:
                remove_landed(file, settings.maintain)
                gone += 1
    _tell(gone, left, settings.maintain)


def _tell(gone: int, left: Sequence[str], settings: MaintainSettings) -> None:
    if gone:
        told = "deleted" if settings.landing == "delete" else f"moved to {settings.archive}"
        log.info("landing: %d files %s", gone, told)
    if left:
        more = ", …" if len(left) > _NAMES_TOLD else ""
        log.warning(
            "landing: %d files stay, as some of their rows are in no table: %s%s",
            len(left), ", ".join(left[:_NAMES_TOLD]), more,
        )  # fmt: skip


def old_files(folder: Path, cutoff: datetime) -> list[Path]:
    """Files that landed before ``cutoff``, the oldest first; never the last one by name, nor by
    time: where ingest goes on, it looks at these.
    """
    files = [path for path in folder.glob("*") if path.is_file() and path.name[0] not in "._"]
    moments = {path: path.stat().st_mtime for path in files}
    last = {max(files, default=None), max(files, key=moments.__getitem__, default=None)}
    old = [path for path in files if moments[path] < cutoff.timestamp() and path not in last]
    return sorted(old, key=moments.__getitem__)


def written_files(files: Sequence[Path], rows: LandedRows, now: datetime) -> set[Path]:
    """Those of ``files`` whose every line the tables account for. One that ingest did not land has
    no time of receipt to look it up by, and counts as missing.
    """
    opened = {file: _envelopes(file, now) for file in files}
    envelopes = pa.concat_tables([ENVELOPES.empty_table(), *opened.values()])
    missing = set(addresses_of(rows.unaccounted(envelopes)))
    return {file for file, found in opened.items() if missing.isdisjoint(addresses_of(found))}


def _envelopes(file: Path, now: datetime) -> pa.Table:
    columns = {"path": [str(file)], "content": [file.read_bytes()], "read_at": [now]}
    types = {"path": pa.string(), "content": pa.binary(), "read_at": MOMENT}
    return open_files(pa.table(columns, pa.schema([(name, types[name]) for name in FILES])))


def remove_landed(file: Path, settings: MaintainSettings) -> None:
    """Delete a landed file, or move it into the archive, to the day (UTC) on which it landed.

    Raises:
        OSError: it cannot be moved or deleted.
    """
    if settings.landing == "delete":
        file.unlink()
        return
    day = datetime.fromtimestamp(file.stat().st_mtime, UTC).date().isoformat()
    folder = settings.archive / day
    folder.mkdir(parents=True, exist_ok=True)
    shutil.move(file, folder / file.name)
