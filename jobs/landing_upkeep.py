"""The upkeep of the landing folder: files whose every payload stands in the tables go."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from conf.addresses import absolute
from conf.sections import MaintainSettings
from conf.settings import Settings
from jobs.checkpoints import files_in_flight
from jobs.envelopes import ENVELOPES, FILES, MOMENT, open_files
from jobs.landed_rows import LandedRows
from jobs.storage import delete_file, files_in, read_bytes
from jobs.task_output import addresses_of

log = logging.getLogger("jobs.maintain")

_FILES_AT_ONCE = 200
_NAMES_TOLD = 3


def clean_landing(settings: Settings, now: datetime) -> None:
    """Archive or delete what landed ``maintain.landing_days`` before ``now`` (UTC) or earlier, as
    the settings say. A file stays, and the log says so, where a payload of it is in no table.
    """
    if settings.landing.path is None or settings.maintain.landing == "keep":
        return
    folder = absolute(settings.landing.path)
    old = old_files(folder, now - timedelta(days=settings.maintain.landing_days))
    gone, left = 0, []
    rows = LandedRows(settings)
    for first in range(0, len(old), _FILES_AT_ONCE):
        names = list(old)[first : first + _FILES_AT_ONCE]
        written = written_files({name: read_bytes(folder, name) for name in names}, rows, now)
        left += [name for name in names if name not in written]
        # Asked behind the look at the tables: what is written meanwhile is in flight by then.
        in_flight = files_in_flight(settings.warehouse.checkpoint("score"))
        for name in names:
            if name in written and in_flight is not None and name not in in_flight:
                remove_landed(folder, name, old[name], settings.maintain)
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


def old_files(folder: str, cutoff: datetime) -> dict[str, float]:
    """Files that landed before ``cutoff``, and when (epoch seconds), the oldest first; never the
    last one by name, nor by time: where ingest goes on, it looks at these.
    """
    moments = {name: at for name, at in files_in(folder).items() if name[0] not in "._"}
    in_order = sorted(moments, key=lambda name: (moments[name], name))  # S3 tells whole seconds
    last = {max(moments, default=None), *in_order[-1:]}
    return {
        name: moments[name]
        for name in in_order
        if moments[name] < cutoff.timestamp() and name not in last
    }


def written_files(files: Mapping[str, bytes], rows: LandedRows, now: datetime) -> set[str]:
    """The names of those of ``files`` whose every line the tables account for. One that ingest did
    not land has no time of receipt to look it up by, and counts as missing.
    """
    opened = {name: _envelopes(name, content, now) for name, content in files.items()}
    envelopes = pa.concat_tables([ENVELOPES.empty_table(), *opened.values()])
    missing = set(addresses_of(rows.unaccounted(envelopes)))
    return {name for name, found in opened.items() if missing.isdisjoint(addresses_of(found))}


def _envelopes(name: str, content: bytes, now: datetime) -> pa.Table:
    columns = {"path": [name], "content": [content], "read_at": [now]}
    types = {"path": pa.string(), "content": pa.binary(), "read_at": MOMENT}
    return open_files(pa.table(columns, pa.schema([(name, types[name]) for name in FILES])))


def remove_landed(folder: str, name: str, moment: float, settings: MaintainSettings) -> None:
    """Delete a landed file, or move it into the archive, to the day (UTC) of the ``moment`` (epoch
    seconds) at which it landed.

    Raises:
        OSError: it cannot be moved or deleted.
    """
    if settings.landing == "archive":
        day = datetime.fromtimestamp(moment, UTC).date().isoformat()
        into = settings.archive / day
        into.mkdir(parents=True, exist_ok=True)
        if "://" not in folder:
            shutil.move(Path(folder, name), into / name)
            return
        part = into / f".{name}"
        part.write_bytes(read_bytes(folder, name))
        part.replace(into / name)
    delete_file(folder, name)
