"""A version's files on disk: fetched, checked against the contract, kept for the next start."""

import json
import shutil
import uuid
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from ingest.schema import EXAMPLE_PAYMENT, check_payment
from jobs.model import ModelRefused, inputs_of, model_inputs, model_threshold
from jobs.model_registry import Registry, VersionReference
from jobs.scoring import ModelVersion, load_archive, zip_folder

DEFAULT_THRESHOLD = 0.5


class ModelCache:
    """The last good version on disk, for a start while the registry is away."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._current = folder / "current.json"

    def load(self) -> ModelVersion | None:
        """The version stored last, or None.

        Raises:
            ModelRefused: what is stored is damaged.
        """
        if not self._current.is_file():
            return None
        try:
            stored = json.loads(self._current.read_text())
            files = self._folder / stored.pop("files")
            reference = VersionReference(**stored)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelRefused(f"{self._current} is damaged: {error!r}") from error
        return read_version(files, reference)

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
        version = read_version(registry.download(reference, arriving), reference)
        self._store(arriving, reference)
        return version

    def _store(self, arriving: Path, reference: VersionReference) -> None:
        # A name of its own: the same version may lie there already, and stays until the switch.
        files = self._folder / f"v{reference.version}-{uuid.uuid4().hex[:8]}"
        arriving.rename(files)
        draft = self._current.with_suffix(".tmp")
        draft.write_text(json.dumps(asdict(reference) | {"files": files.name}))
        draft.replace(self._current)
        for other in self._folder.glob("v*"):
            if other != files:
                shutil.rmtree(other, ignore_errors=True)


def read_version(files: Path, reference: VersionReference) -> ModelVersion:
    """The version in the folder ``files``, tried on an example payment.

    Raises:
        ModelRefused: it does not fit the contract, cannot be loaded, or fails on the example.
    """
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
