"""A version's files on disk: fetched, checked against the contract, kept for the next start."""

import json
import shutil
import threading
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from conf.sections import RegistrySettings
from ingest.schema import EXAMPLE_PAYMENT, check_payment
from jobs.model import ModelRefused, inputs_of, model_inputs, model_threshold
from jobs.model_format import require_format
from jobs.model_registry import Registry, VersionReference
from jobs.scoring import ModelVersion, load_archive, zip_folder

DEFAULT_THRESHOLD = 0.5

_PROVED = "PROVED"


class ModelCache:
    """The version that was fetched last, and the last one before it that scored well: on disk, for
    a start while the registry is away, and for one that fails in the stream.
    """

    def __init__(self, folder: Path, settings: RegistrySettings) -> None:
        self._folder, self._settings = folder, settings
        self._current, self._previous = folder / "current.json", folder / "previous.json"
        self._lock = threading.Lock()

    def load(self) -> ModelVersion | None:
        """The version stored last, or None.

        Raises:
            ModelRefused: what is stored is damaged, or stored as the settings do not allow.
        """
        return self._read(self._current)

    def load_previous(self) -> ModelVersion | None:
        """The version that scored before the one stored last, or None.

        Raises:
            ModelRefused: what is stored is damaged, or stored as the settings do not allow.
        """
        return self._read(self._previous)

    def fetch(self, registry: Registry, reference: VersionReference) -> ModelVersion:
        """Download a version, check it against the contract, make it the stored one.

        Raises:
            ModelRefused: it does not fit; the stored version stays.
            RegistryError: it cannot be had; the stored version stays.
            OSError: it cannot be stored; the stored version stays.
        """
        arriving = self._folder / "arriving"
        shutil.rmtree(arriving, ignore_errors=True)
        arriving.mkdir(parents=True)
        version = read_version(registry.download(reference, arriving), reference, self._settings)
        with self._lock:
            self._store(arriving, reference)
        return version

    def proved(self, version: ModelVersion) -> None:
        """Remember that the stored version scored a micro-batch, if it is ``version``.

        Raises:
            OSError: it cannot be stored.
        """
        with self._lock:
            stored, files = self._stored(self._current)
            if files is not None and _is_same(stored, version):
                (files / _PROVED).touch()

    def forget(self) -> None:
        """Go back to the version before the stored one; without it, to none.

        Raises:
            OSError: it cannot be stored.
        """
        with self._lock:
            if self._previous.is_file():
                self._previous.replace(self._current)
            else:
                self._current.unlink(missing_ok=True)

    def _read(self, entry: Path) -> ModelVersion | None:
        if not entry.is_file():
            return None
        try:
            stored = json.loads(entry.read_text())
            files = self._folder / stored.pop("files")
            reference = VersionReference(**stored)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelRefused(f"{entry} is damaged: {error!r}") from error
        return read_version(files, reference, self._settings)

    def _store(self, arriving: Path, reference: VersionReference) -> None:
        stored, before = self._stored(self._current)
        is_proved = before is not None and (before / _PROVED).is_file()
        # A name of its own: the same version may lie there already, and stays until the switch.
        files = self._folder / f"v{reference.version}-{uuid.uuid4().hex[:8]}"
        if is_proved and _is_same(stored, reference):
            (arriving / _PROVED).touch()
        elif is_proved:
            self._write(self._previous, stored)
        arriving.rename(files)
        self._write(self._current, asdict(reference) | {"files": files.name})
        kept = {files, self._stored(self._previous)[1]}
        for other in self._folder.glob("v*"):
            if other not in kept:
                shutil.rmtree(other, ignore_errors=True)

    def _stored(self, entry: Path) -> tuple[dict[str, Any], Path | None]:
        """What an entry says and where its files are; nothing where it is damaged."""
        try:
            stored = json.loads(entry.read_text())
            return stored, self._folder / stored["files"]
        except (OSError, ValueError, TypeError, KeyError):
            return {}, None

    def _write(self, entry: Path, stored: dict[str, Any]) -> None:
        draft = entry.with_suffix(".tmp")
        draft.write_text(json.dumps(stored))
        draft.replace(entry)


def _is_same(stored: dict[str, Any], version: VersionReference | ModelVersion) -> bool:
    return (stored.get("name"), stored.get("version")) == (version.name, version.version)


def read_version(
    files: Path, reference: VersionReference, settings: RegistrySettings
) -> ModelVersion:
    """The version in the folder ``files``, tried on an example payment.

    Raises:
        ModelRefused: it is stored as the settings do not allow, does not fit the contract, cannot
            be loaded, or fails on the example.
    """
    require_format(files, settings)
    # A model may hold other models among its artifacts.
    model = min(files.rglob("MLmodel"), key=lambda path: len(path.parts), default=None)
    if model is None:
        raise ModelRefused("it has no MLmodel file")
    inputs = model_inputs(model.parent)
    version = ModelVersion(
        name=reference.name,
        version=reference.version,
        threshold=model_threshold(model.parent, reference.tags, DEFAULT_THRESHOLD),
        inputs=inputs,
        archive=zip_folder(model.parent),
    )
    # Two rows: an output of one value, whatever came in, must not pass.
    example = inputs_of(pd.DataFrame([check_payment(EXAMPLE_PAYMENT)] * 2))
    try:
        load_archive(version.archive, inputs).predict(example)
    except ModelRefused as refusal:
        raise ModelRefused(f"tried on an example payment: {refusal}") from refusal
    return version
